//! Brings EcoRoute into Zed: finds a runnable `ecoroute`, tells Zed how to start its MCP server, and serves the slash
//! command of older Zed. What is recommended, and why, is the program's to say: nothing here knows a model or a gram.

mod answer;
mod launch;
mod settings;

use std::collections::HashMap;

use launch::Launch;
use settings::Settings;
use zed_extension_api::{
    self as zed, Command, ContextServerConfiguration, ContextServerId, Project, Result, SlashCommand,
    SlashCommandArgumentCompletion, SlashCommandOutput, Worktree, settings::ContextServerSettings,
};

const SERVER: &str = "ecoroute";
const SLASH_COMMAND: &str = "eco";

struct EcoRoute {
    /// By worktree, what its project's server was last started with, so that `/eco` there counts with the same settings.
    launches: HashMap<u64, Launch>,
}

impl zed::Extension for EcoRoute {
    fn new() -> Self {
        let launches = HashMap::new();
        Self { launches }
    }

    fn context_server_command(&mut self, id: &ContextServerId, project: &Project) -> Result<Command> {
        known(SERVER, id.as_ref())?;
        let settings = ContextServerSettings::for_project(SERVER, project)?.settings;
        let launch = Launch::find(&Settings::read(settings)?, launch::locate)?;
        let command = launch.server();
        for worktree in project.worktree_ids() {
            self.launches.insert(worktree, launch.clone());
        }
        Ok(command)
    }

    fn context_server_configuration(
        &mut self,
        id: &ContextServerId,
        _project: &Project,
    ) -> Result<Option<ContextServerConfiguration>> {
        known(SERVER, id.as_ref())?;
        Ok(Some(ContextServerConfiguration {
            installation_instructions: include_str!("../configuration/installation_instructions.md").to_string(),
            default_settings: include_str!("../configuration/default_settings.jsonc").to_string(),
            settings_schema: settings::schema(),
        }))
    }

    fn run_slash_command(
        &self,
        command: SlashCommand,
        words: Vec<String>,
        worktree: Option<&Worktree>,
    ) -> Result<SlashCommandOutput> {
        known(SLASH_COMMAND, &command.name)?;
        let task = words.join(" ");
        if task.trim().is_empty() {
            return Err(format!("say what is to be done: /{SLASH_COMMAND} fix the failing test"));
        }
        let (launch, environment) = match worktree {
            Some(worktree) => {
                let launch = match self.launches.get(&worktree.id()) {
                    Some(launch) => launch.clone(),
                    None => Launch::find(&Settings::default(), |name| Ok(worktree.which(name)))?,
                };
                (launch, worktree.shell_env())
            }
            None => (Launch::find(&Settings::default(), launch::locate)?, Vec::new()),
        };
        let (os, _) = zed::current_platform();
        let output = launch.recommend(os, &task, environment).output();
        answer::read(output.map_err(|problem| format!("ecoroute could not be run: {problem}"))?)
    }

    fn complete_slash_command_argument(
        &self,
        command: SlashCommand,
        words: Vec<String>,
    ) -> Result<Vec<SlashCommandArgumentCompletion>> {
        known(SLASH_COMMAND, &command.name)?;
        Ok(answer::openings(&words))
    }
}

fn known(ours: &str, asked: &str) -> Result<()> {
    if asked == ours { Ok(()) } else { Err(format!("EcoRoute knows `{ours}` alone, not `{asked}`")) }
}

zed::register_extension!(EcoRoute);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_than_ours_is_refused_and_named() {
        assert_eq!(known("eco", "eco"), Ok(()));
        assert_eq!(known("eco", "echo"), Err("EcoRoute knows `eco` alone, not `echo`".to_string()));
    }
}

//! What a person may set for the server, checked before anything is started with it.

use schemars::JsonSchema;
use serde::Deserialize;
use zed_extension_api::{EnvVars, Result, serde_json};

/// Settings of EcoRoute's server, under `context_servers.ecoroute.settings`.
#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Grid to count with when none is asked for: a country, a state or a cloud region. `ecoroute regions` lists them.
    #[schemars(length(min = 1))]
    pub region: Option<String>,
    /// The only models to consider, as `ecoroute models` names them. Left out: every model is considered.
    #[schemars(length(min = 1))]
    pub candidates: Option<Vec<String>>,
    /// Absolute path of the `ecoroute` to run. Left out: `ecoroute` on the PATH, else `uvx`.
    #[schemars(length(min = 1))]
    pub command: Option<String>,
}

impl Settings {
    /// Reads what Zed hands over; nothing set is no error, and nothing wrong is passed over.
    pub fn read(value: Option<serde_json::Value>) -> Result<Self> {
        let settings: Self = match value {
            None | Some(serde_json::Value::Null) => Self::default(),
            Some(value) => serde_json::from_value(value)
                .map_err(|problem| wrong("context_servers.ecoroute.settings", &problem.to_string()))?,
        };
        if settings.region.as_deref().is_some_and(is_blank) {
            return Err(wrong("region", "it is empty; name a grid, or leave it out"));
        }
        if let Some(candidates) = &settings.candidates {
            if candidates.is_empty() {
                return Err(wrong("candidates", "the list is empty; name a model, or leave it out"));
            }
            if let Some(name) = candidates.iter().find(|name| is_blank(name) || name.contains(',')) {
                return Err(wrong("candidates", &format!("`{name}` is no model's name; write one name a string")));
            }
        }
        if let Some(command) = settings.command.as_deref().filter(|path| !is_absolute(path)) {
            // Zed would look for a bare name in this extension's own folder.
            return Err(wrong("command", &format!("`{command}` is no absolute path; give one, or leave it out")));
        }
        Ok(settings)
    }

    /// The settings as the environment that `ecoroute` reads.
    pub fn environment(&self) -> EnvVars {
        let candidates = self.candidates.as_ref().map(|names| names.join(","));
        [("ECOROUTE_REGION", &self.region), ("ECOROUTE_CANDIDATES", &candidates)]
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_string(), value.clone()?)))
            .collect()
    }
}

/// JSON schema by which Zed checks the settings while they are edited.
pub fn schema() -> String {
    schemars::schema_for!(Settings).as_value().to_string()
}

/// Absolute on any platform: a wasm module's own idea of a path is that of Unix.
pub fn is_absolute(path: &str) -> bool {
    let drive = |bytes: &[u8]| bytes.len() > 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':';
    path.starts_with(['/', '\\']) || (drive(path.as_bytes()) && path[2..].starts_with(['/', '\\']))
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn wrong(what: &str, why: &str) -> String {
    format!("EcoRoute's settings: {what}: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(value: serde_json::Value) -> String {
        Settings::read(Some(value)).unwrap_err()
    }

    #[test]
    fn nothing_set_is_the_default() {
        for value in [None, Some(json!(null)), Some(json!({})), Some(json!({"region": null}))] {
            let settings = Settings::read(value).unwrap();
            assert_eq!(settings, Settings::default());
            assert_eq!(settings.environment(), []);
        }
    }

    #[test]
    fn settings_become_the_environment_of_the_program() {
        let given = json!({"region": "SWE", "candidates": ["one", "two b"], "command": "/opt/ecoroute"});
        let settings = Settings::read(Some(given)).unwrap();
        assert_eq!(settings.command.as_deref(), Some("/opt/ecoroute"));
        let pairs = [("ECOROUTE_REGION", "SWE"), ("ECOROUTE_CANDIDATES", "one,two b")];
        assert_eq!(settings.environment(), pairs.map(|(name, value)| (name.to_string(), value.to_string())));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_repair() {
        assert_eq!(
            refusal(json!({"region": " "})),
            "EcoRoute's settings: region: it is empty; name a grid, or leave it out"
        );
        assert_eq!(
            refusal(json!({"candidates": []})),
            "EcoRoute's settings: candidates: the list is empty; name a model, or leave it out"
        );
        assert_eq!(
            refusal(json!({"candidates": ["one,two"]})),
            "EcoRoute's settings: candidates: `one,two` is no model's name; write one name a string"
        );
        assert_eq!(
            refusal(json!({"command": "ecoroute"})),
            "EcoRoute's settings: command: `ecoroute` is no absolute path; give one, or leave it out"
        );
        assert!(refusal(json!({"regoin": "SWE"})).contains("unknown field `regoin`, expected one of `region`"));
        assert!(refusal(json!({"candidates": "one"})).contains("expected a sequence"));
    }

    #[test]
    fn absolute_paths_of_every_platform_are_known() {
        for path in ["/a", r"C:\a", "c:/a", r"\\host\share\a"] {
            assert!(is_absolute(path), "{path}");
        }
        for path in ["", "a", "./a", "~/a", "C:", "C:a", "ä:/"] {
            assert!(!is_absolute(path), "{path}");
        }
    }

    #[test]
    fn the_schema_holds_the_three_settings_and_no_other() {
        let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
        let mut names: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
        names.sort();
        assert_eq!(names, ["candidates", "command", "region"]);
        assert_eq!(schema["additionalProperties"], json!(false));
    }
}

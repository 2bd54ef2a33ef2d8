//! Where a runnable `ecoroute` is, and the commands that run it.

use zed_extension_api::{self as zed, Command, EnvVars, Os, Result, process::Output};

use crate::settings::{Settings, is_absolute};

/// What `uvx` is told before the program's own arguments: the package has another name than its command.
const BY_UVX: [&str; 3] = ["--from", "ecoroute-mcp", "ecoroute"];

const NOT_FOUND: &str = "`ecoroute` was not found. Install it with `pipx install ecoroute-mcp`, or install uv \
    (https://docs.astral.sh/uv), which can fetch it; if it is installed off Zed's PATH, give its absolute path as \
    `context_servers.ecoroute.settings.command`. Then restart Zed.";

/// An answer takes a fraction of a second, but `uvx` has to fetch the package first.
pub const DEADLINE_S: u32 = 60;

/// What [`DEADLINE`] ends with when the time is up; `ecoroute` itself never does.
pub const TIMED_OUT: i32 = 124;

/// Runs `$2…`, for `$1` seconds at most. Zed's API waits for a process however long it takes, and not every system has
/// `timeout`, but each has this shell. The clock holds none of the pipes that Zed reads to their end.
const DEADLINE: &str = r#"limit=$1; shift
trap 'kill "$job"; exit 124' ALRM
"$@" & job=$!
(sleep "$limit"; kill -s ALRM $$) >/dev/null 2>&1 & clock=$!
wait "$job"; status=$?
kill "$clock"
exit "$status""#;

/// How to run `ecoroute` here: the program, what it needs before a subcommand, and the settings as its environment.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    program: String,
    arguments: Vec<String>,
    environment: EnvVars,
}

impl Launch {
    /// The command of the settings, else `ecoroute` on the PATH, else `uvx`; `locate` says where a program is, if it is.
    pub fn find(settings: &Settings, locate: impl Fn(&str) -> Result<Option<String>>) -> Result<Self> {
        let own = match &settings.command {
            Some(path) => Some(path.clone()),
            None => locate("ecoroute")?,
        };
        let (program, arguments) = match own {
            Some(program) => (program, Vec::new()),
            None => (locate("uvx")?.ok_or(NOT_FOUND)?, BY_UVX.map(str::to_string).to_vec()),
        };
        Ok(Self { program, arguments, environment: settings.environment() })
    }

    /// Serves MCP over stdio; Zed starts it.
    pub fn server(&self) -> Command {
        Command::new(&self.program).args(&self.arguments).arg("mcp").envs(self.environment.clone())
    }

    /// Prints the recommendation for `task`, on Unix within [`DEADLINE_S`]; Windows has no command to hold it to that.
    pub fn recommend(&self, os: Os, task: &str, shell_environment: EnvVars) -> Command {
        let command = match os {
            Os::Windows => Command::new(&self.program),
            Os::Mac | Os::Linux => {
                Command::new("sh").args(["-c", DEADLINE, "sh", &DEADLINE_S.to_string()]).arg(&self.program)
            }
        };
        command
            .args(&self.arguments)
            .args(["recommend", "--", task])
            .envs(shell_environment)
            .envs(self.environment.clone())
            .env("PYTHONUTF8", "1") // else Python prints to a pipe in the code page of Windows
    }
}

/// Asks the system where a program is: the API offers no PATH for a server's command.
pub fn locate(name: &str) -> Result<Option<String>> {
    let (os, _) = zed::current_platform();
    located(locating(os, name).output()?)
}

/// `extension.toml` has to grant each of these word for word.
fn locating(os: Os, name: &str) -> Command {
    match os {
        Os::Windows => Command::new("where.exe").arg(format!("$PATH:{name}")),
        Os::Mac | Os::Linux => Command::new("sh").args(["-c", &format!("command -v {name}")]),
    }
}

/// Neither asker has a word for "not found": they end with 1 or 127. Every other end is an error.
fn located(output: Output) -> Result<Option<String>> {
    match output.status {
        Some(0) => {
            let paths = String::from_utf8(output.stdout).map_err(|_| "a path on the PATH is not UTF-8")?;
            Ok(paths.lines().next().filter(|path| is_absolute(path)).map(str::to_string))
        }
        Some(1 | 127) => Ok(None),
        _ => Err(format!("the PATH could not be searched: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(command: Option<&str>) -> Settings {
        let command = command.map(str::to_string);
        Settings { region: Some("SWE".to_string()), command, ..Settings::default() }
    }

    fn installed<'a>(names: &'a [&str]) -> impl Fn(&str) -> Result<Option<String>> + 'a {
        |name| Ok(names.contains(&name).then(|| format!("/bin/{name}")))
    }

    fn found(command: Option<&str>, names: &[&str]) -> Command {
        Launch::find(&settings(command), installed(names)).unwrap().server()
    }

    fn output(status: Option<i32>, stdout: &[u8], stderr: &[u8]) -> Output {
        Output { status, stdout: stdout.to_vec(), stderr: stderr.to_vec() }
    }

    #[test]
    fn the_settings_come_before_the_path_and_the_path_before_uvx() {
        let set = found(Some("/opt/eco"), &["ecoroute", "uvx"]);
        assert_eq!((set.command.as_str(), set.args), ("/opt/eco", vec!["mcp".to_string()]));
        let on_path = found(None, &["ecoroute", "uvx"]);
        assert_eq!((on_path.command.as_str(), on_path.args), ("/bin/ecoroute", vec!["mcp".to_string()]));
        let fetched = found(None, &["uvx"]);
        assert_eq!(fetched.command, "/bin/uvx");
        assert_eq!(fetched.args, ["--from", "ecoroute-mcp", "ecoroute", "mcp"]);
        assert_eq!(fetched.env, [("ECOROUTE_REGION".to_string(), "SWE".to_string())]);
    }

    #[test]
    fn with_nothing_to_run_the_error_says_how_to_get_it() {
        assert_eq!(Launch::find(&settings(None), installed(&[])), Err(NOT_FOUND.to_string()));
    }

    #[test]
    fn a_search_that_fails_is_not_taken_for_a_program_that_is_missing() {
        let denied = |_: &str| Err("not granted".to_string());
        assert_eq!(Launch::find(&settings(None), denied), Err("not granted".to_string()));
        assert_eq!(
            located(output(None, b"", b" out of memory\n")),
            Err("the PATH could not be searched: out of memory".to_string())
        );
        assert!(located(output(Some(0), b"/\xff\n", b"")).is_err());
    }

    #[test]
    fn the_first_absolute_path_is_taken() {
        let windows = output(Some(0), b"C:\\bin\\uvx.exe\r\nC:\\other\\uvx.exe\r\n", b"");
        assert_eq!(located(windows), Ok(Some(r"C:\bin\uvx.exe".to_string())));
        assert_eq!(located(output(Some(0), b"bin/uvx\n", b"")), Ok(None));
        assert_eq!(located(output(Some(127), b"", b"")), Ok(None));
        assert_eq!(located(output(Some(1), b"", b"INFO: Could not find files")), Ok(None));
    }

    #[test]
    fn windows_is_asked_and_run_in_its_own_way() {
        let asked = locating(Os::Windows, "uvx");
        assert_eq!((asked.command.as_str(), asked.args), ("where.exe", vec!["$PATH:uvx".to_string()]));
        let launch = Launch::find(&settings(None), installed(&["uvx"])).unwrap();
        let run = launch.recommend(Os::Windows, "-v", Vec::new());
        assert_eq!(run.command, "/bin/uvx");
        assert_eq!(run.args, ["--from", "ecoroute-mcp", "ecoroute", "recommend", "--", "-v"]);
    }

    #[test]
    fn the_settings_beat_the_shell_and_the_task_stays_one_argument() {
        let launch = Launch::find(&settings(None), installed(&["ecoroute"])).unwrap();
        let shell = vec![("ECOROUTE_REGION".to_string(), "USA".to_string())];
        let run = launch.recommend(Os::Mac, "a; $(b) \"c\"", shell);
        assert_eq!((run.command.as_str(), run.args[1].as_str()), ("sh", DEADLINE));
        assert_eq!(run.args[3..], ["60", "/bin/ecoroute", "recommend", "--", "a; $(b) \"c\""]);
        let last = run.env.iter().rev().find(|(name, _)| name == "ECOROUTE_REGION");
        assert_eq!(last.map(|(_, value)| value.as_str()), Some("SWE"));
    }
}

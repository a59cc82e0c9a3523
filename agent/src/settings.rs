//! What the command line, the environment and the configuration file say together, in this order
//! of precedence.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use log::LevelFilter;

use crate::cli::{self, Common};
use crate::config::{self, Config};
use crate::exit::Failure;

const DEFAULT_CONFIG: &str = "/etc/tether/agent.toml";
const DEFAULT_DATA_DIR: &str = "/var/lib/tether-agent";
const USER_DATA_DIR: &str = ".local/share/tether-agent";

/// Everything a command needs to know before it starts.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) data_dir: PathBuf,
    pub(crate) log_level: LevelFilter,
}

/// Where environment variables come from.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The process's environment; an empty variable is as good as none.
pub(crate) fn process_env(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Settles what to do; all that is wrong is said at once.
pub(crate) fn load(common: &Common, env: Env<'_>) -> Result<Settings, Failure> {
    let (config, mut problems) = read_config(common, env);
    let log_level = match log_level(common, env, &config) {
        Ok(level) => level,
        Err(problem) => {
            problems.push(problem);
            LevelFilter::Info
        }
    };
    let data_dir = data_dir(common, env, &config);
    match data_dir {
        Some(data_dir) if problems.is_empty() => Ok(Settings {
            config,
            data_dir,
            log_level,
        }),
        Some(_) => Err(Failure::usage(problems.join("\n"))),
        None => {
            problems.push("no folder for keys and certificates: set data_dir or HOME".to_owned());
            Err(Failure::usage(problems.join("\n")))
        }
    }
}

fn read_config(common: &Common, env: Env<'_>) -> (Config, Vec<String>) {
    let named = common
        .config
        .clone()
        .or_else(|| env("TETHER_CONFIG").map(PathBuf::from));
    let path = named
        .as_deref()
        .unwrap_or_else(|| Path::new(DEFAULT_CONFIG));
    match std::fs::read_to_string(path) {
        Ok(text) => match config::parse(&text) {
            Ok(config) => (config, Vec::new()),
            Err(problems) => {
                let said = problems
                    .iter()
                    .map(|problem| problem.within(path))
                    .collect();
                (Config::default(), said)
            }
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
            (Config::default(), Vec::new())
        }
        Err(error) => (
            Config::default(),
            vec![format!("{}: cannot read it: {error}", path.display())],
        ),
    }
}

fn log_level(common: &Common, env: Env<'_>, config: &Config) -> Result<LevelFilter, String> {
    let from_env = env("TETHER_LOG")
        .map(|text| {
            cli::level(&text.to_string_lossy()).map_err(|error| format!("TETHER_LOG: {error}"))
        })
        .transpose()?;
    Ok(common
        .log_level
        .or(from_env)
        .or(config.log_level)
        .unwrap_or(LevelFilter::Info))
}

fn data_dir(common: &Common, env: Env<'_>, config: &Config) -> Option<PathBuf> {
    common
        .data_dir
        .clone()
        .or_else(|| env("TETHER_DATA_DIR").map(PathBuf::from))
        .or_else(|| config.data_dir.clone())
        .or_else(|| default_data_dir(env))
}

fn default_data_dir(env: Env<'_>) -> Option<PathBuf> {
    if crate::machine::is_root() {
        return Some(DEFAULT_DATA_DIR.into());
    }
    env("HOME").map(|home| Path::new(&home).join(USER_DATA_DIR))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn config(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn at(file: &tempfile::NamedTempFile) -> Common {
        Common {
            config: Some(file.path().into()),
            ..Common::default()
        }
    }

    const NOTHING: Env<'static> = &|_| None;

    #[test]
    fn the_command_line_outweighs_the_environment_and_that_the_file() {
        let file = config("data_dir = \"/file\"\nlog_level = \"warn\"");
        let settings = load(&at(&file), NOTHING).unwrap();
        assert_eq!(settings.data_dir, Path::new("/file"));
        assert_eq!(settings.log_level, LevelFilter::Warn);

        let env = |name: &str| match name {
            "TETHER_DATA_DIR" => Some("/env".into()),
            "TETHER_LOG" => Some("error".into()),
            _ => None,
        };
        let settings = load(&at(&file), &env).unwrap();
        assert_eq!(settings.data_dir, Path::new("/env"));
        assert_eq!(settings.log_level, LevelFilter::Error);

        let typed = Common {
            data_dir: Some("/typed".into()),
            log_level: Some(LevelFilter::Trace),
            ..at(&file)
        };
        let settings = load(&typed, &env).unwrap();
        assert_eq!(settings.data_dir, Path::new("/typed"));
        assert_eq!(settings.log_level, LevelFilter::Trace);
    }

    #[test]
    fn a_named_file_must_exist() {
        let typed = Common {
            config: Some("/nonexistent/agent.toml".into()),
            ..Common::default()
        };
        let env = |name: &str| (name == "TETHER_CONFIG").then(|| "/nonexistent/agent.toml".into());
        for result in [load(&typed, NOTHING), load(&Common::default(), &env)] {
            let failure = result.unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(
                failure
                    .error
                    .to_string()
                    .contains("/nonexistent/agent.toml")
            );
        }
    }

    #[test]
    fn problems_name_the_file_and_come_together() {
        let file = config("colour = 1\nnode_name = 2\n");
        let env = |name: &str| (name == "TETHER_LOG").then(|| "loud".into());
        let text = load(&at(&file), &env).unwrap_err().error.to_string();
        let path = file.path().display();
        assert!(text.contains(&format!("{path}:1: colour: ")), "{text}");
        assert!(text.contains(&format!("{path}:2: node_name: ")), "{text}");
        assert!(text.contains("TETHER_LOG: expected"), "{text}");
    }
}

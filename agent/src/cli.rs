//! The command line, as typed. What it means together with the environment and the configuration
//! file is settled in [`crate::settings`].

pub(crate) mod help;

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use lexopt::{Arg, Parser, ValueExt};
use log::LevelFilter;
use protocol::identity::CaPin;

use crate::address::Address;
use crate::exit::Failure;
use crate::status::Format;
use crate::token::Token;
use help::Topic;

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Join(Join),
    Start(Start),
    Status(Status),
    Restart(Common),
    Version,
    Help(Topic),
}

/// Options that several commands share.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Common {
    pub(crate) config: Option<PathBuf>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) log_level: Option<LevelFilter>,
}

/// `tether-agent join`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Join {
    pub(crate) common: Common,
    pub(crate) cluster: Option<Address>,
    pub(crate) token: Option<Token>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) ca_pin: Option<CaPin>,
    pub(crate) node_name: Option<String>,
    pub(crate) again: Again,
}

/// Whether a device that has joined may join anew.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    #[default]
    Refuse,
    Force,
}

/// `tether-agent start`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) common: Common,
    pub(crate) mode: Mode,
}

/// Whether to run, or only to look whether it would.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Run,
    Check,
}

/// `tether-agent status`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) common: Common,
    pub(crate) format: Format,
}

/// Reads the arguments behind the program's name.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, Failure> {
    let mut parser = Parser::from_args(args);
    let mut topic = Topic::Program;
    read(&mut parser, &mut topic)
        .map_err(|error| Failure::usage(format!("{error}\nTry: {}", topic.invocation())))
}

fn read(parser: &mut Parser, topic: &mut Topic) -> Result<Command, lexopt::Error> {
    let name = match parser.next()? {
        None => return Err("a command is missing: join, start, status, restart or version".into()),
        Some(Arg::Short('h') | Arg::Long("help")) => return Ok(Command::Help(*topic)),
        Some(Arg::Short('V') | Arg::Long("version")) => return Ok(Command::Version),
        Some(Arg::Value(name)) => name.string()?,
        Some(other) => return Err(other.unexpected()),
    };
    *topic = name.parse()?;
    match *topic {
        Topic::Program => help_on(parser),
        Topic::Join => join(parser),
        Topic::Start => start(parser),
        Topic::Status => status(parser),
        Topic::Restart => restart(parser),
        Topic::Version => version(parser),
    }
}

fn help_on(parser: &mut Parser) -> Result<Command, lexopt::Error> {
    match parser.next()? {
        None => Ok(Command::Help(Topic::Program)),
        Some(Arg::Value(name)) => Ok(Command::Help(name.string()?.parse()?)),
        Some(other) => Err(other.unexpected()),
    }
}

fn join(parser: &mut Parser) -> Result<Command, lexopt::Error> {
    let mut join = Join::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("cluster") => join.cluster = Some(parsed(parser)?),
            Arg::Long("token") => join.token = Some(Token::new(parser.value()?.string()?)),
            Arg::Long("token-file") => join.token_file = Some(parser.value()?.into()),
            Arg::Long("ca-pin") => join.ca_pin = Some(parsed(parser)?),
            Arg::Long("node-name") => join.node_name = Some(node_name(parser)?),
            Arg::Long("force") => join.again = Again::Force,
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(Topic::Join)),
            other => {
                let shared = Shared::of(other)?;
                join.common.take(shared, parser)?;
            }
        }
    }
    if join.token.is_some() && join.token_file.is_some() {
        return Err("--token and --token-file exclude each other".into());
    }
    Ok(Command::Join(join))
}

fn start(parser: &mut Parser) -> Result<Command, lexopt::Error> {
    let mut start = Start::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("check") => start.mode = Mode::Check,
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(Topic::Start)),
            other => {
                let shared = Shared::of(other)?;
                start.common.take(shared, parser)?;
            }
        }
    }
    Ok(Command::Start(start))
}

fn status(parser: &mut Parser) -> Result<Command, lexopt::Error> {
    let mut status = Status::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Short('f') | Arg::Long("format") => status.format = parsed(parser)?,
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(Topic::Status)),
            other => {
                let shared = Shared::of(other)?;
                status.common.take(shared, parser)?;
            }
        }
    }
    Ok(Command::Status(status))
}

fn restart(parser: &mut Parser) -> Result<Command, lexopt::Error> {
    let mut common = Common::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(Topic::Restart)),
            other => {
                let shared = Shared::of(other)?;
                common.take(shared, parser)?;
            }
        }
    }
    Ok(Command::Restart(common))
}

fn version(parser: &mut Parser) -> Result<Command, lexopt::Error> {
    match parser.next()? {
        None => Ok(Command::Version),
        Some(Arg::Short('h') | Arg::Long("help")) => Ok(Command::Help(Topic::Version)),
        Some(other) => Err(other.unexpected()),
    }
}

/// An option that several commands share, as typed.
enum Shared {
    Config,
    DataDir,
    LogLevel,
}

impl Shared {
    fn of(arg: Arg<'_>) -> Result<Self, lexopt::Error> {
        match arg {
            Arg::Short('c') | Arg::Long("config") => Ok(Self::Config),
            Arg::Long("data-dir") => Ok(Self::DataDir),
            Arg::Long("log-level") => Ok(Self::LogLevel),
            other => Err(other.unexpected()),
        }
    }
}

impl Common {
    fn take(&mut self, option: Shared, parser: &mut Parser) -> Result<(), lexopt::Error> {
        let value = parser.value()?;
        match option {
            Shared::Config => self.config = Some(value.into()),
            Shared::DataDir => self.data_dir = Some(value.into()),
            Shared::LogLevel => self.log_level = Some(value.parse_with(level)?),
        }
        Ok(())
    }
}

/// Reads a log level.
pub(crate) fn level(text: &str) -> Result<LevelFilter, &'static str> {
    text.parse()
        .map_err(|_| "expected error, warn, info, debug, trace or off")
}

fn node_name(parser: &mut Parser) -> Result<String, lexopt::Error> {
    let name = parser.value()?.string()?;
    crate::machine::check_node_name(&name)?;
    Ok(name)
}

fn parsed<T>(parser: &mut Parser) -> Result<T, lexopt::Error>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    parser.value()?.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, Failure> {
        super::parse(line.split_whitespace().map(OsString::from))
    }

    fn complaint(line: &str) -> String {
        parse(line).unwrap_err().error.to_string()
    }

    #[test]
    fn join_takes_all_it_needs() {
        let pin = format!("sha256:{}", "a5".repeat(32));
        let line = format!(
            "join --cluster lab:443 --token=secret --ca-pin {pin} --node-name gw-1 --data-dir /d --force"
        );
        let Command::Join(join) = parse(&line).unwrap() else {
            panic!("not join")
        };
        assert_eq!(join.cluster, Some("lab:443".parse().unwrap()));
        assert_eq!(join.token, Some(Token::new("secret".into())));
        assert_eq!(join.ca_pin, Some(CaPin([0xa5; 32])));
        assert_eq!(join.node_name.as_deref(), Some("gw-1"));
        assert_eq!(join.common.data_dir, Some("/d".into()));
        assert_eq!(join.again, Again::Force);
    }

    #[test]
    fn start_and_status_take_theirs() {
        let Command::Start(start) = parse("start --check -c /x --log-level debug").unwrap() else {
            panic!("not start")
        };
        assert_eq!(start.mode, Mode::Check);
        assert_eq!(start.common.config, Some("/x".into()));
        assert_eq!(start.common.log_level, Some(LevelFilter::Debug));
        let Command::Status(status) = parse("status --format json").unwrap() else {
            panic!("not status")
        };
        assert_eq!(status.format, Format::Json);
        let Command::Restart(common) = parse("restart --data-dir /d").unwrap() else {
            panic!("not restart")
        };
        assert_eq!(common.data_dir, Some("/d".into()));
    }

    #[test]
    fn help_and_version_are_found_everywhere() {
        assert_eq!(parse("--help").unwrap(), Command::Help(Topic::Program));
        assert_eq!(parse("help join").unwrap(), Command::Help(Topic::Join));
        assert_eq!(parse("status -h").unwrap(), Command::Help(Topic::Status));
        assert_eq!(parse("-V").unwrap(), Command::Version);
        assert_eq!(parse("version").unwrap(), Command::Version);
    }

    #[test]
    fn wrong_usage_exits_2_and_says_where_help_is() {
        for line in [
            "",
            "dance",
            "--dance",
            "start --dance",
            "start now",
            "join --cluster",
            "join --cluster a:b:c",
            "join --ca-pin md5:00",
            "join --node-name -x",
            "join --token a --token-file b",
            "status --format xml",
            "restart now",
            "start --log-level loud",
            "version 2",
        ] {
            let failure = parse(line).unwrap_err();
            assert_eq!(failure.exit, crate::exit::Exit::Usage, "{line}");
            assert!(failure.error.to_string().contains("--help"), "{line}");
        }
        assert!(complaint("join --dance").contains("tether-agent join --help"));
        assert!(complaint("join --ca-pin x").contains("sha256:"));
    }

    #[test]
    fn a_token_does_not_show_itself() {
        let shown = format!("{:?}", parse("join --token s3cret").unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}

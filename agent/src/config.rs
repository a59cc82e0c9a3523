//! The configuration file. Every error names line and key and says what was expected; all are
//! reported at once, and an unknown key is an error.

mod labels;
mod period;
mod reader;
pub(crate) mod resume;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::LevelFilter;
use protocol::identity::CaPin;
use protocol::resume::Limits;
use protocol::transport::{Kind, Policy};

use crate::address::Address;
use crate::link::quic::Offload;
use crate::link::roam::Thrift;
use crate::proxy;
use reader::{Reader, Section};

/// What the file says; all of it is optional.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) cluster: Option<Address>,
    pub(crate) ca_pin: Option<CaPin>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) node_name: Option<String>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) log_level: Option<LevelFilter>,
    pub(crate) udp_offload: Option<Offload>,
    pub(crate) keepalive: Option<Thrift>,
    pub(crate) transport: Option<Policy>,
    pub(crate) proxy: proxy::Setting,
    /// What sessions that outlive their links may take.
    pub(crate) resume: Option<Limits>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) command_labels: Vec<CommandLabel>,
}

/// A label whose value is what a command prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandLabel {
    pub(crate) name: String,
    /// Program and arguments; no shell is involved.
    pub(crate) command: Vec<String>,
    pub(crate) period: Duration,
}

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Counts from 1.
    pub(crate) line: usize,
    /// The key with the tables around it; empty if the text is no TOML.
    pub(crate) key: String,
    pub(crate) text: String,
}

impl Problem {
    /// The problem as one line, with the file it is in.
    pub(crate) fn within(&self, file: &Path) -> String {
        format!("{}:{self}", file.display())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, key, text } = self;
        if key.is_empty() {
            write!(f, "{line}: {text}")
        } else {
            write!(f, "{line}: {key}: {text}")
        }
    }
}

/// Reads a configuration.
pub(crate) fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader::new(text);
    let config = match reader.document() {
        Some(root) => read(root, &mut reader),
        None => Config::default(),
    };
    reader.finish(config)
}

fn read(mut root: Section<'_>, reader: &mut Reader<'_>) -> Config {
    let mut config = Config {
        cluster: root.parsed(reader, "cluster", str::parse),
        ca_pin: root.parsed(reader, "ca_pin", str::parse),
        token_file: root.parsed(reader, "token_file", absolute),
        node_name: root.parsed(reader, "node_name", node_name),
        data_dir: root.parsed(reader, "data_dir", absolute),
        log_level: root.parsed(reader, "log_level", crate::cli::level),
        udp_offload: root.parsed(reader, "udp_offload", str::parse),
        keepalive: root.parsed(reader, "keepalive", str::parse),
        transport: root.parsed(reader, "transport", policy),
        proxy: root.parsed(reader, "proxy", str::parse).unwrap_or_default(),
        ..Config::default()
    };
    let resume = root.section(reader, "resume");
    config.resume = resume::read(resume, reader);
    let fixed = root.section(reader, "labels");
    let commands = root.sections(reader, "command_labels");
    (config.labels, config.command_labels) = labels::read(fixed, commands, reader);
    root.finish(reader);
    config
}

fn absolute(text: &str) -> Result<PathBuf, &'static str> {
    // A service's working folder is an accident.
    if text.starts_with('/') {
        Ok(text.into())
    } else {
        Err("expected an absolute path")
    }
}

fn policy(text: &str) -> Result<Policy, &'static str> {
    match text {
        "auto" => Ok(Policy::Auto),
        "quic" => Ok(Policy::Only(Kind::Quic)),
        "ssh" => Ok(Policy::Only(Kind::Ssh)),
        _ => Err("expected auto, quic or ssh"),
    }
}

fn node_name(text: &str) -> Result<String, &'static str> {
    crate::machine::check_node_name(text).map(|()| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::keepalive::Profile;
    use protocol::resume::Sizes;

    const FULL: &str = r#"
cluster = "tether.example.com:3080"
ca_pin = "sha256:a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5"
token_file = "/run/token"
node_name = "gateway-1"
data_dir = "/data/tether"
log_level = "debug"
udp_offload = "off"
keepalive = "metered"
transport = "ssh"
proxy = "http://user:s3cret@proxy.example.com:3128"

[resume]
streams = 8
streams_per_user = 2
buffer_kib = 64
busy_kib = 128
memory_kib = 512
spare_kib = 256

[labels]
env = "lab"
"site/floor" = "2"

[[command_labels]]
name = "uptime"
command = ["uptime", "-p"]
period = "5m"
"#;

    fn problems(text: &str) -> Vec<String> {
        parse(text)
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn problem(text: &str) -> String {
        let mut all = problems(text);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    #[test]
    fn a_full_file_is_read() {
        let config = parse(FULL).unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
        assert_eq!(
            config.cluster.unwrap().to_string(),
            "tether.example.com:3080"
        );
        assert_eq!(config.ca_pin, Some(CaPin([0xa5; 32])));
        assert_eq!(config.token_file, Some("/run/token".into()));
        assert_eq!(config.node_name.as_deref(), Some("gateway-1"));
        assert_eq!(config.data_dir, Some("/data/tether".into()));
        assert_eq!(config.log_level, Some(LevelFilter::Debug));
        assert_eq!(config.udp_offload, Some(Offload::Off));
        assert_eq!(config.keepalive, Some(Thrift::Always(Profile::Metered)));
        assert_eq!(config.transport, Some(Policy::Only(Kind::Ssh)));
        let proxy::Setting::Through(through) = config.proxy else {
            panic!("{:?}", config.proxy);
        };
        assert_eq!(through.address.to_string(), "proxy.example.com:3128");
        let both = |bytes| Sizes {
            replay: bytes,
            window: bytes,
        };
        let limits = Limits {
            streams: 8,
            per_user: 2,
            memory: 512 << 10,
            sizes: both(64 << 10),
            busy: both(128 << 10),
            spare: 256 << 10,
        };
        assert_eq!(config.resume, Some(limits));
        assert_eq!(
            config.labels.get("site/floor").map(String::as_str),
            Some("2")
        );
        let command = vec!["uptime".to_owned(), "-p".to_owned()];
        let period = Duration::from_secs(300);
        let label = CommandLabel {
            name: "uptime".into(),
            command,
            period,
        };
        assert_eq!(config.command_labels, [label]);
    }

    #[test]
    fn an_empty_file_is_a_configuration() {
        assert_eq!(parse("").unwrap(), Config::default());
    }

    #[test]
    fn every_wrong_value_is_named_with_line_and_key() {
        for (text, said) in [
            ("\ncluster = \"a:b\"", "2: cluster: expected HOST:PORT"),
            (
                "cluster = 7",
                "1: cluster: expected a string, found an integer",
            ),
            ("ca_pin = \"md5:00\"", "1: ca_pin: expected a CA pin"),
            (
                "token_file = \"token\"",
                "1: token_file: expected an absolute path",
            ),
            ("node_name = \"-x\"", "1: node_name: expected 1 to 63"),
            ("data_dir = \"\"", "1: data_dir: expected an absolute path"),
            (
                "udp_offload = \"no\"",
                "1: udp_offload: expected auto or off",
            ),
            (
                "keepalive = \"30s\"",
                "1: keepalive: expected auto, metered, normal or lan",
            ),
            (
                "transport = \"tcp\"",
                "1: transport: expected auto, quic or ssh",
            ),
            (
                "proxy = \"socks5://h:1\"",
                "1: proxy: expected http://HOST:PORT",
            ),
            ("log_level = \"loud\"", "1: log_level: expected error, warn"),
            (
                "\n\ncolour = \"red\"",
                "3: colour: unknown key; expected cluster, ca_pin",
            ),
            (
                "[resume]\nstreams = 129",
                "2: resume.streams: expected a number from 0 to 128",
            ),
            (
                "[resume]\nbuffer_kib = \"1M\"",
                "2: resume.buffer_kib: expected a number from 16 to 16384, found a string",
            ),
            (
                "[resume]\nbuffers = 1",
                "2: resume.buffers: unknown key; expected streams, streams_per_user",
            ),
            (
                "labels = \"x\"",
                "1: labels: expected a table, found a string",
            ),
            (
                "[command_labels]",
                "1: command_labels: expected an array of tables",
            ),
            (
                "command_labels = [1]",
                "1: command_labels[1]: expected a table, found an integer",
            ),
        ] {
            let found = problem(text);
            assert!(found.starts_with(said), "{found} / {said}");
        }
    }

    #[test]
    fn what_is_no_toml_is_named_with_its_line() {
        assert!(
            problem("a = 1\nb =").starts_with("2: "),
            "{}",
            problem("a = 1\nb =")
        );
        assert!(problem("cluster = \"a\"\ncluster = \"b\"").starts_with("2: duplicate key"));
    }

    #[test]
    fn all_problems_are_reported_at_once_in_the_order_of_the_file() {
        let text = "node_name = \"\"\n[labels]\n\"a b\" = \"x\"\n[[command_labels]]\nname = 1\n";
        let lines: Vec<_> = problems(text);
        assert_eq!(lines.len(), 5, "{lines:?}");
        for (line, start) in lines.iter().zip([
            "1: node_name: ",
            "3: labels.a b: ",
            "4: command_labels[1].command: ",
            "4: command_labels[1].period: ",
            "5: command_labels[1].name: ",
        ]) {
            assert!(line.starts_with(start), "{line} / {start}");
        }
    }
}

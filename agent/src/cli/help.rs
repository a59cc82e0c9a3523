//! What `--help` says.

use std::str::FromStr;

/// What help is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    Program,
    Join,
    Start,
    Status,
    Restart,
    Version,
}

impl FromStr for Topic {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "help" => Self::Program,
            "join" => Self::Join,
            "start" => Self::Start,
            "status" => Self::Status,
            "restart" => Self::Restart,
            "version" => Self::Version,
            _ => return Err(format!("unknown command {name:?}")),
        })
    }
}

impl Topic {
    /// How to ask for this help.
    pub(crate) const fn invocation(self) -> &'static str {
        match self {
            Self::Program => "tether-agent --help",
            Self::Join => "tether-agent join --help",
            Self::Start => "tether-agent start --help",
            Self::Status => "tether-agent status --help",
            Self::Restart => "tether-agent restart --help",
            Self::Version => "tether-agent version --help",
        }
    }

    /// The help itself.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Program => PROGRAM,
            Self::Join => JOIN,
            Self::Start => START,
            Self::Status => STATUS,
            Self::Restart => RESTART,
            Self::Version => VERSION,
        }
    }
}

const PROGRAM: &str = "\
The agent on the device: dials out to its cluster and serves SSH through that link.

Usage: tether-agent COMMAND [OPTIONS]

Commands:
  join      Make this device a node of a cluster
  start     Hold the link to the cluster
  status    Show what the running agent does
  restart   Replace the running agent by the program on disk; sessions go on
  version   Show the version
  help      Show this, or the help of a command

Environment:
  TETHER_CONFIG     Configuration file, instead of /etc/tether/agent.toml
  TETHER_DATA_DIR   Folder for keys and certificates
  TETHER_LOG        Log level: error, warn, info, debug, trace or off
  TETHER_TOKEN      Join token
  HTTPS_PROXY       HTTP proxy for TCP, unless the configuration has one; ALL_PROXY if it is not
                    set; NO_PROXY lists hosts, domains and networks to reach without it

Exit codes:
  0  done
  1  it did not work, for a reason of this machine
  2  the arguments, the configuration or the stored state are wrong
  3  the cluster refused
  4  the cluster cannot be reached
  5  what answers is not the cluster that the CA pin names

Example:
  tether-agent start --config /etc/tether/agent.toml
";

const JOIN: &str = "\
Make this device a node of a cluster. The key is made here and never leaves the device.

Usage: tether-agent join --cluster HOST:PORT --token-file FILE --ca-pin PIN [OPTIONS]

Options:
  --cluster HOST:PORT   Address of the cluster; the port is 3080 if left out
  --token-file FILE     File with the join token; - reads it from standard input
  --token TOKEN         Join token; every user of this machine can see it while joining
  --ca-pin PIN          sha256:... of the cluster's host CA; its administrator knows it
  --node-name NAME      Name of the node; the host name if left out
  --force               Join anew a device that has joined already; it keeps its key
  -c, --config FILE     Configuration file; its cluster, ca_pin, token_file and node_name are
                        used for what is not given here
  --data-dir DIR        Folder for keys and certificates
  --log-level LEVEL     error, warn, info, debug, trace or off
  -h, --help            Show this

The token can also be given as TETHER_TOKEN.

Exit codes: 0 joined, 1 failed here, 2 wrong usage or configuration, 3 refused by the cluster,
4 cluster unreachable, 5 not the cluster that the CA pin names

Example:
  tether-agent join --cluster tether.example.com:3080 --token-file /run/token \\
    --ca-pin sha256:8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4
";

const START: &str = "\
Hold the link to the cluster, until SIGTERM or SIGINT. SIGHUP restarts: see tether-agent restart.

Usage: tether-agent start [OPTIONS]

Options:
  --check              Check configuration and state, start nothing
  -c, --config FILE    Configuration file, instead of /etc/tether/agent.toml
  --data-dir DIR       Folder for keys and certificates
  --log-level LEVEL    error, warn, info, debug, trace or off
  -h, --help           Show this

A device that has not joined yet joins by itself if the configuration has cluster, ca_pin and
token_file.

The link is made of QUIC, or where UDP is blocked, of SSH over TCP. In the configuration,
transport = \"quic\" or \"ssh\" allows one of them only, and
proxy = \"http://USER:PASSWORD@HOST:PORT\" names an HTTP proxy for TCP; \"none\" means none.

Exit codes: 0 stopped by a signal, or nothing found to be wrong; 1 failed; 2 wrong usage,
configuration or state, or not joined

Example:
  tether-agent start --check --config /etc/tether/agent.toml
";

const STATUS: &str = "\
Show what the running agent does: its link, its node, its certificate.

Usage: tether-agent status [OPTIONS]

Options:
  -f, --format FORMAT   text (default), json or yaml
  -c, --config FILE     Configuration file, instead of /etc/tether/agent.toml
  --data-dir DIR        Folder of the agent asked about
  -h, --help            Show this

Exit codes: 0 the agent runs, 1 it does not, 2 wrong usage, configuration or state

Example:
  tether-agent status --format json
";

const RESTART: &str = "\
Replace the running agent by the program that is on disk now, with the configuration as it is now.
The process keeps its number. Sessions that outlive their links go on, whether by tsh, by ssh
through it or by ssh -J; others end. SIGHUP does the same.

Usage: tether-agent restart [OPTIONS]

Options:
  -c, --config FILE    Configuration file, instead of /etc/tether/agent.toml
  --data-dir DIR       Folder of the agent to restart
  -h, --help           Show this

Before anything ends, the program on disk is asked whether it would start and take over. Sessions
stay in the old process, which ends with the last of them; status shows it. At most two such
processes stay: another restart ends the sessions of the oldest.

Exit codes: 0 restarted; 1 the agent does not run, or stays as it is for the reason that is said;
2 wrong usage or configuration

Example:
  tether-agent restart --config /etc/tether/agent.toml
";

const VERSION: &str = "\
Show the version.

Usage: tether-agent version

Example:
  tether-agent version
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_help_has_usage_and_an_example() {
        for topic in [
            Topic::Program,
            Topic::Join,
            Topic::Start,
            Topic::Status,
            Topic::Restart,
            Topic::Version,
        ] {
            let text = topic.text();
            assert!(text.contains("\nUsage: tether-agent"), "{topic:?}");
            assert!(text.contains("\nExample:\n  tether-agent "), "{topic:?}");
            assert!(text.lines().all(|line| line.len() <= 100), "{topic:?}");
        }
    }
}

//! The command line, as typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use protocol::identity::CaPin;

use crate::address::ProxyAddr;
use crate::output::Format;

pub(crate) mod ssh;
pub(crate) mod ttl;

pub(crate) use ssh::{ProxySshArgs, SshArgs};

const EXIT_CODES: &str = "\
Exit codes:
    0 ok              250 login unavailable    245 cluster unreachable
    1 other failure   251 access denied        246 cluster not trusted
    2 wrong usage     252 node offline         247 locked
  243 session over    253 ambiguous name       248 wrong user, password or invite
  244 busy            254 unknown node         249 not logged in
  255 connection lost
  `tsh ssh` passes on the exit code of the remote command.

Example:
  tsh login --proxy tether.example.com:3080 --user ann
  tsh ls
  tsh ssh root@gateway-1";

/// Secure access to machines that nobody can reach.
#[derive(Debug, Parser)]
#[command(name = "tsh", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The cluster's proxy; the one last logged in to, unless given [default port: 3080].
    #[arg(
        long,
        global = true,
        env = "TSH_PROXY",
        hide_env_values = true,
        value_name = "HOST[:PORT]"
    )]
    pub(crate) proxy: Option<ProxyAddr>,
    /// Name of the Tether user.
    #[arg(
        long,
        global = true,
        env = "TSH_USER",
        hide_env_values = true,
        value_name = "NAME"
    )]
    pub(crate) user: Option<String>,
    /// Say what happens behind the scenes.
    #[arg(short, long, global = true)]
    pub(crate) debug: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Log in to a cluster and get short-lived certificates.
    ///
    /// Without options, renews the last login. Secrets are prompted for, or read from files; they
    /// are never taken from the command line.
    #[command(after_help = LOGIN_EXAMPLE)]
    Login(LoginArgs),
    /// Remove the certificates and keys, also from ssh-agent.
    #[command(after_help = "Example:\n  tsh logout")]
    Logout,
    /// Show who is logged in where, and until when.
    #[command(after_help = "Example:\n  tsh status --format json")]
    Status(StatusArgs),
    /// List the nodes of the cluster.
    #[command(after_help = LS_EXAMPLE)]
    Ls(LsArgs),
    /// List your open sessions, also those that are kept without a link.
    #[command(args_conflicts_with_subcommands = true, after_help = SESSIONS_EXAMPLE)]
    Sessions(SessionsArgs),
    /// Open a shell on a node, or run a command there.
    #[command(after_help = ssh::EXAMPLE)]
    Ssh(SshArgs),
    /// Connect other programs through the cluster.
    #[command(subcommand)]
    Proxy(ProxyCommand),
    /// Print a configuration for OpenSSH.
    #[command(after_help = CONFIG_EXAMPLE)]
    Config,
    /// Print the version.
    #[command(after_help = "Example:\n  tsh version")]
    Version,
}

const LOGIN_EXAMPLE: &str = "\
Examples:
  tsh login --proxy tether.example.com:3080 --user ann
  tsh login                                     # renew
  tsh login --ttl 1h
  tsh login --proxy 192.0.2.7 --user ci --ca-pin sha256:0a1b... --password-file /run/secrets/ci
  tsh login --user ann --invite-file invite --password-file -   < new-password";

const LS_EXAMPLE: &str = "\
Examples:
  tsh ls
  tsh ls env=prod region='*'        # all given labels must match; * matches any value
  tsh ls --search gateway,berlin -v
  tsh ls --format names env=lab | xargs -n1 -I{} tsh ssh root@{} uptime";

const SESSIONS_EXAMPLE: &str = "\
A session is detached while its client is cut off; it is kept for as long as is shown, and ends then.

Examples:
  tsh sessions
  tsh sessions ls --format json";

const CONFIG_EXAMPLE: &str = "\
The names of nodes are <node>.<cluster> there. OpenSSH closes the descriptor that bash's <(...) \
would hand it, so write the configuration to a file.

Examples:
  tsh config > ~/.ssh/tether && ssh -F ~/.ssh/tether root@gateway-1.lab
  scp -F ~/.ssh/tether file root@gateway-1.lab:
  ssh -F ~/.ssh/tether -J tether.example.com root@gateway-1.lab";

/// `tsh login`
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// Fingerprint of the cluster's CA, from the administrator; without it, an unknown cluster is
    /// asked about.
    #[arg(long, value_name = "sha256:HEX")]
    pub(crate) ca_pin: Option<CaPin>,
    /// Read the password (with --invite-file: the new password) from a file's first line; - is
    /// standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Read an invite code from a file's first line; - is standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) invite_file: Option<PathBuf>,
    /// How long the certificates shall last, such as 30m, 8h or 2d; a role may cap it.
    #[arg(long, value_parser = ttl::parse, value_name = "TIME")]
    pub(crate) ttl: Option<Duration>,
    /// Do not load the key into ssh-agent.
    #[arg(long, env = "TSH_NO_AGENT", value_parser = FalseyValueParser::new())]
    pub(crate) no_agent: bool,
}

/// `tsh status`
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// How to write the result.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// `tsh ls`
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Labels that must match, all of them; the value * matches any.
    #[arg(value_name = "KEY=VALUE", value_parser = crate::fleet::filter::LabelFilter::parse)]
    pub(crate) labels: Vec<crate::fleet::filter::LabelFilter>,
    /// Words that must all occur in the node's name or labels, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "WORD,...")]
    pub(crate) search: Vec<String>,
    /// Also show id, address, link, agent version, last seen, reason, kernel, and logins if
    /// only one is on offer.
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// How to write the result.
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    pub(crate) format: ListFormat,
}

/// `tsh sessions`
#[derive(Debug, Args)]
pub(crate) struct SessionsArgs {
    #[command(subcommand)]
    command: Option<SessionsCommand>,
    #[command(flatten)]
    list: SessionsListArgs,
}

impl SessionsArgs {
    /// How to write the result.
    pub(crate) const fn format(&self) -> Format {
        match &self.command {
            Some(SessionsCommand::Ls(list)) => list.format,
            None => self.list.format,
        }
    }
}

/// `tsh sessions ls`, or without a word
#[derive(Debug, Args)]
struct SessionsListArgs {
    /// How to write the result.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum SessionsCommand {
    /// List them.
    #[command(after_help = SESSIONS_EXAMPLE)]
    Ls(SessionsListArgs),
}

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// A table.
    Text,
    /// JSON, for programs.
    Json,
    /// YAML, for people and programs.
    Yaml,
    /// Names only, one a line.
    Names,
}

/// `tsh proxy`
#[derive(Debug, Subcommand)]
pub(crate) enum ProxyCommand {
    /// Connect standard input and output to a node's SSH server, for OpenSSH's `ProxyCommand`.
    #[command(after_help = ssh::PROXY_EXAMPLE)]
    Ssh(ProxySshArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("tsh").chain(args.iter().copied()))
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_and_an_example() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            if command.has_subcommands() {
                command.get_subcommands().for_each(check);
            } else {
                let help = command.get_after_help().unwrap().to_string();
                assert!(help.contains("Example"), "{}", command.get_name());
            }
        }
        check(&Cli::command());
    }

    #[test]
    fn login_takes_what_it_needs() {
        let pin = format!("sha256:{}", "0a".repeat(32));
        let args = [
            "login", "--proxy", "h", "--user", "ann", "--ca-pin", &pin, "--ttl", "8h",
        ];
        let cli = parse(&args).unwrap();
        let Command::Login(login) = cli.command else {
            panic!("not a login")
        };
        assert_eq!(cli.global.proxy.unwrap().to_string(), "h:3080");
        assert_eq!(login.ca_pin.unwrap(), CaPin([0x0a; 32]));
        assert_eq!(login.ttl.unwrap().as_secs(), 8 * 3600);
    }

    #[test]
    fn sessions_are_listed_with_or_without_saying_so() {
        for (args, format) in [
            (&["sessions"][..], Format::Text),
            (&["sessions", "--format", "yaml"], Format::Yaml),
            (&["sessions", "ls"], Format::Text),
            (&["sessions", "ls", "--format", "json"], Format::Json),
        ] {
            let Command::Sessions(sessions) = parse(args).unwrap().command else {
                panic!("{args:?}");
            };
            assert_eq!(sessions.format(), format, "{args:?}");
        }
    }

    #[test]
    fn mistakes_are_refused_before_anything_happens() {
        for wrong in [
            &["login", "--ttl", "8"][..],
            &["login", "--ca-pin", "sha256:00"],
            &["login", "--proxy", "a b"],
            &["ls", "env"],
            &["ssh"],
            &["proxy"],
            &["status", "--format", "xml"],
            &["sessions", "end"],
        ] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn the_proxy_may_stand_before_or_behind_the_command() {
        for args in [&["--proxy", "h", "ls"], &["ls", "--proxy", "h"]] {
            assert!(parse(args).unwrap().global.proxy.is_some());
        }
    }
}

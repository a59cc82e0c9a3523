//! What can be typed at `tctl`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::admin::request::LockTarget;
use crate::duration;
use crate::resource::token::TokenType;

/// Steers a running Tether cluster; run it on the cluster's machine.
#[derive(Parser)]
#[command(
    name = "tctl",
    version,
    after_help = "Example:\n  tctl users add ann --roles access --logins root,ann\n\nExit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 exists already, 5 changed meanwhile, 6 cluster not running."
)]
pub struct Cli {
    /// The cluster's data directory [default: ./data if a cluster runs there, else /var/lib/tether]
    #[arg(long, env = "TETHER_DATA_DIR", value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// Commands.
#[derive(Subcommand)]
pub enum Command {
    /// The cluster in a few lines
    #[command(after_help = "Example:\n  tctl status --format json")]
    Status {
        /// See [`FormatArg`]
        #[command(flatten)]
        format: FormatArg,
    },
    /// People
    #[command(subcommand)]
    Users(UsersCommand),
    /// Join tokens
    #[command(subcommand)]
    Tokens(TokensCommand),
    /// Machines
    #[command(subcommand)]
    Nodes(NodesCommand),
    /// Shut a node or a user out, at once and until the lock is removed
    #[command(
        after_help = "Examples:\n  tctl lock node/gateway-1 --message 'stolen, call 555-0100'\n  tctl lock user/ann --ttl 8h"
    )]
    Lock(Lock),
    /// Remove a lock, or all locks of a node or a user
    #[command(after_help = "Examples:\n  tctl unlock node/gateway-1\n  tctl unlock 0f3a9c52-...")]
    Unlock(Unlock),
    /// Who and what is shut out
    #[command(subcommand)]
    Locks(LocksCommand),
    /// Show resources as YAML: roles, users, nodes, presence, tokens, locks
    #[command(after_help = "Examples:\n  tctl get roles\n  tctl get role/access > access.yaml")]
    Get {
        /// KIND or KIND/NAME
        what: String,
        /// See [`FormatArg`]
        #[command(flatten)]
        format: FormatArg,
    },
    /// Write resources from a YAML file: roles, users, locks
    #[command(
        after_help = "Example:\n  tctl get role/access > role.yaml; $EDITOR role.yaml; tctl create -f role.yaml --force"
    )]
    Create(Create),
    /// Remove a resource
    #[command(after_help = "Example:\n  tctl rm role/night-shift")]
    Rm {
        /// KIND/NAME
        what: String,
    },
    /// Certificate authorities
    #[command(subcommand)]
    Auth(AuthCommand),
    /// The audit log
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Print the version
    #[command(after_help = "Example:\n  tctl version")]
    Version,
}

/// `tctl lock`.
#[derive(Args)]
pub struct Lock {
    /// Whom: node/NAME, node/ID or user/NAME
    #[arg(value_name = "KIND/NAME", value_parser = locked)]
    pub target: LockTarget,
    /// What those are told who meet the lock
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub message: String,
    /// How long the lock holds [default: until it is removed]
    #[arg(long, value_parser = duration::parse)]
    pub ttl: Option<Duration>,
    /// See [`FormatArg`]
    #[command(flatten)]
    pub format: FormatArg,
}

/// `tctl unlock`.
#[derive(Args)]
pub struct Unlock {
    /// Whom: node/NAME, node/ID or user/NAME; or one lock, by its name
    #[arg(value_name = "KIND/NAME|LOCK", value_parser = lifted)]
    pub what: Lifted,
}

/// What `tctl unlock` removes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lifted {
    /// All locks of a target.
    Of(LockTarget),
    /// One lock.
    One(String),
}

fn locked(text: &str) -> Result<LockTarget, String> {
    match text.split_once('/') {
        Some(("node", name)) if !name.is_empty() => Ok(LockTarget::Node(name.to_owned())),
        Some(("user", name)) if !name.is_empty() => Ok(LockTarget::User(name.to_owned())),
        _ => Err("expected node/NAME or user/NAME".into()),
    }
}

fn lifted(text: &str) -> Result<Lifted, String> {
    if text.contains('/') {
        locked(text).map(Lifted::Of)
    } else {
        Ok(Lifted::One(text.to_owned()))
    }
}

/// `tctl locks`.
#[derive(Subcommand)]
pub enum LocksCommand {
    /// List locks
    #[command(after_help = "Example:\n  tctl locks ls")]
    Ls {
        /// See [`FormatArg`]
        #[command(flatten)]
        format: FormatArg,
    },
    /// Remove a lock
    #[command(after_help = "Example:\n  tctl locks rm 0f3a9c52-...")]
    Rm {
        /// Its name, as `tctl locks ls` shows it
        name: String,
    },
}

/// `tctl create`.
#[derive(Args)]
pub struct Create {
    /// YAML file, or - for standard input
    #[arg(short = 'f', long, value_name = "FILE")]
    pub filename: PathBuf,
    /// Replace what has the same name
    #[arg(long)]
    pub force: bool,
}

/// `tctl users`.
#[derive(Subcommand)]
pub enum UsersCommand {
    /// Make a user; prints a one-time invite unless a password is given
    #[command(
        after_help = "Example:\n  tctl users add operator --roles access --logins root,operator"
    )]
    Add {
        /// Name in Tether
        name: String,
        /// Roles, separated by commas
        #[arg(long, value_delimiter = ',', required = true)]
        roles: Vec<String>,
        /// OS users, separated by commas
        #[arg(long, value_delimiter = ',')]
        logins: Vec<String>,
        /// First line is the password; - for standard input
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// How long the invite can be redeemed [default: 24h]
        #[arg(long, value_parser = duration::parse)]
        ttl: Option<Duration>,
        /// See [`FormatArg`]
        #[command(flatten)]
        format: FormatArg,
    },
    /// List users
    #[command(after_help = "Example:\n  tctl users ls --format json")]
    Ls {
        /// See [`FormatArg`]
        #[command(flatten)]
        format: FormatArg,
    },
    /// Change a user's roles or logins
    #[command(after_help = "Example:\n  tctl users update operator --set-roles access,auditor")]
    Update {
        /// Name in Tether
        name: String,
        /// New roles, separated by commas
        #[arg(long = "set-roles", value_delimiter = ',')]
        roles: Option<Vec<String>>,
        /// New OS users, separated by commas
        #[arg(long = "set-logins", value_delimiter = ',')]
        logins: Option<Vec<String>>,
        /// See [`FormatArg`]
        #[command(flatten)]
        format: FormatArg,
    },
    /// Void the password, lift a lock-out, and print a new invite
    #[command(after_help = "Example:\n  tctl users reset operator")]
    Reset {
        /// Name in Tether
        name: String,
        /// How long the invite can be redeemed [default: 24h]
        #[arg(long, value_parser = duration::parse)]
        ttl: Option<Duration>,
        /// See [`FormatArg`]
        #[command(flatten)]
        format: FormatArg,
    },
    /// Remove a user and end their sessions
    #[command(after_help = "Example:\n  tctl users rm operator")]
    Rm {
        /// Name in Tether
        name: String,
    },
}

/// `tctl tokens`.
#[derive(Subcommand)]
pub enum TokensCommand {
    /// Make a join token; prints the command for the device
    #[command(
        after_help = "Example:\n  tctl tokens add --type node --labels env=lab,site=cologne --ttl 1h"
    )]
    Add {
        /// What may join
        #[arg(long = "type", value_enum, default_value_t = Kind::Node)]
        kind: Kind,
        /// Labels for whatever joins, as key=value, separated by commas
        #[arg(long, value_delimiter = ',', value_parser = label)]
        labels: Vec<(String, String)>,
        /// How long it is valid
        #[arg(long, default_value = "30m", value_parser = duration::parse)]
        ttl: Duration,
        /// How often it can be used [default: any number of times]
        #[arg(long)]
        uses: Option<u32>,
        /// See [`FormatArg`]
        #[command(flatten)]
        format: FormatArg,
    },
    /// List tokens, without their secrets
    #[command(after_help = "Example:\n  tctl tokens ls")]
    Ls {
        /// See [`FormatArg`]
        #[command(flatten)]
        format: FormatArg,
    },
    /// Remove a token
    #[command(after_help = "Example:\n  tctl tokens rm 3f9a01b2c3d4")]
    Rm {
        /// Its name, as `tctl tokens ls` shows it
        name: String,
    },
}

/// `tctl nodes`.
#[derive(Subcommand)]
pub enum NodesCommand {
    /// List nodes
    #[command(after_help = "Example:\n  tctl nodes ls")]
    Ls {
        /// See [`FormatArg`]
        #[command(flatten)]
        format: FormatArg,
    },
    /// Remove a node and end its sessions; it must join anew to come back
    #[command(after_help = "Example:\n  tctl nodes rm gateway-1")]
    Rm {
        /// Name or id
        target: String,
    },
}

/// `tctl auth`.
#[derive(Subcommand)]
pub enum AuthCommand {
    /// Print the CAs' public halves
    #[command(
        after_help = "Example:\n  tctl auth export --type user   # for sshd's TrustedUserCAKeys"
    )]
    Export {
        /// Which form
        #[arg(long = "type", value_enum, default_value_t = Export::All)]
        kind: Export,
        /// See [`FormatArg`]
        #[command(flatten)]
        format: FormatArg,
    },
}

/// `tctl audit`.
#[derive(Subcommand)]
pub enum AuditCommand {
    /// Show the newest events, oldest first
    #[command(after_help = "Example:\n  tctl audit ls --last 50 --format json")]
    Ls {
        /// How many
        #[arg(long, default_value_t = 100)]
        last: usize,
        /// See [`FormatArg`]
        #[command(flatten)]
        format: FormatArg,
    },
}

/// Kinds of join tokens.
#[derive(Clone, Copy, ValueEnum)]
pub enum Kind {
    /// A machine that offers SSH
    Node,
}

impl From<Kind> for TokenType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Node => Self::Node,
        }
    }
}

/// What `tctl auth export` prints.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Export {
    /// Everything
    All,
    /// The user CA's SSH key, for sshd's TrustedUserCAKeys
    User,
    /// The host CA's SSH key, as a line for known_hosts
    Host,
    /// The host CA's X.509 certificate
    Tls,
}

/// `--format`.
#[derive(Args)]
pub struct FormatArg {
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// How to print.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
    /// For both
    Yaml,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?}: expected key=value"))?;
    crate::resource::labels::check(key, value)?;
    Ok((key.into(), value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_kind_and_a_name_and_a_lock_has_no_kind() {
        assert_eq!(locked("node/gw"), Ok(LockTarget::Node("gw".into())));
        assert_eq!(locked("user/ann"), Ok(LockTarget::User("ann".into())));
        for wrong in ["gw", "node/", "role/access", ""] {
            assert!(locked(wrong).is_err(), "{wrong}");
        }
        let ann = LockTarget::User("ann".into());
        assert_eq!(lifted("user/ann"), Ok(Lifted::Of(ann)));
        assert_eq!(lifted("0f3a"), Ok(Lifted::One("0f3a".into())));
        assert!(lifted("token/1").is_err());
    }
}

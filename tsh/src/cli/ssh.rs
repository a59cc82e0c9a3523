//! `tsh ssh` and `tsh proxy ssh`: the arguments of OpenSSH that make sense here.

use std::fmt;
use std::str::FromStr;

use clap::{ArgAction, Args};

pub(crate) const EXAMPLE: &str = "\
Options end at the node's name: what follows is the remote command.
In a terminal, at the start of a line: ~. disconnects, ~? lists what else there is.

Examples:
  tsh ssh root@gateway-1
  tsh ssh root@gateway-1 ls -la /etc
  tar c dir | tsh ssh -l root gateway-1 tar x -C /tmp
  rsync -e 'tsh ssh' file root@gateway-1:";

pub(crate) const PROXY_EXAMPLE: &str = "\
Example (`tsh config` writes this for you):
  ssh -o ProxyCommand='tsh proxy ssh %r@%h:%p' root@gateway-1";

/// `[user@]node`, where the last `@` counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    /// The login, if given.
    pub(crate) login: Option<String>,
    /// Name, `name.cluster` or id of the node.
    pub(crate) node: String,
}

/// A destination without a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoNode;

impl fmt::Display for NoNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected [LOGIN@]NODE")
    }
}

impl std::error::Error for NoNode {}

impl FromStr for Destination {
    type Err = NoNode;

    fn from_str(text: &str) -> Result<Self, NoNode> {
        let (login, node) = match text.rsplit_once('@') {
            Some(("", _)) => return Err(NoNode),
            Some((login, node)) => (Some(login.to_owned()), node),
            None => (None, text),
        };
        if node.is_empty() || node.starts_with('-') {
            return Err(NoNode);
        }
        Ok(Self {
            login,
            node: node.to_owned(),
        })
    }
}

/// Whether the session gets a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tty {
    /// For a shell, if standard input is a terminal.
    Auto,
    /// If standard input is a terminal.
    Wanted,
    /// In any case.
    Forced,
    /// Never.
    Never,
}

/// `tsh ssh`
#[derive(Debug, Args)]
pub(crate) struct SshArgs {
    /// OS user to become on the node.
    #[arg(short, long, value_name = "LOGIN")]
    login: Option<String>,
    /// Accepted for OpenSSH's sake; nodes have no ports here.
    #[arg(short, long, value_name = "PORT")]
    port: Option<u16>,
    /// Ask for a terminal, also for a command; twice: even if standard input is none.
    #[arg(short, action = ArgAction::Count, overrides_with = "no_tty")]
    tty: u8,
    /// Do not ask for a terminal.
    #[arg(short = 'T', overrides_with = "tty")]
    no_tty: bool,
    /// Run nothing; only hold the connection.
    #[arg(short = 'N')]
    pub(crate) no_command: bool,
    /// Do not read standard input.
    #[arg(short = 'n')]
    pub(crate) no_stdin: bool,
    /// Hide notes and warnings.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Accepted for OpenSSH's sake; has no effect.
    #[arg(short, value_name = "KEY=VALUE")]
    pub(crate) options: Vec<String>,
    /// The node, and what to run there instead of a shell.
    #[arg(required = true, trailing_var_arg = true, value_names = ["[LOGIN@]NODE", "COMMAND"])]
    words: Vec<String>,
}

impl SshArgs {
    /// The node; a login before the `@` counts more than `-l`.
    pub(crate) fn destination(&self) -> Result<Destination, NoNode> {
        let mut to: Destination = self.words.first().ok_or(NoNode)?.parse()?;
        to.login = to.login.or_else(|| self.login.clone());
        Ok(to)
    }

    /// What to run: the words with spaces between them, as every SSH client does it.
    pub(crate) fn command(&self) -> Option<String> {
        let words = match self.words.get(1..) {
            Some([dashes, rest @ ..]) if dashes == "--" => rest,
            Some(words) => words,
            None => &[],
        };
        (!words.is_empty()).then(|| words.join(" "))
    }

    /// What was said about a terminal.
    pub(crate) const fn tty(&self) -> Tty {
        match (self.no_tty, self.tty) {
            (true, _) => Tty::Never,
            (false, 0) => Tty::Auto,
            (false, 1) => Tty::Wanted,
            (false, _) => Tty::Forced,
        }
    }
}

/// `tsh proxy ssh`
#[derive(Debug, Args)]
pub(crate) struct ProxySshArgs {
    /// The node; a port is ignored.
    #[arg(value_name = "[LOGIN@]NODE[:PORT]")]
    destination: String,
}

impl ProxySshArgs {
    /// The node, without the port that OpenSSH adds.
    pub(crate) fn destination(&self) -> Result<Destination, NoNode> {
        let mut to: Destination = self.destination.parse()?;
        if let Some((node, port)) = to.node.rsplit_once(':')
            && port.parse::<u16>().is_ok()
        {
            to.node = node.to_owned();
        }
        if to.node.is_empty() {
            Err(NoNode)
        } else {
            Ok(to)
        }
    }
}

#[cfg(test)]
mod tests;

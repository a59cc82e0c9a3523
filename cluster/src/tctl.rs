//! `tctl`, the admin tool: asks the running cluster over its local socket and shows the answer.

pub mod cli;
mod output;
mod socket;

use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;
use serde_json::Value;

use crate::admin::Request;
use crate::admin::request::{LockAdd, Password, TokenAdd, UserAdd, UserUpdate};
use cli::{
    AuditCommand, AuthCommand, Cli, Command, Create, Lifted, Lock, LocksCommand, NodesCommand,
    TokensCommand, UsersCommand,
};
use output::Output;

/// A failure with its exit code.
#[derive(Debug)]
pub struct Failed {
    /// 1 other, 2 usage, 3 not found, 4 exists, 5 conflict, 6 cluster not running.
    pub code: u8,
    /// What happened and what to do.
    pub error: anyhow::Error,
}

impl From<anyhow::Error> for Failed {
    fn from(error: anyhow::Error) -> Self {
        Self { code: 1, error }
    }
}

fn usage(error: anyhow::Error) -> Failed {
    Failed { code: 2, error }
}

/// Runs one command.
///
/// # Errors
/// As [`Failed`] says.
pub fn run(cli: Cli) -> Result<(), Failed> {
    let ask = |request: &Request| socket::ask(cli.data_dir.as_deref(), request);
    match cli.command {
        Command::Status { format } => Output(format.format).status(&ask(&Request::Status)?),
        Command::Users(command) => users(command, &ask)?,
        Command::Tokens(command) => tokens(command, &ask)?,
        Command::Nodes(NodesCommand::Ls { format }) => {
            Output(format.format).nodes(&ask(&Request::NodeList)?);
        }
        Command::Nodes(NodesCommand::Rm { target }) => {
            let gone = ask(&Request::NodeRemove { target })?;
            output::line(&format!(
                "node {} ({}) removed",
                output::text(&gone, "name"),
                output::text(&gone, "id")
            ));
        }
        Command::Lock(lock) => self::lock(lock, &ask)?,
        Command::Unlock(unlock) => self::unlock(unlock.what, &ask)?,
        Command::Locks(LocksCommand::Ls { format }) => {
            Output(format.format).locks(&ask(&Request::LockList)?);
        }
        Command::Locks(LocksCommand::Rm { name }) => {
            output::unlocked(&ask(&Request::LockRemove { name })?);
        }
        Command::Get { what, format } => {
            let (kind, name) = match what.split_once('/') {
                Some((kind, name)) => (kind.to_owned(), Some(name.to_owned())),
                None => (what, None),
            };
            Output(format.format).resources(&ask(&Request::Get { kind, name })?);
        }
        Command::Create(create) => write(&create, &ask)?,
        Command::Rm { what } => {
            let wrong = || {
                usage(anyhow!(
                    "{what:?}: expected KIND/NAME, for example role/access"
                ))
            };
            let (kind, name) = what.split_once('/').ok_or_else(wrong)?;
            ask(&Request::Remove {
                kind: kind.into(),
                name: name.into(),
            })?;
            output::line(&format!("{kind} {name} removed"));
        }
        Command::Auth(AuthCommand::Export { kind, format }) => {
            Output(format.format).export(&ask(&Request::AuthExport)?, kind);
        }
        Command::Audit(AuditCommand::Ls { last, format }) => {
            Output(format.format).audit(&ask(&Request::AuditList { limit: last })?);
        }
        Command::Version => output::line(&format!("tctl {}", env!("CARGO_PKG_VERSION"))),
    }
    Ok(())
}

fn users(
    command: UsersCommand,
    ask: &dyn Fn(&Request) -> Result<Value, Failed>,
) -> Result<(), Failed> {
    match command {
        UsersCommand::Add {
            name,
            roles,
            logins,
            password_file,
            ttl,
            format,
        } => {
            let password = password_file
                .as_deref()
                .map(read_password)
                .transpose()
                .map_err(usage)?;
            let ttl_s = ttl.map(|t| t.as_secs());
            let add = UserAdd {
                name,
                roles,
                logins,
                password,
                ttl_s,
            };
            Output(format.format).user(&ask(&Request::UserAdd(add))?, "created");
        }
        UsersCommand::Update {
            name,
            roles,
            logins,
            format,
        } => {
            if roles.is_none() && logins.is_none() {
                return Err(usage(anyhow!(
                    "nothing to change: give --set-roles or --set-logins"
                )));
            }
            let update = UserUpdate {
                name,
                roles,
                logins,
            };
            Output(format.format).user(&ask(&Request::UserUpdate(update))?, "updated");
        }
        UsersCommand::Reset { name, ttl, format } => {
            let ttl_s = ttl.map(|t| t.as_secs());
            Output(format.format).user(&ask(&Request::UserReset { name, ttl_s })?, "reset");
        }
        UsersCommand::Rm { name } => {
            ask(&Request::UserRemove { name: name.clone() })?;
            output::line(&format!("user {name} removed; their sessions are ended"));
        }
        UsersCommand::Ls { format } => Output(format.format).users(&ask(&Request::UserList)?),
    }
    Ok(())
}

fn tokens(
    command: TokensCommand,
    ask: &dyn Fn(&Request) -> Result<Value, Failed>,
) -> Result<(), Failed> {
    match command {
        TokensCommand::Add {
            kind,
            labels,
            ttl,
            uses,
            format,
        } => {
            let labels = labels.into_iter().collect();
            let add = TokenAdd {
                r#type: kind.into(),
                labels,
                ttl_s: ttl.as_secs(),
                uses,
            };
            Output(format.format).token(&ask(&Request::TokenAdd(add))?);
        }
        TokensCommand::Ls { format } => Output(format.format).tokens(&ask(&Request::TokenList)?),
        TokensCommand::Rm { name } => {
            ask(&Request::TokenRemove { name: name.clone() })?;
            output::line(&format!("token {name} removed"));
        }
    }
    Ok(())
}

fn lock(lock: Lock, ask: &dyn Fn(&Request) -> Result<Value, Failed>) -> Result<(), Failed> {
    let add = LockAdd {
        target: lock.target,
        message: lock.message,
        ttl_s: lock.ttl.map(|t| t.as_secs()),
    };
    Output(lock.format.format).lock(&ask(&Request::LockAdd(add))?);
    Ok(())
}

fn unlock(what: Lifted, ask: &dyn Fn(&Request) -> Result<Value, Failed>) -> Result<(), Failed> {
    match what {
        Lifted::Of(target) => {
            let lifted = ask(&Request::Unlock(target))?;
            let lifted = lifted.as_array().map(Vec::as_slice).unwrap_or_default();
            lifted.iter().for_each(output::unlocked);
        }
        Lifted::One(name) => output::unlocked(&ask(&Request::LockRemove { name })?),
    }
    Ok(())
}

fn write(create: &Create, ask: &dyn Fn(&Request) -> Result<Value, Failed>) -> Result<(), Failed> {
    let text = read(&create.filename).map_err(usage)?;
    let documents = serde_norway::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).context("not a YAML resource"))
        .collect::<Result<Vec<_>>>()
        .with_context(|| create.filename.display().to_string())
        .map_err(usage)?;
    for resource in documents {
        let done = ask(&Request::Create {
            resource,
            force: create.force,
        })?;
        output::line(&format!(
            "{} {} written",
            output::text(&done, "kind"),
            output::text(&done, "name")
        ));
    }
    Ok(())
}

fn read_password(path: &Path) -> Result<Password> {
    let text = read(path)?;
    let first = text.lines().next().unwrap_or_default();
    anyhow::ensure!(
        !first.is_empty(),
        "{}: the first line should be the password",
        path.display()
    );
    Ok(Password(first.to_owned()))
}

/// Reads a file, or standard input for `-`.
fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    match path.as_os_str() == "-" {
        true => std::io::stdin().read_to_string(&mut text).map(drop),
        false => std::fs::File::open(path)
            .and_then(|mut f| f.read_to_string(&mut text))
            .map(drop),
    }
    .with_context(|| path.display().to_string())?;
    Ok(text)
}

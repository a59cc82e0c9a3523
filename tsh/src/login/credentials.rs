//! What proves who the user is, and where it comes from.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::prompt::Prompt;
use super::secret::Secret;
use crate::cli::LoginArgs;
use crate::error::{Exit, fail};

/// Shortest password taken here; the cluster has the last word.
const MIN_PASSWORD: usize = 8;
/// How often two new passwords may differ.
const TRIES: usize = 3;

/// A password, or an invite with the password it sets.
#[derive(Debug)]
pub(super) enum Credentials {
    Password(Secret),
    Invite { invite: Secret, password: Secret },
}

impl Credentials {
    /// Where in the API they go.
    pub(super) const fn path(&self) -> &'static str {
        match self {
            Self::Password(_) => "/v1/login",
            Self::Invite { .. } => "/v1/invite",
        }
    }

    pub(super) fn password(&self) -> &str {
        let (Self::Password(password) | Self::Invite { password, .. }) = self;
        password.expose()
    }

    pub(super) fn invite(&self) -> Option<&str> {
        match self {
            Self::Password(_) => None,
            Self::Invite { invite, .. } => Some(invite.expose()),
        }
    }
}

/// Where to find them: files, or the terminal for what no file is given.
#[derive(Debug, Default)]
pub(super) struct Source {
    password: Option<PathBuf>,
    invite: Option<PathBuf>,
}

impl Source {
    pub(super) fn new(args: &LoginArgs) -> Result<Self> {
        let stdin = Path::new("-");
        if [&args.password_file, &args.invite_file]
            .iter()
            .all(|file| file.as_deref() == Some(stdin))
        {
            let sentence = "Only one of --password-file and --invite-file can be standard input.";
            return Err(fail(Exit::Usage, sentence));
        }
        Ok(Self {
            password: args.password_file.clone(),
            invite: args.invite_file.clone(),
        })
    }

    pub(super) fn read(&self, user: &str, cluster: &str) -> Result<Credentials> {
        match (&self.invite, &self.password) {
            (Some(invite), Some(password)) => Ok(Credentials::Invite {
                invite: Secret::from_file(invite)?,
                password: long_enough(Secret::from_file(password)?)?,
            }),
            (None, Some(password)) => Ok(Credentials::Password(Secret::from_file(password)?)),
            (Some(invite), None) => {
                let invite = Secret::from_file(invite)?;
                new_password(&mut terminal()?, invite)
            }
            (None, None) => prompted(&mut terminal()?, user, cluster),
        }
    }
}

fn terminal() -> Result<Prompt> {
    Prompt::open().ok_or_else(|| {
        fail(
            Exit::Usage,
            "There is no terminal to ask for the password. Use --password-file (and \
             --invite-file, to redeem an invite).",
        )
    })
}

fn prompted(prompt: &mut Prompt, user: &str, cluster: &str) -> Result<Credentials> {
    let user = crate::output::plain(user);
    let cluster = crate::output::plain(cluster);
    prompt.say(&format!("Logging in to {cluster} as {user}.\n"))?;
    let secret = prompt.secret("Password, or invite code: ")?;
    if secret.is_invite() {
        return new_password(prompt, secret);
    }
    Ok(Credentials::Password(secret))
}

fn new_password(prompt: &mut Prompt, invite: Secret) -> Result<Credentials> {
    for _ in 0..TRIES {
        let password = long_enough(prompt.secret("New password: ")?)?;
        let repeated = prompt.secret("Repeat it: ")?;
        if password.expose() == repeated.expose() {
            return Ok(Credentials::Invite { invite, password });
        }
        prompt.say("They differ.\n")?;
    }
    Err(fail(
        Exit::Usage,
        "The new passwords differ. Nothing was changed.",
    ))
}

fn long_enough(password: Secret) -> Result<Secret> {
    if password.expose().chars().count() < MIN_PASSWORD {
        let sentence = format!("A password needs at least {MIN_PASSWORD} characters.");
        return Err(fail(Exit::Usage, sentence));
    }
    Ok(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(password: Option<&str>, invite: Option<&str>) -> LoginArgs {
        LoginArgs {
            ca_pin: None,
            password_file: password.map(PathBuf::from),
            invite_file: invite.map(PathBuf::from),
            ttl: None,
            no_agent: true,
        }
    }

    #[test]
    fn standard_input_holds_one_secret_only() {
        let error = Source::new(&args(Some("-"), Some("-"))).unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Usage);
        assert!(Source::new(&args(Some("-"), Some("file"))).is_ok());
        assert!(Source::new(&args(Some("-"), None)).is_ok());
    }

    #[test]
    fn an_invite_with_a_password_file_needs_no_terminal() {
        let dir = tempfile::tempdir().unwrap();
        let (invite, password) = (dir.path().join("i"), dir.path().join("p"));
        std::fs::write(&invite, "tinv-abc\n").unwrap();
        std::fs::write(&password, "long enough\n").unwrap();
        let source = Source {
            password: Some(password.clone()),
            invite: Some(invite),
        };
        let read = source.read("ann", "lab").unwrap();
        assert_eq!(read.path(), "/v1/invite");
        assert_eq!(read.invite(), Some("tinv-abc"));
        assert_eq!(read.password(), "long enough");
        std::fs::write(&password, "short\n").unwrap();
        let error = source.read("ann", "lab").unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Usage);
    }
}

//! The user's key in ssh-agent, for as long as its certificate is good.
//!
//! `ssh-add` does the talking: it is there wherever an agent is, and knows them all. What fails
//! here is a warning: `tsh` itself needs no agent.

use std::process::Stdio;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::process::Command;
use tokio::time::timeout;

use crate::output;
use crate::profile::{Entry, Profile};

/// An agent may ask its user; past this, it is stuck.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whether ssh-agent is to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// It is.
    Yes,
    /// There is none, or the user does not want it.
    No,
}

impl Use {
    /// Uses the agent if one runs.
    pub(crate) fn unless(unwanted: bool) -> Self {
        let runs = std::env::var_os("SSH_AUTH_SOCK").is_some_and(|path| !path.is_empty());
        if runs && !unwanted {
            Self::Yes
        } else {
            Self::No
        }
    }

    /// The same, by the environment alone.
    pub(crate) fn from_env() -> Self {
        let value = std::env::var("TSH_NO_AGENT").unwrap_or_default();
        Self::unless(!matches!(
            value.to_ascii_lowercase().as_str(),
            "" | "0" | "f" | "false" | "n" | "no" | "off"
        ))
    }
}

/// Loads the key and its certificate.
pub(crate) async fn load(agent: Use, entry: &Entry, profile: &Profile) {
    let now = OffsetDateTime::now_utc();
    let left = profile.session.as_ref().map_or(0, |session| {
        output::age::between(now, session.expires).as_secs()
    });
    if agent == Use::No || left == 0 {
        return;
    }
    let args = ["-q", "-t", &left.to_string()];
    if let Err(why) = ssh_add(&args, entry).await {
        output::warn(&format!("the key is not in ssh-agent: {why}"));
    }
}

/// Takes the key and its certificate out again.
pub(crate) async fn unload(agent: Use, entry: &Entry) {
    if agent == Use::No || !entry.path("key.pub").exists() {
        return;
    }
    // It may well be gone already: agents forget, and are restarted.
    if let Err(why) = ssh_add(&["-q", "-d"], entry).await {
        output::debug(|| format!("the key was not in ssh-agent: {why}"));
    }
}

async fn ssh_add(args: &[&str], entry: &Entry) -> Result<(), String> {
    let output = Command::new("ssh-add")
        .args(args)
        .arg(entry.path("key"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, output)
        .await
        .map_err(|_| "it does not answer".to_owned())?
        .map_err(|error| format!("ssh-add: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("ssh-add says: {}", said.trim()))
}

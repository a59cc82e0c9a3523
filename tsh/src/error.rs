//! What went wrong, and the exit code that tells a script.
//!
//! Most errors are sentences with a cause behind them (`anyhow`). Those that a script may want to
//! tell apart carry a [`Failure`], whose [`Exit`] becomes the exit code of `tsh`. Codes never
//! change meaning; they count down from 255, the code OpenSSH uses, so as to stay clear of the
//! exit codes of remote programs.

use std::fmt;

use protocol::message::dial::DialRefusal;

/// Why `tsh` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Anything not listed here.
    Other = 1,
    /// Wrong arguments or configuration.
    Usage = 2,
    /// The session was kept without a link, and is over all the same.
    SessionOver = 243,
    /// The cluster has too much to do.
    Busy = 244,
    /// The proxy cannot be reached.
    Unreachable = 245,
    /// The peer is not who it should be.
    Untrusted = 246,
    /// The user is locked, or failed too often.
    Locked = 247,
    /// Wrong user, password or invite.
    BadCredentials = 248,
    /// No certificate, or an expired one.
    LoggedOut = 249,
    /// The node does not have that login.
    LoginUnavailable = 250,
    /// No role allows this.
    Denied = 251,
    /// The node has no link to the cluster.
    Offline = 252,
    /// Several nodes have that name.
    AmbiguousName = 253,
    /// No node has that name.
    UnknownNode = 254,
    /// The connection or the SSH protocol failed.
    ConnectionLost = 255,
}

impl Exit {
    /// The number for the shell.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// The code that belongs to an error.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        error
            .downcast_ref::<Failure>()
            .map_or(Self::Other, |failure| failure.exit)
    }
}

impl From<DialRefusal> for Exit {
    fn from(refusal: DialRefusal) -> Self {
        match refusal {
            DialRefusal::UnknownNode => Self::UnknownNode,
            DialRefusal::AmbiguousName => Self::AmbiguousName,
            DialRefusal::Offline => Self::Offline,
            DialRefusal::Denied => Self::Denied,
            DialRefusal::Locked => Self::Locked,
            DialRefusal::Busy => Self::Busy,
            DialRefusal::LoginUnavailable => Self::LoginUnavailable,
            DialRefusal::Internal | DialRefusal::NotResumable => Self::Other,
        }
    }
}

/// A sentence for the user and the exit code that goes with it.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    exit: Exit,
    sentence: String,
}

impl Failure {
    /// `sentence` says what happened and what to do next.
    pub(crate) fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self {
            exit,
            sentence: sentence.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Failure {}

/// A [`Failure`] as an error.
pub(crate) fn fail(exit: Exit, sentence: impl Into<String>) -> anyhow::Error {
    Failure::new(exit, sentence).into()
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn every_refused_dial_has_its_own_exit_code() {
        for (refusal, code) in [
            (DialRefusal::UnknownNode, 254),
            (DialRefusal::AmbiguousName, 253),
            (DialRefusal::Offline, 252),
            (DialRefusal::Denied, 251),
            (DialRefusal::LoginUnavailable, 250),
            (DialRefusal::Locked, 247),
            (DialRefusal::Busy, 244),
            (DialRefusal::Internal, 1),
        ] {
            assert_eq!(Exit::from(refusal).code(), code, "{refusal:?}");
        }
    }

    #[test]
    fn the_exit_code_is_found_under_and_over_other_context() {
        let inner = fail(Exit::Untrusted, "wrong CA").context("while logging in");
        assert_eq!(Exit::of(&inner), Exit::Untrusted);
        let outer = Err::<(), _>(std::io::Error::other("refused"))
            .context(Failure::new(Exit::Unreachable, "Cannot reach it"))
            .unwrap_err();
        assert_eq!(Exit::of(&outer), Exit::Unreachable);
        assert_eq!(format!("{outer:#}"), "Cannot reach it: refused");
    }

    #[test]
    fn an_error_without_a_code_exits_with_1() {
        assert_eq!(Exit::of(&anyhow::anyhow!("disk full")).code(), 1);
    }
}

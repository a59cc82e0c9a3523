//! How a command ends, as scripts see it.

use std::process::ExitCode;

/// Exit codes; part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// It did not work, for a reason of this machine.
    Failed = 1,
    /// The arguments, the configuration or the stored state are wrong.
    Usage = 2,
    /// The cluster said no.
    Refused = 3,
    /// The cluster does not answer.
    Unreachable = 4,
    /// What answers is not the cluster that the CA pin names.
    Untrusted = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed, and the exit code that says so.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) error: anyhow::Error,
}

impl Failure {
    pub(crate) fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit,
            error: error.into(),
        }
    }

    /// Wrong arguments, configuration or state; `text` is a sentence or several lines.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, anyhow::Error::msg(text.into()))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::new(Exit::Failed, error)
    }
}

//! The only printing: results to stdout, what went wrong to stderr.
//!
//! A reader that went away (`| head`) is no error, so failed writes are dropped.

use std::io::Write;

use crate::exit::Failure;

/// Prints a result.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints a line of a result.
pub(crate) fn line(text: &str) {
    print(&format!("{text}\n"));
}

/// Says why a command failed.
pub(crate) fn failure(failure: &Failure) {
    complain(&format!("tether-agent: {:#}\n", failure.error));
}

/// Writes a finished line to stderr in one piece, so that lines of several processes do not mix.
pub(crate) fn complain(line: &str) {
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

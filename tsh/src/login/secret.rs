//! Passwords and invites: erased when dropped, invisible in `Debug`.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use zeroize::Zeroizing;

use crate::error::{Exit, fail};

/// Longest line taken for a secret.
const MAX: usize = 4096;

/// Something nobody else may see.
pub(crate) struct Secret(Zeroizing<Vec<u8>>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Takes over text; nothing if it is not UTF-8.
    pub(crate) fn new(bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        std::str::from_utf8(&bytes).is_ok().then_some(Self(bytes))
    }

    /// The first line of a file, or of standard input for `-`.
    pub(crate) fn from_file(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            // Not through the standard library's buffer, which is never erased.
            let stdin = std::io::stdin().as_fd().try_clone_to_owned();
            let file = File::from(stdin.context("Cannot read standard input")?);
            return Self::from_reader(file, "standard input");
        }
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("Cannot read {name}"))?;
        Self::from_reader(file, &name)
    }

    fn from_reader(reader: impl Read, name: &str) -> Result<Self> {
        let line = first_line(reader).with_context(|| format!("Cannot read {name}"))?;
        Self::new(line)
            .filter(|secret| !secret.expose().is_empty())
            .ok_or_else(|| {
                let sentence = format!("There is no secret in the first line of {name}.");
                fail(Exit::Usage, sentence)
            })
    }

    /// The secret itself.
    pub(crate) fn expose(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Whether this is an invite rather than a password.
    pub(crate) fn is_invite(&self) -> bool {
        self.expose().starts_with("tinv-")
    }
}

/// Reads up to the end of a line and no further: what follows is not ours, and may never come.
fn first_line(mut reader: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // Full size at once: a buffer that grew would leave copies behind.
    let mut line = Zeroizing::new(Vec::with_capacity(MAX));
    let mut next = Zeroizing::new([0]);
    while line.len() < MAX && reader.read(&mut *next)? > 0 {
        let [byte] = *next;
        if byte == b'\n' {
            break;
        }
        line.push(byte);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Secret> {
        Secret::from_reader(text.as_bytes(), "here")
    }

    #[test]
    fn the_first_line_counts_without_its_end() {
        for text in ["pass word ", "pass word \n", "pass word \r\nmore"] {
            assert_eq!(read(text).unwrap().expose(), "pass word ");
        }
    }

    #[test]
    fn what_comes_behind_the_first_line_is_left_alone() {
        let mut reader = io::Cursor::new(b"secret\nrest");
        Secret::from_reader(&mut reader, "here").unwrap();
        assert_eq!(reader.position(), 7);
    }

    #[test]
    fn an_empty_file_is_named() {
        let error = read("\nsecond").unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Usage);
        assert!(error.to_string().contains("here"));
    }

    #[test]
    fn secrets_do_not_show_in_debug() {
        assert_eq!(format!("{:?}", read("hunter22").unwrap()), "Secret");
    }
}

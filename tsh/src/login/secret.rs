//! Passwords and invites: erased when dropped, invisible in `Debug`.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use zeroize::{Zeroize, Zeroizing};

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
            return Self::from_reader(std::io::stdin().lock(), "standard input");
        }
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("Cannot read {name}"))?;
        Self::from_reader(file, &name)
    }

    fn from_reader(reader: impl Read, name: &str) -> Result<Self> {
        // Full size at once: a buffer that grew would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * MAX));
        let mut reader = reader.take(MAX as u64);
        reader
            .read_to_end(&mut bytes)
            .with_context(|| format!("Cannot read {name}"))?;
        first_line(&mut bytes);
        Self::new(bytes)
            .filter(|secret| !secret.expose().is_empty())
            .ok_or_else(|| fail(Exit::Usage, format!("There is no secret in the first line of {name}.")))
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

fn first_line(bytes: &mut Zeroizing<Vec<u8>>) {
    let end = bytes.iter().position(|&b| b == b'\n').unwrap_or(bytes.len());
    if let Some(rest) = bytes.get_mut(end..) {
        rest.zeroize();
    }
    bytes.truncate(end);
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
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

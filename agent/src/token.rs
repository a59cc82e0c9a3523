//! The join token: a secret that wipes itself from memory and shows up nowhere.

use std::fmt;
use std::io::Read;
use std::path::Path;

use anyhow::Context;
use zeroize::Zeroizing;

/// What a join request can carry; see [`protocol::message::join::Secret`].
const MAX: usize = 128;

/// A join token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(Zeroizing<String>);

impl Token {
    /// Takes a token over, without the blanks and the line end around it.
    pub(crate) fn new(text: String) -> Self {
        let text = Zeroizing::new(text);
        Self(Zeroizing::new(text.trim().to_owned()))
    }

    /// Reads a token from a file, or from standard input if the path is `-`.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = if path == Path::new("-") {
            bounded(std::io::stdin().lock()).context("cannot read the token from standard input")?
        } else {
            std::fs::File::open(path)
                .and_then(bounded)
                .with_context(|| format!("cannot read the token file {}", path.display()))?
        };
        let token = Self::new(text);
        token
            .check()
            .with_context(|| format!("the token file {}", path.display()))?;
        Ok(token)
    }

    /// Whether it can be a token at all.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        match self.0.len() {
            0 => anyhow::bail!("the token is empty"),
            1..=MAX => Ok(()),
            _ => anyhow::bail!("the token is too long: expected at most {MAX} characters"),
        }
    }

    /// The token itself, to be sent to the cluster.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// A file given by mistake may be large; one byte more than can be right is enough to tell.
fn bounded(source: impl Read) -> std::io::Result<String> {
    const MOST: u64 = 4096;
    let mut text = String::new();
    source.take(MOST).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> anyhow::Result<Token> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        Token::read(file.path())
    }

    #[test]
    fn a_token_file_may_end_its_line() {
        assert_eq!(read(b" secret\r\n").unwrap().expose(), "secret");
    }

    #[test]
    fn what_cannot_be_a_token_is_refused() {
        for bytes in [&b""[..], b"\n", &[b'x'; 200], &[0xff; 4]] {
            assert!(read(bytes).is_err());
        }
        assert!(Token::read(Path::new("/nonexistent/token")).is_err());
    }

    #[test]
    fn it_never_shows() {
        assert_eq!(format!("{:?}", Token::new("s3cret".into())), "Token");
    }
}

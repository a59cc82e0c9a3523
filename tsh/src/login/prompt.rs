//! Questions to the user, on the terminal itself, so that standard input and output stay free for
//! data. Secrets are read without echo.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use nix::sys::termios::{
    LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};
use zeroize::Zeroizing;

use super::secret::Secret;
use crate::error::{Exit, fail};

/// A terminal with a user in front of it.
#[derive(Debug)]
pub(crate) struct Prompt {
    terminal: File,
}

impl Prompt {
    /// The user's terminal. There is none if nobody would see the question: in scripts, whose
    /// standard error is a file or a pipe, and where no terminal controls the process.
    pub(crate) fn open() -> Option<Self> {
        if !std::io::stderr().is_terminal() {
            return None;
        }
        let terminal = File::options().read(true).write(true).open("/dev/tty");
        terminal.ok().map(|terminal| Self { terminal })
    }

    /// Says something.
    pub(crate) fn say(&mut self, text: &str) -> Result<()> {
        self.terminal
            .write_all(text.as_bytes())
            .context("Cannot write to the terminal")
    }

    /// Asks for a line.
    pub(crate) fn ask(&mut self, question: &str) -> Result<String> {
        self.say(question)?;
        let mut line = String::new();
        let read = BufReader::new(&self.terminal).read_line(&mut line);
        match read.context("Cannot read from the terminal")? {
            0 => Err(cancelled()),
            _ => Ok(line),
        }
    }

    /// Asks for a secret.
    pub(crate) fn secret(&mut self, question: &str) -> Result<Secret> {
        let silence = Silence::over(&self.terminal)?;
        (&self.terminal).write_all(question.as_bytes())?;
        let line = read_secret(&self.terminal);
        drop(silence);
        self.say("\n")?;
        Secret::new(line?).ok_or_else(|| fail(Exit::Usage, "That is not text."))
    }
}

fn cancelled() -> anyhow::Error {
    fail(Exit::Other, "Cancelled.")
}

fn read_secret(mut terminal: &File) -> Result<Zeroizing<Vec<u8>>> {
    let mut line = Line::default();
    let mut key = Zeroizing::new([0]);
    while terminal
        .read(&mut *key)
        .context("Cannot read from the terminal")?
        > 0
    {
        let [byte] = *key;
        match line.press(byte) {
            Progress::More => {}
            Progress::Done => return Ok(line.typed),
            Progress::Cancelled => break,
        }
    }
    Err(cancelled())
}

/// A terminal that does not echo, until dropped. It does not send signals either: Ctrl-C must
/// come here, or it would end the process and leave the terminal silent.
struct Silence<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Silence<'a> {
    fn over(terminal: &'a File) -> Result<Self> {
        let before = tcgetattr(terminal.as_fd()).context("Cannot silence the terminal")?;
        let mut silent = before.clone();
        silent.local_flags &= !(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG);
        for (index, value) in [
            (SpecialCharacterIndices::VMIN, 1),
            (SpecialCharacterIndices::VTIME, 0),
        ] {
            if let Some(cell) = silent.control_chars.get_mut(index as usize) {
                *cell = value;
            }
        }
        // What was typed ahead was not meant as a secret, and was seen.
        tcsetattr(terminal.as_fd(), SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal.as_fd(), SetArg::TCSADRAIN, &self.before);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    More,
    Done,
    Cancelled,
}

/// Longest secret typed, and the size of its buffer, which must not grow: it would leave copies.
const MAX: usize = 1024;

/// A line being typed, with the editing that a terminal does otherwise.
struct Line {
    typed: Zeroizing<Vec<u8>>,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            typed: Zeroizing::new(Vec::with_capacity(MAX)),
        }
    }
}

impl Line {
    fn press(&mut self, key: u8) -> Progress {
        match key {
            b'\r' | b'\n' => return Progress::Done,
            0x03 => return Progress::Cancelled,
            0x04 if self.typed.is_empty() => return Progress::Cancelled,
            0x04 => return Progress::Done,
            0x08 | 0x7f => self.erase(),
            0x15 => self.typed.clear(),
            0x20.. if self.typed.len() < MAX => self.typed.push(key),
            _ => {}
        }
        Progress::More
    }

    /// Takes back one character, however many bytes it has.
    fn erase(&mut self) {
        while let Some(byte) = self.typed.pop() {
            if byte & 0b1100_0000 != 0b1000_0000 {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8]) -> (Option<String>, Progress) {
        let mut line = Line::default();
        let mut progress = Progress::More;
        for &key in keys {
            progress = line.press(key);
        }
        (String::from_utf8(line.typed.to_vec()).ok(), progress)
    }

    #[test]
    fn a_line_can_be_edited_unseen() {
        for (keys, expected) in [
            (&b"abc\r"[..], "abc"),
            (b"abx\x7fc\n", "abc"),
            ("aü\u{7f}b\r".as_bytes(), "ab"),
            (b"wrong\x15right\r", "right"),
            (b"a\x1bb\x04", "ab"),
        ] {
            assert_eq!(typed(keys), (Some(expected.to_owned()), Progress::Done));
        }
    }

    #[test]
    fn ctrl_c_and_an_early_ctrl_d_cancel() {
        assert_eq!(typed(b"ab\x03").1, Progress::Cancelled);
        assert_eq!(typed(b"\x04").1, Progress::Cancelled);
    }

    #[test]
    fn the_buffer_never_grows() {
        let mut line = Line::default();
        (0..5000).for_each(|_| {
            line.press(b'x');
        });
        assert_eq!(line.typed.len(), MAX);
    }
}

//! What a `~` at the start of a line means, as in OpenSSH.
//!
//! The machine is fed what is typed and says what to send and what to do. A `~` is held back
//! until the key after it is known.
//!
//! ```text
//!            newline                  '~'
//!   Middle ───────────► LineStart ──────────► Tilde
//!     ▲  ▲                 │ other             │ '.' disconnect   '?' help, back to LineStart
//!     │  └─────────────────┘                   │ '~' sends one '~'
//!     └────────────────────────────────────────┘ other: sends both
//! ```

/// What `~?` shows.
pub(super) const HELP: &str = "\
Supported escape sequences:\r\n \
~.   - end the connection\r\n \
~?   - this message\r\n \
~~   - send the escape character\r\n\
(Escapes are only recognized at the start of a line.)\r\n";

const ESCAPE: u8 = b'~';

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    LineStart,
    Tilde,
    Middle,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// End the connection.
    Disconnect,
    /// Show [`HELP`].
    Help,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Escapes {
    state: State,
}

impl Escapes {
    /// A session starts at the start of a line.
    pub(super) const fn new() -> Self {
        Self {
            state: State::LineStart,
        }
    }

    /// Takes what was typed, until a command is complete. Appends what to send to `out`; gives the
    /// command and what was typed behind it.
    pub(super) fn feed<'a>(
        &mut self,
        typed: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Option<(Command, &'a [u8])> {
        let mut rest = typed;
        while let Some((&key, behind)) = rest.split_first() {
            rest = behind;
            if let Some(command) = self.press(key, out) {
                return Some((command, rest));
            }
        }
        None
    }

    fn press(&mut self, key: u8, out: &mut Vec<u8>) -> Option<Command> {
        match (self.state, key) {
            (State::LineStart, ESCAPE) => {
                self.state = State::Tilde;
                return None;
            }
            (State::Tilde, b'.') => {
                self.state = State::LineStart;
                return Some(Command::Disconnect);
            }
            (State::Tilde, b'?') => {
                self.state = State::LineStart;
                return Some(Command::Help);
            }
            (State::Tilde, ESCAPE) => {}
            (State::Tilde, _) => out.push(ESCAPE),
            _ => {}
        }
        out.push(key);
        self.state = match key {
            b'\r' | b'\n' => State::LineStart,
            _ => State::Middle,
        };
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds in pieces of `size`; gives what is sent and the commands met.
    fn run(typed: &[u8], size: usize) -> (Vec<u8>, Vec<Command>) {
        let mut escapes = Escapes::new();
        let (mut out, mut commands) = (Vec::new(), Vec::new());
        for mut piece in typed.chunks(size) {
            while let Some((command, rest)) = escapes.feed(piece, &mut out) {
                commands.push(command);
                piece = rest;
            }
        }
        (out, commands)
    }

    #[test]
    fn escapes_work_at_the_start_of_a_line_only() {
        use Command::{Disconnect, Help};
        for (typed, sent, commands) in [
            (&b"~."[..], &b""[..], &[Disconnect][..]),
            (b"~?", b"", &[Help]),
            (b"~?~.", b"", &[Help, Disconnect]),
            (b"ls\r~.", b"ls\r", &[Disconnect]),
            (b"ls\n~.", b"ls\n", &[Disconnect]),
            (b"ls ~.", b"ls ~.", &[]),
            (b"~~.", b"~.", &[]),
            (b"~~~.", b"~~.", &[]),
            (b"~x", b"~x", &[]),
            (b"~\r~.", b"~\r", &[Disconnect]),
            (b"cd ~/x\r", b"cd ~/x\r", &[]),
            (b"~", b"", &[]),
        ] {
            for size in [1, 2, 100] {
                assert_eq!(
                    run(typed, size),
                    (sent.to_vec(), commands.to_vec()),
                    "{typed:?} by {size}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_escape_passes_unchanged() {
        let all: Vec<u8> = (0..=255).filter(|&byte| byte != ESCAPE).collect();
        assert_eq!(run(&all, 7), (all, vec![]));
    }
}

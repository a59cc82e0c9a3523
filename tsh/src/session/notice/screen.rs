//! What has to be known of a terminal's screen to write on it between two pieces of somebody else's
//! output, without holding the screen itself: whether the output stopped in the middle of a
//! character or a control sequence (ECMA-48 §5.4), and which modes it has set.

/// Parameters longer than this belong to no mode that is looked for.
const LONGEST: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Between two characters.
    Ground,
    /// In a character that has so many bytes left.
    Character(u8),
    /// Behind ESC.
    Escape,
    /// Behind ESC and an intermediate byte.
    Intermediate,
    /// Behind CSI, with what came since.
    Control(Vec<u8>),
    /// In a title or another string.
    Text,
    /// The same, behind ESC.
    TextEscape,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Screen {
    state: State,
    /// Whether the alternate screen is in use, as full-screen programs do.
    pub(super) alternate: bool,
    /// Whether text goes on in the next row behind the last column.
    pub(super) wraps: bool,
}

impl Screen {
    /// A terminal in front of which a shell waited.
    pub(super) const fn new() -> Self {
        Self {
            state: State::Ground,
            alternate: false,
            wraps: true,
        }
    }

    /// Whether what is written now stands for itself.
    pub(super) fn is_between(&self) -> bool {
        self.state == State::Ground
    }

    /// Takes note of output.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        loop {
            if self.state == State::Ground {
                // Most output is plain text.
                let plain = bytes.iter().take_while(|&&b| b != ESC && b < 0x80).count();
                bytes = bytes.get(plain..).unwrap_or_default();
            }
            let Some((&byte, rest)) = bytes.split_first() else {
                return;
            };
            self.take(byte);
            bytes = rest;
        }
    }

    fn take(&mut self, byte: u8) {
        let state = std::mem::replace(&mut self.state, State::Ground);
        self.state = match (state, byte) {
            (State::Text, ESC) => State::TextEscape,
            (_, ESC) => State::Escape,
            (State::Text, BEL | CAN | SUB) => State::Ground,
            (State::Text, _) => State::Text,
            (State::TextEscape, b'\\') => State::Ground,
            (State::TextEscape | State::Escape, _) => self.escape(byte),
            (State::Intermediate, 0x20..=0x2f) => State::Intermediate,
            (State::Control(parameters), _) => self.control(parameters, byte),
            (State::Character(left @ 2..), 0x80..=0xbf) => State::Character(left - 1),
            (State::Character(_), 0x80..=0xbf) => State::Ground,
            (_, 0xc2..=0xdf) => State::Character(1),
            (_, 0xe0..=0xef) => State::Character(2),
            (_, 0xf0..=0xf4) => State::Character(3),
            _ => State::Ground,
        };
    }

    fn escape(&mut self, byte: u8) -> State {
        match byte {
            b'[' => State::Control(Vec::new()),
            b']' | b'P' | b'X' | b'^' | b'_' => State::Text,
            0x20..=0x2f => State::Intermediate,
            CAN | SUB => State::Ground,
            // Other control characters do what they do anywhere.
            0..=0x1f => State::Escape,
            b'c' => {
                *self = Self::new();
                State::Ground
            }
            _ => State::Ground,
        }
    }

    fn control(&mut self, mut parameters: Vec<u8>, byte: u8) -> State {
        match byte {
            CAN | SUB => State::Ground,
            0..=0x1f => State::Control(parameters),
            0x20..=0x3f => {
                if parameters.len() < LONGEST {
                    parameters.push(byte);
                }
                State::Control(parameters)
            }
            b'h' | b'l' => {
                self.set_modes(&parameters, byte == b'h');
                State::Ground
            }
            _ => State::Ground,
        }
    }

    /// DEC's private modes, as xterm numbers them.
    fn set_modes(&mut self, parameters: &[u8], on: bool) {
        let Some((b'?', modes)) = parameters.split_first() else {
            return;
        };
        for mode in modes.split(|&byte| byte == b';') {
            match mode {
                b"7" => self.wraps = on,
                b"47" | b"1047" | b"1049" => self.alternate = on,
                _ => {}
            }
        }
    }
}

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;
/// Both break a sequence off.
const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;

#[cfg(test)]
mod tests {
    use super::*;

    fn after(output: &[u8]) -> Screen {
        let mut screen = Screen::new();
        screen.feed(output);
        screen
    }

    #[test]
    fn output_may_stop_anywhere() {
        for whole in [
            &b"plain\r\n"[..],
            "müsli €uro 😀".as_bytes(),
            b"\x1b[31mred\x1b[0m",
            b"\x1b[?2004h\x1b]0;title\x07$ ",
            b"\x1b]0;title \xc3\xbc\x1b\\$ ",
            b"\x1bPq#0;2\x1b\\",
            b"\x1b(0\x1b)B\x1b7\x1b8\x1b=",
            b"\x1b[38;2;1;2;3m\x1b[4:3m",
        ] {
            assert!(after(whole).is_between(), "{whole:?}");
            let mut bytewise = Screen::new();
            whole.chunks(1).for_each(|byte| bytewise.feed(byte));
            assert!(bytewise.is_between(), "{whole:?} byte by byte");
        }
        for torn in [
            &b"x\x1b"[..],
            b"\x1b[",
            b"\x1b[38;2;1",
            b"\x1b[?",
            b"\x1b(",
            b"\x1b]0;tit",
            b"\x1b]0;title\x1b",
            b"\x1bPq#0;2",
            b"\xc3",
            b"\xe2\x82",
            b"\xf0\x9f\x98",
        ] {
            assert!(!after(torn).is_between(), "{torn:?}");
        }
    }

    #[test]
    fn what_is_no_sequence_does_not_last() {
        for odd in [
            &b"\x1b[31\x18x"[..],
            b"\x1b]0;title\x1ax",
            b"\x1b\x1b[m",
            b"\xc3x",
            b"\xff\xfe",
            b"\xe4 latin",
        ] {
            assert!(after(odd).is_between(), "{odd:?}");
        }
        // A newline within a sequence is done at once, and the sequence goes on.
        assert!(!after(b"\x1b[3\n").is_between());
    }

    #[test]
    fn programs_that_fill_the_screen_are_known() {
        for enter in [
            &b"\x1b[?1049h"[..],
            b"\x1b[?47h",
            b"\x1b[?1h\x1b[?12;1047;25h",
        ] {
            assert!(after(enter).alternate, "{enter:?}");
        }
        for leave in [
            &b"\x1b[?1049h\x1b[?1049l"[..],
            b"\x1b[?1049h\x1bc",
            b"\x1b[1049h",
            b"\x1b[?1049$p",
            b"\x1b]0;[?1049h\x07",
        ] {
            assert!(!after(leave).alternate, "{leave:?}");
        }
        assert!(!after(b"\x1b[?7l").wraps);
        assert!(after(b"\x1b[?7l\x1b[?7h").wraps);
    }

    #[test]
    fn endless_parameters_are_not_kept() {
        let mut screen = after(b"\x1b[?");
        screen.feed(&vec![b'1'; 1 << 20]);
        let State::Control(kept) = &screen.state else {
            panic!("{:?}", screen.state);
        };
        assert_eq!(kept.len(), LONGEST);
        screen.feed(b"h");
        assert!(screen.is_between() && !screen.alternate);
    }
}

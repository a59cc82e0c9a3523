//! One line on the terminal while the link is lost, that leaves no trace.
//!
//! The screen belongs to the node, and is not known here: whatever is written over is gone. So the
//! line goes where nothing is lost, or where the node can be asked to draw again.
//!
//! * Behind the cursor, in its row: what a command has printed ends there, and what a line editor
//!   has there is drawn anew with the line. Nothing wraps or scrolls.
//! * In the last row, if a program fills the screen: such programs draw everything anew when the
//!   window changes.
//!
//! The terminal itself keeps the cursor, its colours and its character set meanwhile (DECSC). The
//! line is taken away as soon as anything comes from the node. After that the node is told of
//! another window for a moment, so that programs draw what was under it ([`OtherWindow`]).
//!
//! Nothing is written while the node's output stops within a character or a sequence. What comes
//! here was never drawn by the node, so it must hold nothing that came from it.

use std::time::Duration;

use bytes::Bytes;

use crate::output::age::span;

mod screen;

use screen::Screen;

/// Cursor, colours and character set are kept, and text does not wrap.
const BEGIN: &str = "\x1b7\x1b[?7l";
/// To the last row, however many there are.
const LAST_ROW: &str = "\x1b[999;1H";
/// A space between what was typed and the line.
const BEHIND_CURSOR: &str = "\x1b[2C";
/// Clears the rest of the row, without colours.
const CLEAR: &str = "\x1b[m\x1b[K";
const REVERSE: &str = "\x1b[7m";
const PLAIN: &str = "\x1b[m";
const WRAP: &str = "\x1b[?7h";
const END: &str = "\x1b8";
/// What a program that fills the screen undoes at its end: the alternate screen, a hidden cursor,
/// keys and mouse as sequences, marked pastes, colours.
const LEAVE: &str = "\x1b[?1000;1002;1003;1004;1006;2004l\x1b[?1l\x1b>\x1b[?25h\x1b[?1049l\x1b[m";

/// What differs in the window that the node is told of for a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OtherWindow {
    /// A row less, which changes nothing for who edits a line.
    Row,
    /// A column less, which lets no program that fills the screen scroll.
    Column,
}

/// The line, and what is known of the screen.
#[derive(Debug)]
pub(super) struct Notice {
    screen: Screen,
    /// In which screen it is drawn, if it is.
    shown: Option<bool>,
    used: bool,
}

impl Notice {
    pub(super) const fn new() -> Self {
        Self {
            screen: Screen::new(),
            shown: None,
            used: false,
        }
    }

    /// Takes note of output, before it is written; gives what has to be written before it.
    pub(super) fn before(&mut self, output: &[u8]) -> Option<Bytes> {
        let hide = self.hide();
        self.screen.feed(output);
        hide
    }

    /// Draws the line, or draws it anew.
    pub(super) fn show(&mut self, text: &str) -> Option<Bytes> {
        if !self.screen.is_between() {
            return None;
        }
        self.shown = Some(self.screen.alternate);
        self.used = true;
        let place = if self.screen.alternate {
            [LAST_ROW, CLEAR, ""]
        } else {
            ["", CLEAR, BEHIND_CURSOR]
        };
        Some(self.around(&[&place[..], &[REVERSE, " ", text, " ", PLAIN]].concat()))
    }

    /// Takes the line away.
    pub(super) fn hide(&mut self) -> Option<Bytes> {
        let place = if self.shown.take()? { LAST_ROW } else { "" };
        Some(self.around(&[place, CLEAR]))
    }

    /// What makes the node draw anew what was under the line, if it was drawn since the last time.
    pub(super) fn redraw(&mut self) -> Option<OtherWindow> {
        let used = std::mem::take(&mut self.used);
        used.then_some(if self.screen.alternate {
            OtherWindow::Column
        } else {
            OtherWindow::Row
        })
    }

    /// What gives the terminal back that a program had for itself when it was cut off for good.
    pub(super) fn give_back(&self) -> Option<&'static str> {
        self.screen.alternate.then_some(LEAVE)
    }

    fn around(&self, parts: &[&str]) -> Bytes {
        let wrap = if self.screen.wraps { WRAP } else { "" };
        [&[BEGIN], parts, &[wrap, END]].concat().concat().into()
    }
}

/// What the line says.
pub(super) fn text(lost_for: Duration, left: Duration) -> String {
    let (lost_for, left) = (span(lost_for), span(left));
    format!("link lost {lost_for} ago, session kept, {left} left")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(notice: &mut Notice) -> String {
        let bytes = notice.show("gone").map(|bytes| bytes.to_vec());
        String::from_utf8(bytes.unwrap_or_default()).unwrap()
    }

    #[test]
    fn behind_a_prompt_it_is_drawn_in_the_cursors_row_and_cleared_there() {
        let mut notice = Notice::new();
        assert_eq!(notice.before(b"$ ls"), None);
        assert_eq!(
            shown(&mut notice),
            "\x1b7\x1b[?7l\x1b[m\x1b[K\x1b[2C\x1b[7m gone \x1b[m\x1b[?7h\x1b8"
        );
        let hide = notice.before(b"\r\n").unwrap();
        assert_eq!(hide, "\x1b7\x1b[?7l\x1b[m\x1b[K\x1b[?7h\x1b8");
        assert_eq!(notice.before(b"$ "), None, "once");
        assert_eq!(notice.redraw(), Some(OtherWindow::Row));
        assert_eq!(notice.redraw(), None);
    }

    #[test]
    fn over_a_program_that_fills_the_screen_it_is_in_the_last_row() {
        let mut notice = Notice::new();
        notice.before(b"\x1b[?1049h\x1b[?7l~\r\n~");
        let drawn = shown(&mut notice);
        assert!(drawn.contains("\x1b[999;1H\x1b[m\x1b[K\x1b[7m gone "));
        assert!(!drawn.contains(WRAP), "the program wants it so");
        let hide = notice.hide().unwrap();
        assert_eq!(hide, "\x1b7\x1b[?7l\x1b[999;1H\x1b[m\x1b[K\x1b8");
        assert_eq!(notice.hide(), None);
        assert_eq!(notice.redraw(), Some(OtherWindow::Column));
    }

    #[test]
    fn it_is_taken_away_where_it_was_drawn() {
        let mut notice = Notice::new();
        shown(&mut notice);
        let hide = notice.before(b"\x1b[?1049h").unwrap();
        assert!(!String::from_utf8_lossy(&hide).contains(LAST_ROW));
    }

    #[test]
    fn nothing_is_written_into_a_sequence() {
        let mut notice = Notice::new();
        notice.before(b"\x1b[3");
        assert_eq!(notice.show("gone"), None);
        assert_eq!(notice.before(b"1m"), None);
        assert_eq!(notice.redraw(), None);
        assert!(notice.show("gone").is_some());
    }

    #[test]
    fn only_a_program_that_had_the_terminal_leaves_something_to_give_back() {
        let mut notice = Notice::new();
        assert_eq!(notice.give_back(), None);
        notice.before(b"\x1b[?1049h");
        assert!(notice.give_back().unwrap().contains("\x1b[?1049l"));
        notice.before(b"\x1b[?1049l");
        assert_eq!(notice.give_back(), None);
    }

    #[test]
    fn it_says_since_when_and_for_how_long() {
        let text = text(Duration::from_secs(12), Duration::from_secs(588));
        assert_eq!(text, "link lost 12 s ago, session kept, 9 min left");
    }
}

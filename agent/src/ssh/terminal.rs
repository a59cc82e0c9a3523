//! Terminal modes that a client asks for (RFC 4254 §8), applied to a pty.

use nix::sys::termios::{
    ControlFlags, InputFlags, LocalFlags, OutputFlags, SpecialCharacterIndices as Char, Termios,
};
use russh::Pty;

/// A terminal that a client asked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Its kind, for `TERM`.
    pub(super) term: String,
    /// Columns, rows, and pixels of both.
    pub(super) size: Size,
    /// Modes.
    pub(super) modes: Vec<(Pty, u32)>,
}

/// A terminal's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// Characters across.
    pub(super) columns: u32,
    /// Lines.
    pub(super) rows: u32,
    /// Pixels across.
    pub(super) width: u32,
    /// Pixels down.
    pub(super) height: u32,
}

impl From<Size> for nix::pty::Winsize {
    fn from(size: Size) -> Self {
        let small = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
        Self {
            ws_row: small(size.rows),
            ws_col: small(size.columns),
            ws_xpixel: small(size.width),
            ws_ypixel: small(size.height),
        }
    }
}

/// Applies modes; those that this system does not have are passed over.
pub(super) fn apply(modes: &[(Pty, u32)], termios: &mut Termios) {
    for &(mode, value) in modes {
        if let Some(index) = character(mode) {
            if let Some(slot) = termios.control_chars.get_mut(index as usize) {
                // 255 stands for "none" on the wire, 0 does here (`_POSIX_VDISABLE`).
                *slot = u8::try_from(value).ok().filter(|&c| c != 255).unwrap_or(0);
            }
        } else {
            flag(mode, value != 0, termios);
        }
    }
}

fn character(mode: Pty) -> Option<Char> {
    Some(match mode {
        Pty::VINTR => Char::VINTR,
        Pty::VQUIT => Char::VQUIT,
        Pty::VERASE => Char::VERASE,
        Pty::VKILL => Char::VKILL,
        Pty::VEOF => Char::VEOF,
        Pty::VEOL => Char::VEOL,
        Pty::VEOL2 => Char::VEOL2,
        Pty::VSTART => Char::VSTART,
        Pty::VSTOP => Char::VSTOP,
        Pty::VSUSP => Char::VSUSP,
        Pty::VREPRINT => Char::VREPRINT,
        Pty::VWERASE => Char::VWERASE,
        Pty::VLNEXT => Char::VLNEXT,
        _ => return None,
    })
}

fn flag(mode: Pty, on: bool, termios: &mut Termios) {
    let (input, output) = (&mut termios.input_flags, &mut termios.output_flags);
    let (local, control) = (&mut termios.local_flags, &mut termios.control_flags);
    match mode {
        Pty::IGNPAR => input.set(InputFlags::IGNPAR, on),
        Pty::PARMRK => input.set(InputFlags::PARMRK, on),
        Pty::INPCK => input.set(InputFlags::INPCK, on),
        Pty::ISTRIP => input.set(InputFlags::ISTRIP, on),
        Pty::INLCR => input.set(InputFlags::INLCR, on),
        Pty::IGNCR => input.set(InputFlags::IGNCR, on),
        Pty::ICRNL => input.set(InputFlags::ICRNL, on),
        Pty::IXON => input.set(InputFlags::IXON, on),
        Pty::IXANY => input.set(InputFlags::IXANY, on),
        Pty::IXOFF => input.set(InputFlags::IXOFF, on),
        Pty::IMAXBEL => input.set(InputFlags::IMAXBEL, on),
        Pty::IUTF8 => input.set(InputFlags::IUTF8, on),
        Pty::ISIG => local.set(LocalFlags::ISIG, on),
        Pty::ICANON => local.set(LocalFlags::ICANON, on),
        Pty::ECHO => local.set(LocalFlags::ECHO, on),
        Pty::ECHOE => local.set(LocalFlags::ECHOE, on),
        Pty::ECHOK => local.set(LocalFlags::ECHOK, on),
        Pty::ECHONL => local.set(LocalFlags::ECHONL, on),
        Pty::NOFLSH => local.set(LocalFlags::NOFLSH, on),
        Pty::TOSTOP => local.set(LocalFlags::TOSTOP, on),
        Pty::IEXTEN => local.set(LocalFlags::IEXTEN, on),
        Pty::ECHOCTL => local.set(LocalFlags::ECHOCTL, on),
        Pty::ECHOKE => local.set(LocalFlags::ECHOKE, on),
        Pty::OPOST => output.set(OutputFlags::OPOST, on),
        Pty::ONLCR => output.set(OutputFlags::ONLCR, on),
        Pty::OCRNL => output.set(OutputFlags::OCRNL, on),
        Pty::ONOCR => output.set(OutputFlags::ONOCR, on),
        Pty::ONLRET => output.set(OutputFlags::ONLRET, on),
        Pty::PARENB => control.set(ControlFlags::PARENB, on),
        Pty::PARODD => control.set(ControlFlags::PARODD, on),
        _ => {}
    }
}

//! The settings of a terminal as SSH encodes them (RFC 4254 §8).

use nix::sys::termios::{
    ControlFlags, InputFlags, LocalFlags, OutputFlags, SpecialCharacterIndices, Termios,
};
use russh::Pty;

/// A special character that is switched off.
const DISABLED: u32 = 255;

/// What is sent as the speed: remote terminals are not slowed down by it.
const SPEED: u32 = 38_400;

const CHARACTERS: [(Pty, SpecialCharacterIndices); 13] = [
    (Pty::VINTR, SpecialCharacterIndices::VINTR),
    (Pty::VQUIT, SpecialCharacterIndices::VQUIT),
    (Pty::VERASE, SpecialCharacterIndices::VERASE),
    (Pty::VKILL, SpecialCharacterIndices::VKILL),
    (Pty::VEOF, SpecialCharacterIndices::VEOF),
    (Pty::VEOL, SpecialCharacterIndices::VEOL),
    (Pty::VEOL2, SpecialCharacterIndices::VEOL2),
    (Pty::VSTART, SpecialCharacterIndices::VSTART),
    (Pty::VSTOP, SpecialCharacterIndices::VSTOP),
    (Pty::VSUSP, SpecialCharacterIndices::VSUSP),
    (Pty::VREPRINT, SpecialCharacterIndices::VREPRINT),
    (Pty::VWERASE, SpecialCharacterIndices::VWERASE),
    (Pty::VLNEXT, SpecialCharacterIndices::VLNEXT),
];

const INPUT: [(Pty, InputFlags); 11] = [
    (Pty::IGNPAR, InputFlags::IGNPAR),
    (Pty::PARMRK, InputFlags::PARMRK),
    (Pty::INPCK, InputFlags::INPCK),
    (Pty::ISTRIP, InputFlags::ISTRIP),
    (Pty::INLCR, InputFlags::INLCR),
    (Pty::IGNCR, InputFlags::IGNCR),
    (Pty::ICRNL, InputFlags::ICRNL),
    (Pty::IXON, InputFlags::IXON),
    (Pty::IXANY, InputFlags::IXANY),
    (Pty::IXOFF, InputFlags::IXOFF),
    (Pty::IMAXBEL, InputFlags::IMAXBEL),
];

const LOCAL: [(Pty, LocalFlags); 11] = [
    (Pty::ISIG, LocalFlags::ISIG),
    (Pty::ICANON, LocalFlags::ICANON),
    (Pty::ECHO, LocalFlags::ECHO),
    (Pty::ECHOE, LocalFlags::ECHOE),
    (Pty::ECHOK, LocalFlags::ECHOK),
    (Pty::ECHONL, LocalFlags::ECHONL),
    (Pty::NOFLSH, LocalFlags::NOFLSH),
    (Pty::TOSTOP, LocalFlags::TOSTOP),
    (Pty::IEXTEN, LocalFlags::IEXTEN),
    (Pty::ECHOCTL, LocalFlags::ECHOCTL),
    (Pty::ECHOKE, LocalFlags::ECHOKE),
];

const OUTPUT: [(Pty, OutputFlags); 5] = [
    (Pty::OPOST, OutputFlags::OPOST),
    (Pty::ONLCR, OutputFlags::ONLCR),
    (Pty::OCRNL, OutputFlags::OCRNL),
    (Pty::ONOCR, OutputFlags::ONOCR),
    (Pty::ONLRET, OutputFlags::ONLRET),
];

/// All settings that both sides know.
pub(super) fn encode(termios: &Termios) -> Vec<(Pty, u32)> {
    let mut modes: Vec<_> = CHARACTERS
        .iter()
        .filter_map(|&(mode, index)| {
            let value = *termios.control_chars.get(index as usize)?;
            Some((mode, if value == 0 { DISABLED } else { value.into() }))
        })
        .collect();
    let input = termios.input_flags;
    modes.extend(INPUT.map(|(mode, flag)| (mode, input.contains(flag).into())));
    modes.extend(unicode(input));
    let local = termios.local_flags;
    modes.extend(LOCAL.map(|(mode, flag)| (mode, local.contains(flag).into())));
    let output = termios.output_flags;
    modes.extend(OUTPUT.map(|(mode, flag)| (mode, output.contains(flag).into())));
    let size = termios.control_flags & ControlFlags::CSIZE;
    modes.push((Pty::CS7, (size == ControlFlags::CS7).into()));
    modes.push((Pty::CS8, (size == ControlFlags::CS8).into()));
    modes.push((Pty::TTY_OP_ISPEED, SPEED));
    modes.push((Pty::TTY_OP_OSPEED, SPEED));
    modes
}

/// Erasing takes whole characters.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn unicode(input: InputFlags) -> Option<(Pty, u32)> {
    Some((Pty::IUTF8, input.contains(InputFlags::IUTF8).into()))
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
const fn unicode(_: InputFlags) -> Option<(Pty, u32)> {
    None
}

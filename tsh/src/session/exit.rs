//! Exit codes of remote commands.

use std::str::FromStr;

use nix::sys::signal::Signal;
use russh::Sig;

/// Shells add a signal's number to this.
const SIGNALLED: u8 = 128;

/// The exit code for a remote exit status. Codes have eight bits here.
pub(super) fn by_status(status: u32) -> u8 {
    // POSIX gives only the low byte to the parent, and so do we; a remote system that is no POSIX
    // must not turn a failure into a success.
    match (status, status.to_le_bytes()) {
        (1.., [0, ..]) => 1,
        (_, [low, ..]) => low,
    }
}

/// The exit code for a remote command that a signal ended.
pub(super) fn by_remote_signal(signal: &Sig) -> u8 {
    let name = match signal {
        Sig::ABRT => "ABRT",
        Sig::ALRM => "ALRM",
        Sig::FPE => "FPE",
        Sig::HUP => "HUP",
        Sig::ILL => "ILL",
        Sig::INT => "INT",
        Sig::KILL => "KILL",
        Sig::PIPE => "PIPE",
        Sig::QUIT => "QUIT",
        Sig::SEGV => "SEGV",
        Sig::TERM => "TERM",
        Sig::USR1 => "USR1",
        Sig::Custom(name) => name,
    };
    let signal = Signal::from_str(&format!("SIG{name}"));
    signal.map_or(u8::MAX, by_signal)
}

/// The exit code for ending by a signal.
pub(crate) fn by_signal(signal: Signal) -> u8 {
    u8::try_from(signal as i32).map_or(u8::MAX, |number| SIGNALLED.saturating_add(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_pass_through() {
        for (status, code) in [(0, 0), (1, 1), (42, 42), (255, 255), (256, 1), (0x1ff, 255)] {
            assert_eq!(by_status(status), code);
        }
    }

    #[test]
    fn signals_count_from_128() {
        assert_eq!(by_remote_signal(&Sig::KILL), 137);
        assert_eq!(by_remote_signal(&Sig::TERM), 143);
        assert_eq!(by_remote_signal(&Sig::Custom("BUS".into())), 128 + 7);
        assert_eq!(by_remote_signal(&Sig::Custom("MARS".into())), 255);
        assert_eq!(by_signal(Signal::SIGINT), 130);
    }
}

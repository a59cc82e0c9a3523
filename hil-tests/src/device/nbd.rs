//! QEMU's way to a [`Disk`]: the network block device protocol (NBD, `doc/proto.md` of its
//! project), in its fixed newstyle with simple replies.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Result, ensure};

use super::disk::{Disk, Outcome};

/// More at once would be a mistake of QEMU's.
const MOST: usize = 32 << 20;

const OPTION: u64 = 0x4948_4156_454F_5054;
const REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const ANSWER: u32 = 0x6744_6698;
/// Fixed newstyle, no zeroes.
const HANDSHAKE: u16 = 0b11;
const GO: u32 = 7;
const ACK: u32 = 1;
const INFO: u32 = 3;
const UNSUPPORTED: u32 = (1 << 31) | 1;
const EINVAL: u32 = 22;

/// What the disk can do.
mod flag {
    pub(super) const HAS: u16 = 1;
    pub(super) const READ_ONLY: u16 = 1 << 1;
    pub(super) const FLUSH: u16 = 1 << 2;
    pub(super) const FUA: u16 = 1 << 3;
}

/// What is asked of it.
mod kind {
    pub(super) const READ: u16 = 0;
    pub(super) const WRITE: u16 = 1;
    pub(super) const DISCONNECT: u16 = 2;
    pub(super) const FLUSH: u16 = 3;
}

/// Serves one connection until QEMU hangs up or is killed.
pub(super) fn serve(disk: &Disk, mut stream: UnixStream) -> Result<()> {
    shake_hands(disk, &mut stream)?;
    while let Some((cookie, outcome)) = serve_request(disk, &mut stream)? {
        let (error, data) = match outcome {
            Outcome::Done => (0, Vec::new()),
            Outcome::Read(data) => (0, data),
            Outcome::Refused => (EINVAL, Vec::new()),
            Outcome::PowerFailed => break,
        };
        let mut reply = Vec::with_capacity(16 + data.len());
        reply.extend_from_slice(&ANSWER.to_be_bytes());
        reply.extend_from_slice(&u32::to_be_bytes(error));
        reply.extend_from_slice(&u64::to_be_bytes(cookie));
        reply.extend_from_slice(&data);
        stream.write_all(&reply)?;
    }
    // Whatever else it says is not answered.
    let mut rest = [0; 512];
    while matches!(stream.read(&mut rest), Ok(1..)) {}
    Ok(())
}

fn shake_hands(disk: &Disk, stream: &mut UnixStream) -> Result<()> {
    stream.write_all(b"NBDMAGIC")?;
    stream.write_all(&OPTION.to_be_bytes())?;
    stream.write_all(&HANDSHAKE.to_be_bytes())?;
    number::<4>(stream)?;
    loop {
        ensure!(u64::from_be_bytes(number(stream)?) == OPTION, "no option");
        let option = u32::from_be_bytes(number(stream)?);
        let length = u32::from_be_bytes(number(stream)?) as usize;
        ensure!(length <= 4096, "an option of {length} bytes");
        stream.read_exact(&mut vec![0; length])?;
        if option == GO {
            reply(stream, option, INFO, &shape(disk))?;
            return reply(stream, option, ACK, &[]);
        }
        reply(stream, option, UNSUPPORTED, &[])?;
    }
}

/// Size and flags, as information of the kind 0.
fn shape(disk: &Disk) -> Vec<u8> {
    let read_only = if disk.is_read_only() {
        flag::READ_ONLY
    } else {
        0
    };
    let flags = flag::HAS | flag::FLUSH | flag::FUA | read_only;
    let size = disk.size() as u64;
    [&[0, 0], &size.to_be_bytes()[..], &flags.to_be_bytes()].concat()
}

/// `None` if QEMU says goodbye.
fn serve_request(disk: &Disk, stream: &mut UnixStream) -> Result<Option<(u64, Outcome)>> {
    ensure!(u32::from_be_bytes(number(stream)?) == REQUEST, "no request");
    let forced = u16::from_be_bytes(number(stream)?) & 1 != 0;
    let kind = u16::from_be_bytes(number(stream)?);
    let cookie = u64::from_be_bytes(number(stream)?);
    let offset = usize::try_from(u64::from_be_bytes(number(stream)?))?;
    let length = usize::try_from(u32::from_be_bytes(number(stream)?))?;
    let outcome = match kind {
        kind::READ => disk.read(offset, length),
        kind::WRITE => {
            ensure!(length <= MOST, "a write of {length} bytes");
            let mut bytes = vec![0; length];
            stream.read_exact(&mut bytes)?;
            disk.write(offset, &bytes, forced)
        }
        kind::FLUSH => disk.flush(),
        kind::DISCONNECT => return Ok(None),
        _ => Outcome::Refused,
    };
    Ok(Some((cookie, outcome)))
}

fn reply(stream: &mut UnixStream, option: u32, kind: u32, data: &[u8]) -> Result<()> {
    let mut bytes = REPLY.to_be_bytes().to_vec();
    bytes.extend_from_slice(&option.to_be_bytes());
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&u32::try_from(data.len())?.to_be_bytes());
    bytes.extend_from_slice(data);
    Ok(stream.write_all(&bytes)?)
}

fn number<const N: usize>(stream: &mut UnixStream) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

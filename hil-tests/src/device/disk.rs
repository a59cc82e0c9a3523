//! A disk with a cache that forgets: what was written but not flushed when the power goes may be
//! there afterwards, sector by sector, or not. QEMU reaches it by the network block device protocol
//! (NBD, `doc/proto.md` of its project), as QEMU's own caches all outlive a killed QEMU.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};

/// A disk writes a sector as a whole or not at all.
const SECTOR: usize = 512;
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

/// What a device finds when it comes back.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<State>>);

struct State {
    stable: Vec<u8>,
    /// Written, not flushed: sectors by number.
    cache: BTreeMap<usize, [u8; SECTOR]>,
    read_only: bool,
    writes: u64,
    /// The write that the power does not outlast.
    last: Option<u64>,
    /// What happens to a sector in the cache when the power goes.
    seed: u64,
}

impl Disk {
    /// A disk with these contents.
    ///
    /// # Errors
    /// If they are no whole number of sectors.
    pub fn new(contents: Vec<u8>, seed: u64) -> Result<Self> {
        ensure!(
            contents.len().is_multiple_of(SECTOR),
            "a disk has whole sectors"
        );
        Ok(Self(Arc::new(Mutex::new(State {
            stable: contents,
            cache: BTreeMap::new(),
            read_only: false,
            writes: 0,
            last: None,
            seed: seed | 1,
        }))))
    }

    /// What it allows from the next connection on.
    pub fn set_read_only(&self, read_only: bool) {
        self.state().read_only = read_only;
    }

    /// Whether it can be written.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.state().read_only
    }

    /// Lets the power fail during the `n`th write from now: that write and all later ones stay
    /// unanswered, and only chance says whether they are kept.
    pub fn fail_at_write(&self, n: u64) {
        let mut state = self.state();
        state.last = Some(state.writes + n);
    }

    /// Whether that write has come.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.state().has_failed()
    }

    /// Writes seen so far.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    /// The power is gone: chance decides about every sector that was not flushed. Gives how many
    /// were kept and how many lost.
    #[must_use]
    pub fn cut(&self) -> (usize, usize) {
        let mut state = self.state();
        let cached = std::mem::take(&mut state.cache);
        let (mut kept, mut lost) = (0, 0);
        for (sector, bytes) in cached {
            if state.chance() {
                state.store(sector, &bytes);
                kept += 1;
            } else {
                lost += 1;
            }
        }
        state.last = None;
        (kept, lost)
    }

    /// Serves one connection at a socket, in a thread that ends with it.
    ///
    /// # Errors
    /// If there is no socket.
    pub fn serve(&self, socket: &Path) -> Result<JoinHandle<()>> {
        let listener = UnixListener::bind(socket).with_context(|| socket.display().to_string())?;
        let disk = self.clone();
        Ok(std::thread::Builder::new().spawn(move || {
            // QEMU reports what it does not like; one that was killed just goes away.
            if let Ok((stream, _)) = listener.accept() {
                disk.talk(stream).ok();
            }
        })?)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn talk(&self, mut stream: UnixStream) -> Result<()> {
        self.shake_hands(&mut stream)?;
        loop {
            let request = Request::read(&mut stream)?;
            let Some(answer) = self.answer(&request, &mut stream)? else {
                // QEMU is about to hang up, or to be killed.
                let mut rest = [0; SECTOR];
                while matches!(stream.read(&mut rest), Ok(1..)) {}
                return Ok(());
            };
            let mut reply = Vec::with_capacity(16 + answer.data.len());
            reply.extend_from_slice(&ANSWER.to_be_bytes());
            reply.extend_from_slice(&answer.error.to_be_bytes());
            reply.extend_from_slice(&request.cookie.to_be_bytes());
            reply.extend_from_slice(&answer.data);
            stream.write_all(&reply)?;
        }
    }

    fn shake_hands(&self, stream: &mut UnixStream) -> Result<()> {
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
            if option != GO {
                reply(stream, option, UNSUPPORTED, &[])?;
                continue;
            }
            let (size, flags) = self.state().shape();
            let mut info = vec![0, 0];
            info.extend_from_slice(&size.to_be_bytes());
            info.extend_from_slice(&flags.to_be_bytes());
            reply(stream, option, INFO, &info)?;
            return reply(stream, option, ACK, &[]);
        }
    }

    /// `None` if there is none any more: QEMU says goodbye, or the power has failed.
    fn answer(&self, request: &Request, stream: &mut UnixStream) -> Result<Option<Answer>> {
        let mut state = self.state();
        let done = Answer::default();
        let fits = state.fits(request);
        Ok(Some(match request.kind {
            0 if fits => Answer {
                data: state.read(request.offset, request.length),
                ..done
            },
            1 => {
                ensure!(
                    request.length <= MOST,
                    "a write of {} bytes",
                    request.length
                );
                let mut bytes = vec![0; request.length];
                drop(state);
                stream.read_exact(&mut bytes)?;
                state = self.state();
                if !fits || state.read_only {
                    return Ok(Some(Answer::wrong()));
                }
                state.write(request.offset, &bytes);
                if state.has_failed() {
                    return Ok(None);
                }
                // Forced through the cache: this write alone.
                if request.flags & 1 != 0 {
                    state.flush(request.offset, request.length);
                }
                done
            }
            2 => return Ok(None),
            3 if state.has_failed() => return Ok(None),
            3 => {
                let all = state.stable.len();
                state.flush(0, all);
                done
            }
            _ => Answer::wrong(),
        }))
    }
}

impl State {
    fn shape(&self) -> (u64, u16) {
        let read_only = if self.read_only { flag::READ_ONLY } else { 0 };
        let flags = flag::HAS | flag::FLUSH | flag::FUA | read_only;
        (self.stable.len() as u64, flags)
    }

    fn has_failed(&self) -> bool {
        self.last.is_some_and(|last| self.writes >= last)
    }

    fn fits(&self, request: &Request) -> bool {
        let end = request.offset.checked_add(request.length);
        end.is_some_and(|end| end <= self.stable.len())
            && request.offset.is_multiple_of(SECTOR)
            && request.length.is_multiple_of(SECTOR)
    }

    fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        let mut bytes = self
            .stable
            .get(offset..offset + length)
            .unwrap_or_default()
            .to_vec();
        let first = offset / SECTOR;
        for (sector, cached) in self.cache.range(first..first + length / SECTOR) {
            let at = (sector - first) * SECTOR;
            if let Some(place) = bytes.get_mut(at..at + SECTOR) {
                place.copy_from_slice(cached);
            }
        }
        bytes
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.writes += 1;
        let (sectors, _) = bytes.as_chunks::<SECTOR>();
        for (sector, bytes) in (offset / SECTOR..).zip(sectors) {
            self.cache.insert(sector, *bytes);
        }
    }

    fn flush(&mut self, offset: usize, length: usize) {
        let sectors = offset / SECTOR..(offset + length) / SECTOR;
        let flushed: Vec<_> = self
            .cache
            .range(sectors)
            .map(|(at, bytes)| (*at, *bytes))
            .collect();
        for (sector, bytes) in flushed {
            self.cache.remove(&sector);
            self.store(sector, &bytes);
        }
    }

    fn store(&mut self, sector: usize, bytes: &[u8; SECTOR]) {
        let at = sector * SECTOR;
        if let Some(place) = self.stable.get_mut(at..at + SECTOR) {
            place.copy_from_slice(bytes);
        }
    }

    /// Heads or tails (xorshift64, G. Marsaglia 2003).
    fn chance(&mut self) -> bool {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed & 1 << 32 != 0
    }
}

/// What is asked of the disk.
struct Request {
    flags: u16,
    kind: u16,
    cookie: u64,
    offset: usize,
    length: usize,
}

impl Request {
    fn read(stream: &mut UnixStream) -> Result<Self> {
        ensure!(u32::from_be_bytes(number(stream)?) == REQUEST, "no request");
        Ok(Self {
            flags: u16::from_be_bytes(number(stream)?),
            kind: u16::from_be_bytes(number(stream)?),
            cookie: u64::from_be_bytes(number(stream)?),
            offset: usize::try_from(u64::from_be_bytes(number(stream)?))?,
            length: usize::try_from(u32::from_be_bytes(number(stream)?))?,
        })
    }
}

#[derive(Default)]
struct Answer {
    error: u32,
    data: Vec<u8>,
}

impl Answer {
    fn wrong() -> Self {
        Self {
            error: EINVAL,
            data: Vec::new(),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(byte: u8) -> Vec<u8> {
        vec![byte; SECTOR]
    }

    #[test]
    fn what_is_flushed_stays_and_the_rest_is_left_to_chance() {
        let disk = Disk::new(vec![0; 64 * SECTOR], 7).unwrap();
        disk.state().write(0, &sector(1));
        disk.state().flush(0, 64 * SECTOR);
        for at in 1..64 {
            disk.state().write(at * SECTOR, &sector(2));
        }
        assert_eq!(disk.state().read(63 * SECTOR, SECTOR), sector(2));
        let (kept, lost) = disk.cut();
        assert_eq!(kept + lost, 63);
        assert!(kept > 10 && lost > 10, "{kept} {lost}");
        assert_eq!(disk.state().read(0, SECTOR), sector(1));
        let bytes = disk.state().read(0, 64 * SECTOR);
        let twos = bytes
            .chunks(SECTOR)
            .filter(|bytes| *bytes == sector(2))
            .count();
        assert_eq!(twos, kept);
    }

    #[test]
    fn the_power_fails_during_the_write_that_was_named() {
        let disk = Disk::new(vec![0; 8 * SECTOR], 7).unwrap();
        disk.state().write(0, &sector(1));
        disk.fail_at_write(2);
        disk.state().write(SECTOR, &sector(1));
        assert!(!disk.has_failed());
        disk.state().write(SECTOR, &sector(1));
        assert!(disk.has_failed());
        let _ = disk.cut();
        assert!(!disk.has_failed());
    }
}

//! A disk with a cache that forgets: what was written but not flushed when the power goes may be
//! there afterwards, sector by sector, or not. QEMU's own caches all outlive a killed QEMU.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};

use super::nbd;

/// A disk writes a sector as a whole or not at all.
const SECTOR: usize = 512;

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

/// What comes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Read(Vec<u8>),
    /// Not a part of the disk, or not to be written.
    Refused,
    /// Nobody will ever know.
    PowerFailed,
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

    /// Whether it cannot be written.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.state().read_only
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.state().stable.len()
    }

    /// Lets the power fail during the `n`th write from now: that write and all that follows stays
    /// unanswered, and only chance says whether it is kept.
    pub fn fail_at_write(&self, n: u64) {
        let mut state = self.state();
        state.last = Some(state.writes + n);
    }

    /// Whether that write has come.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.state().has_failed()
    }

    /// The power is gone: chance decides about every sector that was not flushed. Gives how many
    /// were kept and how many lost.
    pub fn cut(&self) -> (u32, u32) {
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
                nbd::serve(&disk, stream).ok();
            }
        })?)
    }

    pub(super) fn read(&self, offset: usize, length: usize) -> Outcome {
        let state = self.state();
        match state.sectors(offset, length) {
            Some(sectors) => Outcome::Read(state.read(&sectors)),
            None => Outcome::Refused,
        }
    }

    /// `forced` goes through the cache.
    pub(super) fn write(&self, offset: usize, bytes: &[u8], forced: bool) -> Outcome {
        let mut state = self.state();
        let sectors = state.sectors(offset, bytes.len());
        let Some(sectors) = sectors.filter(|_| !state.read_only) else {
            return Outcome::Refused;
        };
        state.write(&sectors, bytes);
        if state.has_failed() {
            return Outcome::PowerFailed;
        }
        if forced {
            state.flush(sectors);
        }
        Outcome::Done
    }

    pub(super) fn flush(&self) -> Outcome {
        let mut state = self.state();
        if state.has_failed() {
            return Outcome::PowerFailed;
        }
        state.flush(0..usize::MAX);
        Outcome::Done
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_failed(&self) -> bool {
        self.last.is_some_and(|last| self.writes >= last)
    }

    /// Whole sectors, if they are on the disk.
    fn sectors(&self, offset: usize, length: usize) -> Option<Range<usize>> {
        let end = offset.checked_add(length)?;
        let whole = offset.is_multiple_of(SECTOR) && length.is_multiple_of(SECTOR);
        (whole && end <= self.stable.len()).then_some(offset / SECTOR..end / SECTOR)
    }

    fn read(&self, sectors: &Range<usize>) -> Vec<u8> {
        let stable = sectors.start * SECTOR..sectors.end * SECTOR;
        let mut bytes = self.stable.get(stable).unwrap_or_default().to_vec();
        for (sector, cached) in self.cache.range(sectors.clone()) {
            let at = (sector - sectors.start) * SECTOR;
            if let Some(place) = bytes.get_mut(at..at + SECTOR) {
                place.copy_from_slice(cached);
            }
        }
        bytes
    }

    fn write(&mut self, sectors: &Range<usize>, bytes: &[u8]) {
        self.writes += 1;
        let (chunks, _) = bytes.as_chunks::<SECTOR>();
        for (sector, bytes) in sectors.clone().zip(chunks) {
            self.cache.insert(sector, *bytes);
        }
    }

    fn flush(&mut self, sectors: Range<usize>) {
        let flushed: Vec<_> = self.cache.extract_if(sectors, |_, _| true).collect();
        for (sector, bytes) in flushed {
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
        self.seed & (1 << 32) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTORS: usize = 64;

    fn disk() -> Disk {
        Disk::new(vec![0; SECTORS * SECTOR], 7).unwrap()
    }

    fn write(disk: &Disk, sector: usize, byte: u8, forced: bool) -> Outcome {
        disk.write(sector * SECTOR, &[byte; SECTOR], forced)
    }

    /// The first byte of each sector.
    fn seen(disk: &Disk) -> Vec<u8> {
        match disk.read(0, SECTORS * SECTOR) {
            Outcome::Read(bytes) => bytes.iter().step_by(SECTOR).copied().collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_flushed_or_forced_stays_and_the_rest_is_left_to_chance() {
        let disk = disk();
        write(&disk, 0, 1, false);
        assert_eq!(disk.flush(), Outcome::Done);
        write(&disk, 1, 1, true);
        for sector in 2..SECTORS {
            write(&disk, sector, 2, false);
        }
        assert_eq!(seen(&disk)[..3], [1, 1, 2]);
        let (kept, lost) = disk.cut();
        assert_eq!(kept + lost, 62);
        assert!(kept > 10 && lost > 10, "{kept} {lost}");
        assert_eq!(seen(&disk)[..2], [1, 1]);
        let twos = seen(&disk).iter().filter(|byte| **byte == 2).count();
        assert_eq!(u32::try_from(twos), Ok(kept));
    }

    #[test]
    fn the_power_fails_during_the_write_that_was_named() {
        let disk = disk();
        write(&disk, 0, 1, false);
        disk.fail_at_write(2);
        assert_eq!(write(&disk, 1, 1, false), Outcome::Done);
        assert!(!disk.has_failed());
        assert_eq!(write(&disk, 2, 1, true), Outcome::PowerFailed);
        assert_eq!(disk.flush(), Outcome::PowerFailed);
        assert!(disk.has_failed());
        let (kept, lost) = disk.cut();
        assert_eq!(kept + lost, 3);
        assert!(!disk.has_failed());
    }

    #[test]
    fn what_is_not_on_the_disk_or_not_to_be_written_is_refused() {
        let disk = disk();
        assert_eq!(disk.read(SECTORS * SECTOR, SECTOR), Outcome::Refused);
        assert_eq!(disk.read(1, SECTOR), Outcome::Refused);
        assert_eq!(disk.read(usize::MAX, SECTOR), Outcome::Refused);
        disk.set_read_only(true);
        assert_eq!(write(&disk, 0, 1, false), Outcome::Refused);
        assert!(Disk::new(vec![0; 100], 7).is_err());
    }
}

//! What passes the device's interfaces, as a file that Wireshark and tcpdump read (pcap).

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// Microseconds, version 2.4.
const MAGIC: u32 = 0xa1b2_c3d4;
const VERSION: [u16; 2] = [2, 4];
/// Packets start with their IP header.
const LINKTYPE_RAW: u32 = 101;
const LONGEST: u32 = 65_535;

/// A trace that is being written.
pub(super) struct Trace {
    file: BufWriter<File>,
}

impl Trace {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        let mut file = BufWriter::new(file);
        let [major, minor] = VERSION.map(u16::to_le_bytes);
        let words = [0, 0, LONGEST, LINKTYPE_RAW].map(u32::to_le_bytes);
        let header = [&MAGIC.to_le_bytes()[..], &major, &minor, &words.concat()];
        file.write_all(&header.concat())?;
        Ok(Self { file })
    }

    /// Adds a packet; a full disk costs the trace, not the test.
    pub(super) fn add(&mut self, packet: &[u8], at: Duration) {
        let length = packet.len() as u32;
        let header = [at.as_secs() as u32, at.subsec_micros(), length, length];
        let header = header.map(u32::to_le_bytes).concat();
        let written = self.file.write_all(&header);
        written.and_then(|()| self.file.write_all(packet)).ok();
    }
}

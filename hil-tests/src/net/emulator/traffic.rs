//! What went over a link, counted.

use std::collections::BTreeMap;

use super::packet::Protocol;

/// Packets and their bytes, IP headers included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes, from the IP header on.
    pub bytes: u64,
}

impl Count {
    pub(super) fn add(&mut self, length: usize) {
        self.packets += 1;
        self.bytes += length as u64;
    }
}

/// One direction of a link. What was offered was delivered, or is counted under the reason for
/// which it was not, or is still under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Put on the wire at this end: what a metered link bills.
    pub offered: Count,
    /// Came out at the other end.
    pub delivered: Count,
    /// The link was cut.
    pub cut: Count,
    /// Lost by chance.
    pub lost: Count,
    /// The queue was full.
    pub overflowed: Count,
    /// Not let through by a filter.
    pub filtered: Count,
}

/// Both directions of a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// From the device.
    pub up: Traffic,
    /// To the device.
    pub down: Traffic,
    /// Arrived at the translator and went no further: no mapping, or nothing that has one.
    pub untranslated: Count,
    /// What was offered in both directions, by protocol and port of the far end.
    pub by_port: BTreeMap<(Protocol, u16), Count>,
}

impl Counters {
    /// Bytes that were put on the wire in both directions.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.up.offered.bytes + self.down.offered.bytes
    }

    /// As [`Self::bytes`], for one service in the world: TCP and UDP.
    #[must_use]
    pub fn bytes_of(&self, port: u16) -> u64 {
        let of = |protocol| self.by_port.get(&(protocol, port)).map_or(0, |c| c.bytes);
        of(Protocol::Tcp) + of(Protocol::Udp)
    }
}

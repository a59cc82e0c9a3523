//! The `[resume]` table: how much may go into sessions that outlive their links.

use protocol::resume::{Limits, MAX_STREAMS, Sizes};

use super::reader::{Reader, Section};

const KIB: u32 = 1024;
/// As much as 32 bits count, and far more than streams can use.
const MOST_MEMORY_KIB: u32 = 1 << 20;

/// What an agent keeps if nothing is said: as many as the sessions that it serves then, and half of
/// them must not be one person's. Memory is set aside, not taken, before a stream needs it.
pub(crate) const DEFAULT: Limits = Limits {
    streams: 32,
    per_user: 16,
    memory: 2 * KIB * KIB,
    sizes: Sizes::AGENT,
    busy: Sizes::BUSY,
    // One person's half of it is what one session may borrow, both ways.
    spare: 3 * KIB * KIB,
};

pub(super) fn read(section: Option<Section<'_>>, reader: &mut Reader<'_>) -> Option<Limits> {
    let mut section = section?;
    let mut number = |key, least, most| section.number(reader, key, least, most);
    let most = u32::try_from(MAX_STREAMS).unwrap_or(u32::MAX);
    let streams = number("streams", 0, most);
    let per_user = number("streams_per_user", 0, most);
    let buffer = number(
        "buffer_kib",
        Sizes::LEAST.replay / KIB,
        Sizes::MOST.replay / KIB,
    );
    let busy = number(
        "busy_kib",
        Sizes::LEAST.replay / KIB,
        Sizes::MOST.replay / KIB,
    );
    let memory = number("memory_kib", 0, MOST_MEMORY_KIB);
    let spare = number("spare_kib", 0, MOST_MEMORY_KIB);
    section.finish(reader);
    let count = |given: Option<u32>, default| given.map_or(default, |n| n as usize);
    let bytes = |given: Option<u32>, default| given.map_or(default, |kib| kib * KIB);
    let both = |given: Option<u32>, default: Sizes| Sizes {
        replay: bytes(given, default.replay),
        window: bytes(given, default.window),
    };
    Some(Limits {
        streams: count(streams, DEFAULT.streams),
        per_user: count(per_user, DEFAULT.per_user),
        memory: bytes(memory, DEFAULT.memory),
        sizes: both(buffer, DEFAULT.sizes),
        busy: both(busy, DEFAULT.busy),
        spare: bytes(spare, DEFAULT.spare),
    })
}

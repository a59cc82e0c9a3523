//! What the kernel knows of a TCP connection's packets (`TCP_INFO` of tcp(7)).

use std::os::fd::RawFd;

use nix::libc::{IPPROTO_TCP, TCP_INFO, getsockopt, socklen_t};

/// Where things are in `struct tcp_info`, which only ever grew at its end (linux/tcp.h).
const OPTIONS: usize = 5;
const SEGMENTS_SENT: usize = 136;
const SEGMENTS_RECEIVED: usize = 140;
const BYTES_REPEATED: usize = 208;
const LENGTH: usize = 216;

/// Bit of a connection whose segments carry timestamps, as most do.
const TIMESTAMPS: u8 = 1;
/// Bytes (RFC 9293 §3.1).
const HEADER: u64 = 20;
/// With timestamps (RFC 7323 §3.2).
pub(crate) const HEADER_WITH_TIMESTAMPS: u64 = 32;

/// Bytes sent and received beside what the connection carried: headers, with `ip` of them for IP in
/// each packet, acknowledgements and repetitions. `None` if the kernel does not count segments, as
/// those from before 2015; those from before 2018 count no repetitions.
pub(crate) fn beside_payload(tcp: RawFd, ip: u64) -> Option<[u64; 2]> {
    let info = info(tcp);
    let word = |at: usize| -> u64 {
        let bytes = info.get(at..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u32::from_ne_bytes(*bytes).into())
    };
    let (sent, received) = (word(SEGMENTS_SENT), word(SEGMENTS_RECEIVED));
    // Whoever is connected has sent a SYN.
    if sent == 0 {
        return None;
    }
    let repeated = info.get(BYTES_REPEATED..).and_then(<[u8]>::first_chunk);
    let repeated = repeated.map_or(0, |bytes| u64::from_ne_bytes(*bytes));
    let header = match info.get(OPTIONS) {
        Some(options) if options & TIMESTAMPS != 0 => ip + HEADER_WITH_TIMESTAMPS,
        _ => ip + HEADER,
    };
    Some([(sent * header).saturating_add(repeated), received * header])
}

/// Zeros where the kernel knows nothing.
fn info(tcp: RawFd) -> [u8; LENGTH] {
    let mut info = [0_u8; LENGTH];
    let mut length = LENGTH as socklen_t;
    // SAFETY: the kernel writes `length` bytes at most, which `info` has room for, and the length;
    // a descriptor that is none, or no TCP socket's, is an error, and nothing is written.
    unsafe {
        getsockopt(
            tcp,
            IPPROTO_TCP,
            TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        );
    }
    info
}

//! What a TCP connection to the cluster's port starts with. One byte tells: whether the rest
//! follows is for the protocol to find out that it names.

/// Whose protocol the first bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// A TLS record that holds a handshake message (RFC 8446 §5.1).
    Tls,
    /// An SSH identification string, `SSH-2.0-` (RFC 4253 §4.2).
    Ssh,
    /// Nobody's.
    Unknown,
    /// Nothing has arrived.
    Unclear,
}

/// Content type handshake.
const TLS: u8 = 0x16;

/// Tells from what has arrived so far.
#[must_use]
pub const fn opening(bytes: &[u8]) -> Opening {
    match bytes {
        [] => Opening::Unclear,
        [TLS, ..] => Opening::Tls,
        [b'S', ..] => Opening::Ssh,
        _ => Opening::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_told_by_their_first_byte() {
        for (bytes, expected) in [
            (&b"\x16\x03\x01\x02\x00\x01"[..], Opening::Tls),
            (b"\x16", Opening::Tls),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Opening::Ssh),
            (b"GET / HTTP/1.1", Opening::Unknown),
            (b"\0", Opening::Unknown),
            (b"", Opening::Unclear),
        ] {
            assert_eq!(opening(bytes), expected, "{bytes:?}");
        }
    }
}

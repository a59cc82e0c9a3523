//! Random bytes, from ring.

use std::io;

use ring::rand::{SecureRandom, SystemRandom};

/// So many random bytes.
///
/// # Errors
/// If the system has none.
pub(crate) fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| io::Error::other("the system gives no random numbers"))?;
    Ok(bytes)
}

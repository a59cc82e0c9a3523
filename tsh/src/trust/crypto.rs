//! Algorithms: AES-128-GCM first where the processor does AES itself, ChaCha20-Poly1305 first
//! elsewhere.

use std::sync::Arc;

use rustls::SupportedCipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};

/// The TLS algorithms, best first. QUIC needs AES-128-GCM to be among them (RFC 9001 §5.2).
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: suites(has_aes()),
        ..rustls::crypto::ring::default_provider()
    })
}

fn suites(has_aes: bool) -> Vec<SupportedCipherSuite> {
    let aes = [TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384];
    let chacha = [TLS13_CHACHA20_POLY1305_SHA256];
    if has_aes {
        [&aes[..], &chacha[..]].concat()
    } else {
        [&chacha[..], &aes[..]].concat()
    }
}

/// Whether the processor has instructions for AES-GCM.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
pub(crate) fn has_aes() -> bool {
    std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq")
}

/// Whether the processor has instructions for AES-GCM.
#[cfg(target_arch = "aarch64")]
pub(crate) fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

/// Whether the processor has instructions for AES-GCM.
#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) const fn has_aes() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_cipher_comes_first_and_all_are_there() {
        for (has_aes, first) in [
            (true, TLS13_AES_128_GCM_SHA256),
            (false, TLS13_CHACHA20_POLY1305_SHA256),
        ] {
            let suites = suites(has_aes);
            assert_eq!(suites[0], first);
            assert_eq!(suites.len(), 3);
        }
    }
}

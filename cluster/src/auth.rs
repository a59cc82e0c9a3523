//! The auth service: who is who, and who may do what.
//!
//! | module | holds |
//! | --- | --- |
//! | [`ca`] | the two certificate authorities, and every certificate they issue |
//! | [`access`] | the access decision, a pure function over roles and labels |
//! | [`login`] | passwords, invites, lock-out, user certificates |
//! | [`join`] | join tokens, node registration and renewal by bound key |
//! | [`generation`] | telling a device from its copy |
//! | [`nodes`] | all nodes, in memory |
//! | [`locks`] | who and what is locked, in memory |

pub mod access;
pub mod ca;
pub mod credential;
pub mod generation;
pub mod join;
pub mod locks;
pub mod login;
pub mod nodes;

use std::fmt;

/// A text that must reach no log: it shows as `***`, and its memory is wiped.
#[derive(Clone, serde::Deserialize, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a text over.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself; for hashing and for showing it once to the one it is made for.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A new random secret with 128 bits, after a prefix that tells people what it is.
    #[must_use]
    pub fn random(prefix: &str) -> Self {
        Self(format!(
            "{prefix}{}",
            hex::encode(rand::random::<[u8; 16]>())
        ))
    }

    /// SHA-256 of the text, hex. Enough for random secrets; passwords need argon2.
    #[must_use]
    pub fn sha256(&self) -> String {
        hex::encode(ring::digest::digest(
            &ring::digest::SHA256,
            self.0.as_bytes(),
        ))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

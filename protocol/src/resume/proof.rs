//! What the ends prove to each other when they attach again.

use super::{Generation, Nonce, Secret, Sizes, StreamId};

/// Bytes of a tag.
pub const TAG: usize = 32;

/// Comes before what each party tags; so no end's tag can be sent back to it.
const AGENT: &[u8; 24] = b"tether resume v1 agent\0\0";
const CLIENT: &[u8; 24] = b"tether resume v1 client\0";

/// HMAC-SHA-256 (RFC 2104), which the programs bring along: this crate holds no cryptography.
pub trait Mac: Sync {
    /// The tag of a message under a secret.
    fn tag(&self, secret: &Secret, message: &[u8]) -> [u8; TAG];

    /// Whether a tag is that of a message, in a time that does not depend on the tag.
    fn verify(&self, secret: &Secret, message: &[u8], tag: &[u8; TAG]) -> bool;
}

/// What both ends must agree on before an attachment is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transcript {
    /// The stream.
    pub id: StreamId,
    /// The attachment.
    pub generation: Generation,
    /// From ATTACH.
    pub client_nonce: Nonce,
    /// From CHALLENGE, as are those below.
    pub agent_nonce: Nonce,
    /// What the agent has received.
    pub received: u64,
    /// What the agent holds.
    pub sizes: Sizes,
    /// Seconds.
    pub grace_s: u32,
}

/// What is tagged.
pub type Message = heapless::Vec<u8, { 24 + 16 + 4 + 16 + 16 + 8 + 4 + 4 + 4 + 8 + 8 }>;

impl Transcript {
    /// The message whose tag is the agent's proof.
    #[must_use]
    pub fn of_agent(&self) -> Message {
        self.message(AGENT, &[])
    }

    /// The message whose tag is the client's proof, with what it says in PROOF.
    #[must_use]
    pub fn of_client(&self, received: u64, from: u64) -> Message {
        self.message(CLIENT, &[&received.to_be_bytes(), &from.to_be_bytes()])
    }

    fn message(&self, label: &[u8], more: &[&[u8]]) -> Message {
        let fields: [&[u8]; 9] = [
            label,
            &self.id.0,
            &self.generation.0.to_be_bytes(),
            &self.client_nonce,
            &self.agent_nonce,
            &self.received.to_be_bytes(),
            &self.sizes.replay.to_be_bytes(),
            &self.sizes.window.to_be_bytes(),
            &self.grace_s.to_be_bytes(),
        ];
        let mut message = Message::new();
        for field in fields.iter().chain(more) {
            let fits = message.extend_from_slice(field);
            debug_assert!(fits.is_ok(), "every field has its size");
        }
        message
    }
}

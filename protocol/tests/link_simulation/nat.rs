//! What is between the agent and the world: a NAT that forgets.

use std::collections::HashMap;
use std::time::Duration;

use protocol::transport::Kind;

/// What becomes of a TCP packet without a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strays {
    /// It goes on, and whoever gets it resets the connection.
    Reset,
    /// It vanishes.
    Drop,
}

pub(crate) struct Nat {
    /// How long it keeps a mapping of UDP.
    pub(crate) udp: Duration,
    /// And of TCP.
    pub(crate) tcp: Duration,
    pub(crate) strays: Strays,
    /// Connections, and when they last sent.
    mappings: HashMap<u32, Duration>,
}

impl Default for Nat {
    /// It forgets nothing.
    fn default() -> Self {
        Self {
            udp: Duration::MAX,
            tcp: Duration::MAX,
            strays: Strays::Reset,
            mappings: HashMap::new(),
        }
    }
}

impl Nat {
    /// A connection has got through.
    pub(crate) fn open(&mut self, id: u32, now: Duration) {
        self.mappings.insert(id, now);
    }

    /// Forgets everything.
    pub(crate) fn forget(&mut self) {
        self.mappings.clear();
    }

    /// A connection sends; tells whether it has had its mapping until now. UDP gets another one.
    pub(crate) fn passes(&mut self, id: u32, kind: Kind, now: Duration) -> bool {
        let keeps = match kind {
            Kind::Quic => self.udp,
            Kind::Ssh => self.tcp,
        };
        let mapped = self.mappings.get(&id).is_some_and(|&at| now - at <= keeps);
        if mapped || kind == Kind::Quic {
            self.mappings.insert(id, now);
        } else {
            self.mappings.remove(&id);
        }
        mapped
    }
}

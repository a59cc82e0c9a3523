//! Connection ids that the cluster knows as its own, also those of a process before.
//!
//! An id is six random bytes and two that only the cluster's key makes of them. quinn has such a
//! generator too, but with three random bytes: a Retry chooses an id without looking whether a
//! connection has it, and with 10,000 agents one in 300 would meet one that does.

use quinn::{ConnectionId, ConnectionIdGenerator};
use quinn_proto::InvalidCid;
use ring::hmac::{Key, sign};
use std::cell::Cell;
use std::time::Duration;

/// Bytes drawn.
const DRAWN: usize = 6;
/// Bytes that follow from them. One of 65,536 ids that somebody makes up passes.
const MARK: usize = 2;

thread_local! {
    static LAST: Cell<Option<ConnectionId>> = const { Cell::new(None) };
}

/// Gives the id that was drawn while `accept` ran: quinn tells nobody how a connection is called.
pub fn drawn_by<T>(accept: impl FnOnce() -> T) -> (T, Option<ConnectionId>) {
    LAST.set(None);
    let accepted = accept();
    (accepted, LAST.take())
}

/// See the [module](self).
pub struct Ids {
    key: Key,
}

impl Ids {
    /// Ids by this key.
    pub const fn new(key: Key) -> Self {
        Self { key }
    }

    fn mark(&self, drawn: &[u8]) -> [u8; MARK] {
        let tag = sign(&self.key, &[b"connection id", drawn].concat());
        tag.as_ref().first_chunk().copied().unwrap_or_default()
    }
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let drawn = rand::random::<[u8; DRAWN]>();
        let id = ConnectionId::new(&[&drawn[..], &self.mark(&drawn)].concat());
        LAST.set(Some(id));
        id
    }

    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        let (drawn, mark) = cid.split_last_chunk().ok_or(InvalidCid)?;
        let ours = drawn.len() == DRAWN && self.mark(drawn) == *mark;
        ours.then_some(()).ok_or(InvalidCid)
    }

    fn cid_len(&self) -> usize {
        DRAWN + MARK
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(key: u8) -> Ids {
        Ids::new(Key::new(ring::hmac::HMAC_SHA256, &[key; 32]))
    }

    #[test]
    fn ids_are_known_by_their_key_alone() {
        let mut before = ids(1);
        for _ in 0..100 {
            let cid = before.generate_cid();
            assert_eq!(cid.len(), before.cid_len());
            assert!(ids(1).validate(&cid).is_ok());
        }
        let cid = before.generate_cid();
        let mut forged = cid.to_vec();
        forged[0] ^= 1;
        let passing = (0..=u8::MAX).filter(|&byte| {
            forged[1] = byte;
            ids(1).validate(&ConnectionId::new(&forged)).is_ok()
        });
        assert!(passing.count() < 3);
        assert!(ids(1).validate(&ConnectionId::new(&cid[..7])).is_err());
        assert!(ids(1).validate(&ConnectionId::new(&[])).is_err());
    }

    #[test]
    fn whoever_accepts_learns_which_id_was_drawn() {
        let mut ids = ids(1);
        ids.generate_cid();
        let (made, seen) = drawn_by(|| ids.generate_cid());
        assert_eq!(Some(made), seen);
        assert_eq!(drawn_by(|| ()), ((), None));
    }

    #[test]
    fn a_hundred_thousand_ids_do_not_meet() {
        let mut ids = ids(1);
        let seen: std::collections::HashSet<_> = (0..100_000).map(|_| ids.generate_cid()).collect();
        assert_eq!(seen.len(), 100_000);
    }
}

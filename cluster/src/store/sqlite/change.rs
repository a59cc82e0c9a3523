//! What a change asks for, and whether the item that is there allows it. Touches no file.

use std::time::SystemTime;

use crate::store::{Key, StoreError};

/// One change of one key.
pub(super) struct Change {
    pub(super) key: Key,
    pub(super) expected: Expectation,
    pub(super) effect: Effect,
}

/// What has to be there for a change to happen.
#[derive(Debug, Clone, Copy)]
pub(super) enum Expectation {
    /// Nothing in particular.
    None,
    /// No item.
    Absent,
    /// An item of any revision.
    Present,
    /// The item of this revision.
    Revision(u64),
}

pub(super) enum Effect {
    Put {
        value: Vec<u8>,
        expires: Option<SystemTime>,
    },
    Delete,
}

impl Expectation {
    /// Whether it is met by the revision that is found under `key`.
    pub(super) fn check(self, key: &Key, found: Option<u64>) -> Result<(), StoreError> {
        let key = || key.clone();
        match (self, found) {
            (Self::None, _) | (Self::Absent, None) | (Self::Present, Some(_)) => Ok(()),
            (Self::Revision(expected), Some(found)) if expected == found => Ok(()),
            (Self::Revision(expected), Some(found)) => Err(StoreError::Conflict {
                key: key(),
                expected,
                found,
            }),
            (Self::Absent, Some(_)) => Err(StoreError::Exists { key: key() }),
            (Self::Present | Self::Revision(_), None) => Err(StoreError::NotFound { key: key() }),
        }
    }
}

//! Version negotiation: each side names the range it speaks, the highest common one is taken.

use serde::{Deserialize, Serialize};

/// A range of protocol versions, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Oldest version spoken.
    pub oldest: u16,
    /// Newest version spoken.
    pub newest: u16,
}

/// What this build speaks.
pub const SPOKEN: Versions = Versions {
    oldest: 1,
    newest: 3,
};

/// From this version on an agent knows streams that outlive their links.
pub const RESUMABLE: u16 = 2;
/// From this version on an agent says whose sessions it keeps, and ends them by their user's name.
pub const NAMES_USERS: u16 = 3;

impl Versions {
    /// The newest version that both speak.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn v(oldest: u16, newest: u16) -> Versions {
        Versions { oldest, newest }
    }

    #[test]
    fn the_newest_common_version_is_taken() {
        assert_eq!(v(1, 4).common(v(2, 9)), Some(4));
        assert_eq!(v(3, 3).common(v(1, 3)), Some(3));
    }

    #[test]
    fn ranges_that_do_not_meet_have_none() {
        assert_eq!(v(1, 2).common(v(3, 5)), None);
        assert_eq!(v(5, 4).common(v(1, 9)), None);
    }
}

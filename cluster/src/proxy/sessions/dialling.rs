//! How many dials there are whose session is not on the list, and may never be; and how many that
//! have left it, and are not written down.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts as long as it is there.
pub struct Dialling(Arc<AtomicUsize>);

impl Dialling {
    pub(super) fn new(all: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(all))
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

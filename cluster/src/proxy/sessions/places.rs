//! Who takes the places for sessions that this process keeps for plain clients.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{HELD_HERE, HELD_OF_ONE, Holder};

/// How many each has.
#[derive(Default)]
pub(super) struct Places(Mutex<HashMap<Holder, usize>>);

/// One of them. Dropping it gives it back.
pub struct Place {
    places: Arc<Places>,
    holder: Holder,
}

impl Places {
    pub(super) fn take(places: &Arc<Self>, holder: Holder) -> Option<Place> {
        let mut taken = places.lock();
        let theirs = taken.get(&holder).copied().unwrap_or_default();
        if theirs >= HELD_OF_ONE || taken.values().sum::<usize>() >= HELD_HERE {
            return None;
        }
        taken.insert(holder.clone(), theirs + 1);
        drop(taken);
        Some(Place {
            places: Arc::clone(places),
            holder,
        })
    }

    /// No code panics while it holds the lock, so a poisoned one holds good data.
    fn lock(&self) -> MutexGuard<'_, HashMap<Holder, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(theirs) = taken.get_mut(&self.holder) {
            *theirs -= 1;
            if *theirs == 0 {
                taken.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_places_and_what_is_given_back_is_free() {
        let places = Arc::new(Places::default());
        let take = |id| Places::take(&places, ("ann".into(), id));
        let mut all: Vec<_> = (0..HELD_OF_ONE).map(|_| take(0).unwrap()).collect();
        assert!(take(0).is_none(), "that is enough for one");
        let others = (HELD_OF_ONE..HELD_HERE).map(|n| take(n as u64).unwrap());
        all.extend(others);
        assert!(take(1).is_none(), "all are taken");
        all.truncate(HELD_OF_ONE - 1);
        let again = take(0);
        assert!(again.is_some() && take(0).is_none());
        drop((all, again));
        assert!(places.lock().is_empty());
    }
}

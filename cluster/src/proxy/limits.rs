//! How many connections may be unauthenticated at once: per address, and in all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// From one address: a carrier's NAT puts many devices behind one.
const PER_ADDRESS: u32 = 128;
/// In all: at about 30 KiB each in mid-handshake, 60 MiB.
const IN_ALL: u32 = 2048;

#[derive(Default)]
struct Counts {
    all: u32,
    by_address: HashMap<IpAddr, u32>,
}

/// Room for strangers. Cheap to clone.
#[derive(Clone, Default)]
pub struct Admission {
    counts: Arc<Mutex<Counts>>,
}

/// A place taken; given back when dropped. Drop it once the peer is authenticated.
pub struct Place {
    counts: Arc<Mutex<Counts>>,
    address: IpAddr,
}

impl Admission {
    /// Takes a place, if there is one.
    #[must_use]
    pub fn enter(&self, address: IpAddr) -> Option<Place> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let here = counts.by_address.get(&address).copied().unwrap_or(0);
        if counts.all >= IN_ALL || here >= PER_ADDRESS {
            return None;
        }
        counts.all += 1;
        counts.by_address.insert(address, here + 1);
        Some(Place {
            counts: Arc::clone(&self.counts),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all = counts.all.saturating_sub(1);
        match counts.by_address.get_mut(&self.address) {
            Some(here) if *here > 1 => *here -= 1,
            _ => drop(counts.by_address.remove(&self.address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_places() {
        let admission = Admission::default();
        let one: IpAddr = [192, 0, 2, 1].into();
        let places: Vec<_> = std::iter::from_fn(|| admission.enter(one)).collect();
        assert_eq!(places.len(), PER_ADDRESS as usize);
        assert!(admission.enter([192, 0, 2, 2].into()).is_some());
        drop(places);
        assert!(admission.enter(one).is_some());
    }

    #[test]
    fn many_addresses_cannot_take_more_than_all_places() {
        let admission = Admission::default();
        let places: Vec<_> = (0..u32::MAX)
            .map_while(|n| admission.enter(std::net::Ipv4Addr::from(n).into()))
            .collect();
        assert_eq!(places.len(), IN_ALL as usize);
        drop(places);
        assert!(admission.counts.lock().unwrap().by_address.is_empty());
    }
}

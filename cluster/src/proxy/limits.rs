//! How much room strangers may take: connections that are not authenticated yet.
//!
//! Before authentication only an address tells one stranger from another, and a carrier's NAT puts
//! thousands of devices behind one. So no address has a fixed share: it may hold as many places as
//! are left free. A fleet behind one address gets half of all places while nobody else wants any,
//! and whoever comes then still finds places, however many addresses hold on to theirs.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use tokio::sync::{Notify, Semaphore};

/// TCP connections, from the first byte to the end of authentication, but for bare SSH. In
/// mid-handshake one takes about 30 KiB. At worst, with what TLS and HTTP/2 keep for a peer that
/// sends more than is read, it takes 200 KiB: 400 MiB.
const TCP: u32 = 2048;
/// Bare SSH, from the greeting to the end of authentication. A packet of 256 KiB gets its room as
/// soon as its length is there, so this is 128 MiB at worst.
const SSH: u32 = 512;
/// QUIC handshakes under way, and what follows until the peer is known: about 30 KiB each, and at
/// worst 64 KiB more, 190 MiB. One takes a round trip, so this is 1,000 a second from one address
/// over the slowest links.
const HANDSHAKES: u32 = 2048;
/// QUIC connections that wait for their handshake to begin, at about 4 KiB each.
const WAITING: u32 = 16_384;
/// Passwords that wait to be checked. Four are at once, in a twentieth of a second each: whoever
/// comes last waits for some seconds.
const LOGINS: u32 = 256;
/// TLS handshakes whose expensive part may be due at once: enough for the processors of a small
/// server. Everything else that is due waits behind them, dials included.
const TLS_TURNS: usize = 4;
/// Who shares a network of this many bits shares one IPv6 customer's connection (RFC 6177).
const IPV6_CUSTOMER: u32 = 64;

/// Room of every kind.
#[derive(Clone)]
pub struct Limits {
    /// For TCP connections.
    pub tcp: Places,
    /// For those of them that speak SSH.
    pub ssh: Places,
    /// For QUIC handshakes under way.
    pub handshakes: Places,
    /// For QUIC connections before that.
    pub waiting: Places,
    /// For passwords that wait to be checked.
    pub logins: Places,
    /// For the expensive part of TLS handshakes over TCP.
    pub tls: Turns,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            tcp: Places::new(TCP),
            ssh: Places::new(SSH),
            handshakes: Places::new(HANDSHAKES),
            waiting: Places::new(WAITING),
            logins: Places::new(LOGINS),
            tls: Turns(Arc::new(Semaphore::new(TLS_TURNS))),
        }
    }
}

/// Lets only a few do something expensive at once. Cheap to clone.
#[derive(Clone)]
pub struct Turns(Arc<Semaphore>);

impl Turns {
    /// Takes the first step of a handshake when it is its turn: that is where a server calculates.
    /// Then it waits for the network, and holds up nobody.
    pub async fn begin<F: Future>(&self, handshake: F) -> F::Output {
        let mut handshake = pin!(handshake);
        // It is never closed; if it were, nobody should be kept waiting.
        let turn = self.0.acquire().await.ok();
        let first = std::future::poll_fn(|cx| Poll::Ready(handshake.as_mut().poll(cx))).await;
        drop(turn);
        match first {
            Poll::Ready(done) => done,
            Poll::Pending => handshake.await,
        }
    }
}

/// Room of one kind. Cheap to clone.
#[derive(Clone)]
pub struct Places {
    shared: Arc<Shared>,
}

struct Shared {
    limit: u32,
    counts: Mutex<Counts>,
    freed: Notify,
}

#[derive(Default)]
struct Counts {
    all: u32,
    by_address: HashMap<IpAddr, u32>,
}

/// A place taken; given back when dropped. Drop it once the peer is authenticated.
pub struct Place {
    shared: Arc<Shared>,
    address: IpAddr,
}

impl Places {
    /// This many in all.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        let shared = Shared {
            limit,
            counts: Mutex::default(),
            freed: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Takes a place, if there is one for this address.
    #[must_use]
    pub fn enter(&self, address: IpAddr) -> Option<Place> {
        let address = customer(address);
        let mut counts = self.shared.lock();
        let here = counts.here(address);
        if here >= self.shared.free(&counts) {
            return None;
        }
        counts.all += 1;
        counts.by_address.insert(address, here + 1);
        Some(Place {
            shared: Arc::clone(&self.shared),
            address,
        })
    }

    /// Whether there is a place for this address.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        let counts = self.shared.lock();
        counts.here(customer(address)) < self.shared.free(&counts)
    }

    /// How many are taken.
    #[must_use]
    pub fn taken(&self) -> u32 {
        self.shared.lock().all
    }

    /// Whether nobody finds a place.
    #[must_use]
    pub fn are_taken(&self) -> bool {
        self.shared.free(&self.shared.lock()) == 0
    }

    /// Returns when a place was given back, even if that was before the call.
    pub async fn freed(&self) {
        self.shared.freed.notified().await;
    }
}

impl Counts {
    fn here(&self, customer: IpAddr) -> u32 {
        self.by_address.get(&customer).copied().unwrap_or(0)
    }
}

impl Shared {
    const fn free(&self, counts: &Counts) -> u32 {
        self.limit.saturating_sub(counts.all)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.shared.lock();
        counts.all = counts.all.saturating_sub(1);
        match counts.by_address.get_mut(&self.address) {
            Some(here) if *here > 1 => *here -= 1,
            _ => drop(counts.by_address.remove(&self.address)),
        }
        drop(counts);
        self.shared.freed.notify_one();
    }
}

/// Whom an address stands for. An IPv6 customer has more addresses than there are places.
pub(super) fn customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let network = u128::from(v6) & !(u128::MAX >> IPV6_CUSTOMER);
            Ipv6Addr::from(network).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u32 = 64;

    fn all_that_enter(places: &Places, address: IpAddr) -> Vec<Place> {
        std::iter::from_fn(|| places.enter(address)).collect()
    }

    fn v4(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from(number).into()
    }

    #[test]
    fn one_address_gets_half_while_it_is_alone_and_leaves_room_for_others() {
        let places = Places::new(LIMIT);
        let first = all_that_enter(&places, v4(1));
        assert_eq!(first.len(), 32);
        assert!(!places.admits(v4(1)) && places.admits(v4(2)));
        let second = all_that_enter(&places, v4(2));
        assert_eq!(second.len(), 16);
        drop(first);
        assert_eq!(all_that_enter(&places, v4(3)).len(), 24);
        drop(second);
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn a_few_addresses_cannot_keep_out_a_new_one() {
        let places = Places::new(LIMIT);
        let greedy: Vec<_> = (0..6)
            .flat_map(|n| all_that_enter(&places, v4(n)))
            .collect();
        assert_eq!(greedy.len(), 63);
        assert!(places.enter(v4(99)).is_some());
    }

    #[test]
    fn many_addresses_cannot_take_more_than_there_is() {
        let places = Places::new(LIMIT);
        let taken: Vec<_> = (0..1000).filter_map(|n| places.enter(v4(n))).collect();
        assert_eq!(taken.len(), LIMIT as usize);
        assert!(places.enter(v4(1000)).is_none());
        drop(taken);
        assert!(places.shared.lock().by_address.is_empty());
    }

    #[test]
    fn an_ipv6_customer_is_one_address_and_a_mapped_ipv4_address_is_itself() {
        let places = Places::new(LIMIT);
        let customer = |host: u16| IpAddr::from([0x2001, 0xdb8, 7, 1, 0, 0, 0, host]);
        let taken: Vec<_> = (0..1000)
            .filter_map(|n| places.enter(customer(n)))
            .collect();
        assert_eq!(taken.len(), 32);
        let mapped = std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
        let _mapped = places.enter(mapped.into());
        let counts = places.shared.lock();
        assert!(counts.by_address.contains_key(&[192, 0, 2, 1].into()));
    }

    #[tokio::test]
    async fn who_waits_for_the_network_leaves_the_turn_to_others() {
        let turns = Turns(Arc::new(Semaphore::new(1)));
        let (answer, network) = tokio::sync::oneshot::channel();
        let mut slow = pin!(turns.begin(network));
        assert!(futures::FutureExt::now_or_never(slow.as_mut()).is_none());
        assert_eq!(turns.begin(std::future::ready(2)).await, 2);
        answer.send(1).unwrap();
        assert_eq!(slow.await, Ok(1));
    }

    #[tokio::test]
    async fn a_place_that_is_given_back_is_noticed_also_by_who_asks_later() {
        let places = Places::new(2);
        drop(places.enter(v4(1)));
        places.freed().await;
        assert!(futures::FutureExt::now_or_never(places.freed()).is_none());
    }
}

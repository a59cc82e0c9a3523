//! Which nodes have a live link, right now and in this process.
//!
//! A node has one link that takes dials. When a device links again, its old link has become useless
//! to it and is closed at once; unless it says that it moves, by
//! [`protocol::message::control::ToCluster::Moving`]. Then the old link is retired: it takes no more
//! dials, and stays open for the streams it has. That word goes over the old link, and may come
//! later than the new one: so long a link with streams is kept, too.
//!
//! Here also show two devices that link with the same key. A device that boots again never goes back
//! to an earlier boot, so one that does, while another boot has a link, is another device: it is
//! refused, and the link that is there stays. What does not show: copies that share a kernel, such
//! as containers, since they have the same boot id. The generations of their certificates tell.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use protocol::error::CloseCode;
use protocol::identity::NodeId;
use tokio::sync::mpsc;

use super::Transport;
use super::live::{About, Device, Live};

/// Control frames waiting to be sent on one link.
pub const CONTROL_QUEUE: usize = 8;
/// Why a link has ended, as it stands in listings.
pub(super) const REPLACED: &str = "replaced by another link";
/// Retired links that one node may have. More than one move at a time is a flapping network; whoever
/// moves this often has lost the streams of the first.
const RETIRED: usize = 4;
/// Boots of a node that are remembered.
const BOOTS: usize = 4;

/// All live links. Cheap to clone.
#[derive(Clone, Default)]
pub struct Registry {
    nodes: Arc<Mutex<HashMap<NodeId, Entry>>>,
    serial: Arc<AtomicU64>,
}

/// What is remembered of a node that has linked. It stays when the links are gone, for the boots.
#[derive(Default)]
struct Entry {
    current: Option<Arc<Live>>,
    retired: Vec<Arc<Live>>,
    /// The newest last.
    boots: Vec<[u8; 16]>,
}

/// A device that was refused since another one with its key has a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Twin {
    /// Where the other one is.
    pub other: SocketAddr,
}

impl Registry {
    /// Adds a link, in place of an older one of the same node.
    ///
    /// # Errors
    /// If another device with the same key has a link.
    pub fn add(
        &self,
        device: Device,
        transport: Arc<dyn Transport>,
        control: mpsc::Sender<Bytes>,
        about: About,
    ) -> Result<Arc<Live>, Twin> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let live = Arc::new(Live::new(device, serial, transport, control, about));
        let mut nodes = self.lock();
        let entry = nodes.entry(device.node).or_default();
        entry.meet(&device)?;
        let out_of_use = entry.replace(Arc::clone(&live));
        drop(nodes);
        if let Some(old) = out_of_use {
            old.close(CloseCode::Replaced, REPLACED);
        }
        Ok(live)
    }

    /// Takes a link away; tells whether it was the one that takes dials.
    pub fn remove(&self, live: &Live) -> bool {
        let mut nodes = self.lock();
        let Some(entry) = nodes.get_mut(&live.node) else {
            return false;
        };
        entry.retired.retain(|l| l.serial != live.serial);
        let current = entry
            .current
            .take_if(|current| current.serial == live.serial);
        current.is_some()
    }

    /// Forgets a removed node.
    pub fn forget(&self, node: NodeId) {
        self.lock().remove(&node);
    }

    /// Closes all links of a node; `why` is for listings.
    pub fn close(&self, node: NodeId, code: CloseCode, why: &'static str) {
        let mut links = Vec::new();
        if let Some(entry) = self.lock().get(&node) {
            links.extend(entry.current.iter().chain(&entry.retired).cloned());
        }
        for live in links {
            live.close(code, why);
        }
    }

    /// The node's link that takes dials.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<Arc<Live>> {
        self.lock().get(&node)?.current.clone()
    }

    /// All links that take dials.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Live>> {
        let nodes = self.lock();
        nodes.values().filter_map(|e| e.current.clone()).collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let nodes = self.lock();
        nodes.values().filter(|e| e.current.is_some()).count()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// No code panics while it holds this lock, so a poisoned one holds good data.
    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Entry>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// A device wants to link.
    fn meet(&mut self, device: &Device) -> Result<(), Twin> {
        if device.boot_id == [0; 16] {
            return Ok(());
        }
        let newest = self.boots.last() == Some(&device.boot_id);
        let known = self.boots.contains(&device.boot_id);
        if known
            && !newest
            && let Some(current) = &self.current
            && current.device.boot_id != device.boot_id
            // Who holds newer certificates is not the copy.
            && device.generation <= current.device.generation
        {
            return Err(Twin {
                other: current.transport.remote(),
            });
        }
        self.boots.retain(|boot| *boot != device.boot_id);
        if self.boots.len() == BOOTS {
            self.boots.remove(0);
        }
        self.boots.push(device.boot_id);
        Ok(())
    }

    /// Puts a link in its place; gives the one that is of no use any more.
    fn replace(&mut self, live: Arc<Live>) -> Option<Arc<Live>> {
        let boot_id = live.device.boot_id;
        let old = self.current.replace(live)?;
        let may_move = old.is_moving() || old.streams() > 0;
        if !may_move || old.device.boot_id != boot_id {
            return Some(old);
        }
        old.retire();
        self.retired.push(old);
        (self.retired.len() > RETIRED).then(|| self.retired.remove(0))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use futures::FutureExt;
    use futures::future::BoxFuture;

    use super::*;
    use crate::tunnel::live::Done;
    use crate::tunnel::stream::Stream;

    /// A connection that remembers how it was closed.
    struct Wire {
        port: u16,
        closed: Mutex<Option<CloseCode>>,
    }

    impl Transport for Wire {
        fn open(&self) -> BoxFuture<'_, io::Result<Stream>> {
            std::future::ready(Err(io::ErrorKind::Unsupported.into())).boxed()
        }

        fn close(&self, code: CloseCode) {
            self.closed.lock().unwrap().get_or_insert(code);
        }

        fn remote(&self) -> SocketAddr {
            ([192, 0, 2, 1], self.port).into()
        }

        fn round_trip(&self) -> Duration {
            Duration::ZERO
        }

        fn heard(&self) -> u64 {
            0
        }

        fn wire_bytes(&self) -> u64 {
            0
        }

        fn kind(&self) -> &'static str {
            "wire"
        }
    }

    impl Wire {
        fn closed(&self) -> Option<CloseCode> {
            *self.closed.lock().unwrap()
        }
    }

    const NODE: NodeId = NodeId([1; 16]);

    /// A device of one node: its boot, its certificates' generation, and where it is.
    fn device(boot: u8, generation: u32, port: u16) -> (Device, Arc<Wire>) {
        let device = Device {
            node: NODE,
            boot_id: [boot; 16],
            generation: Some(generation),
        };
        let closed = Mutex::new(None);
        (device, Arc::new(Wire { port, closed }))
    }

    fn link(registry: &Registry, (device, wire): &(Device, Arc<Wire>)) -> Result<Arc<Live>, Twin> {
        let (control, _) = mpsc::channel(1);
        registry.add(*device, Arc::clone(wire) as _, control, About::default())
    }

    #[test]
    fn a_new_link_takes_the_place_of_the_old_one_at_once() {
        let registry = Registry::default();
        let (first, second) = (device(1, 1, 1), device(1, 1, 2));
        let old = link(&registry, &first).unwrap();
        let new = link(&registry, &second).unwrap();
        assert_eq!(first.1.closed(), Some(CloseCode::Replaced));
        assert_eq!(registry.get(NODE).unwrap().serial, new.serial);
        assert!(!registry.remove(&old) && registry.len() == 1);
        assert!(registry.remove(&new) && registry.is_empty());
        assert_eq!(second.1.closed(), None);
    }

    #[tokio::test]
    async fn a_link_that_moves_keeps_its_streams_until_they_end() {
        let registry = Registry::default();
        let (first, second) = (device(1, 1, 1), device(1, 1, 2));
        let old = link(&registry, &first).unwrap();
        let streams = (old.stream(), old.stream());
        old.moves();
        // It may come to nothing: dials still go to the link that is there.
        assert_eq!(registry.get(NODE).unwrap().serial, old.serial);
        let new = link(&registry, &second).unwrap();
        assert_eq!(registry.get(NODE).unwrap().serial, new.serial);
        assert_eq!((first.1.closed(), old.is_retired()), (None, true));
        drop(streams.0);
        assert!(old.done().now_or_never().is_none());
        drop(streams.1);
        assert_eq!(old.done().now_or_never(), Some(Done::Replaced));
        registry.remove(&old);
        assert_eq!(registry.get(NODE).unwrap().serial, new.serial);
    }

    #[tokio::test(start_paused = true)]
    async fn the_word_of_a_move_may_come_after_the_new_link_but_not_much() {
        for comes in [true, false] {
            let registry = Registry::default();
            let (first, second) = (device(1, 1, 1), device(1, 1, 2));
            let old = link(&registry, &first).unwrap();
            let stream = old.stream();
            let new = link(&registry, &second).unwrap();
            assert_eq!(registry.get(NODE).unwrap().serial, new.serial);
            assert_eq!((first.1.closed(), old.is_retired()), (None, true));
            if comes {
                old.moves();
                let done = tokio::time::timeout(Duration::from_secs(3600), old.done());
                assert!(done.await.is_err());
                drop(stream);
                assert_eq!(old.done().await, Done::Replaced);
            } else {
                assert_eq!(old.done().await, Done::Abandoned);
            }
        }
    }

    #[test]
    fn a_link_that_was_announced_and_did_not_come_excuses_no_later_one() {
        let registry = Registry::default();
        let (first, second) = (device(1, 1, 1), device(2, 1, 2));
        let old = link(&registry, &first).unwrap();
        let _stream = old.stream();
        old.moves();
        // A boot ends all that was before it.
        link(&registry, &second).unwrap();
        assert_eq!(first.1.closed(), Some(CloseCode::Replaced));
    }

    #[tokio::test(start_paused = true)]
    async fn a_move_that_came_to_nothing_is_none_later() {
        let registry = Registry::default();
        let (first, second) = (device(1, 1, 1), device(1, 1, 2));
        link(&registry, &first).unwrap().moves();
        tokio::time::sleep(Duration::from_secs(60)).await;
        link(&registry, &second).unwrap();
        assert_eq!(first.1.closed(), Some(CloseCode::Replaced));
    }

    #[test]
    fn a_node_that_moves_again_and_again_leaves_few_links_behind() {
        let registry = Registry::default();
        let wires: Vec<_> = (0..1000).map(|port| device(1, 1, port)).collect();
        let streams = wires.iter().map(|wire| {
            let live = link(&registry, wire).unwrap();
            live.moves();
            live.stream()
        });
        let _streams: Vec<_> = streams.collect();
        let open = wires.iter().filter(|(_, wire)| wire.closed().is_none());
        assert_eq!(open.count(), RETIRED + 1);
        assert_eq!(registry.lock()[&NODE].retired.len(), RETIRED);
        registry.close(NODE, CloseCode::Denied, "locked");
        assert!(wires.iter().all(|(_, wire)| wire.closed().is_some()));
    }

    #[test]
    fn of_two_devices_with_one_key_the_one_that_comes_back_is_refused() {
        let registry = Registry::default();
        let (ours, copy) = (device(1, 1, 1), device(2, 1, 2));
        link(&registry, &ours).unwrap();
        // So far, it may have booted again.
        let linked = link(&registry, &copy).unwrap();
        let other = copy.1.remote();
        for _ in 0..3 {
            assert_eq!(link(&registry, &ours).err(), Some(Twin { other }));
        }
        assert_eq!(copy.1.closed(), None);
        // Alone, either is welcome; the other one is then refused.
        registry.remove(&linked);
        link(&registry, &ours).unwrap();
        assert!(link(&registry, &copy).is_err());
    }

    #[test]
    fn who_holds_newer_certificates_is_not_the_copy() {
        let registry = Registry::default();
        link(&registry, &device(1, 1, 1)).unwrap();
        let copy = device(2, 1, 2);
        link(&registry, &copy).unwrap();
        link(&registry, &device(1, 2, 1)).unwrap();
        assert_eq!(copy.1.closed(), Some(CloseCode::Replaced));
        assert!(link(&registry, &copy).is_err());
    }

    #[test]
    fn a_device_that_boots_often_or_does_not_tell_is_no_copy() {
        let registry = Registry::default();
        for boot in (1..200).chain([0, 0, 200, 0]) {
            for _ in 0..3 {
                link(&registry, &device(boot, 1, 1)).unwrap();
            }
        }
        assert!(registry.lock()[&NODE].boots.len() <= BOOTS);
        registry.forget(NODE);
        assert!(registry.lock().is_empty());
    }
}

//! What another network means for the link.
//!
//! A link over QUIC goes on from the new address at once; any other is made anew at once. Without
//! any network there is nothing to do: the next change comes with one.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use protocol::keepalive::Profile;
use protocol::link::Memory;

use super::Runner;
use crate::network::{InterfaceKind, Network, NetworkId};

/// Networks that are remembered: a vehicle's depots, a modem, a workshop.
const REMEMBERED: usize = 8;

/// What was learnt of the networks the device was in since its start, the latest last.
#[derive(Default)]
pub(super) struct Memories(Vec<(NetworkId, Memory)>);

impl Memories {
    fn keep(&mut self, network: NetworkId, memory: Memory) {
        self.0.retain(|(known, _)| *known != network);
        if self.0.len() >= REMEMBERED {
            self.0.remove(0);
        }
        self.0.push((network, memory));
    }

    fn of(&self, network: NetworkId) -> Option<Memory> {
        let mut all = self.0.iter();
        all.find_map(|&(known, memory)| (known == network).then_some(memory))
    }
}

/// What silence may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Thrift {
    /// As the kind of the interface suggests.
    #[default]
    ByInterface,
    /// The same everywhere.
    Always(Profile),
}

impl FromStr for Thrift {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "auto" => Self::ByInterface,
            "metered" => Self::Always(Profile::Metered),
            "normal" => Self::Always(Profile::Normal),
            "lan" => Self::Always(Profile::Lan),
            _ => return Err("expected auto, metered, normal or lan"),
        })
    }
}

impl Thrift {
    /// What silence may cost on such a network.
    pub(super) const fn profile(self, kind: InterfaceKind) -> Profile {
        match (self, kind) {
            (Self::Always(profile), _) => profile,
            (_, InterfaceKind::Cellular) => Profile::Metered,
            (_, InterfaceKind::Loopback) => Profile::Lan,
            (_, InterfaceKind::Wired | InterfaceKind::Wifi | InterfaceKind::Unknown) => {
                Profile::Normal
            }
        }
    }
}

impl Runner {
    pub(super) fn network(&mut self, network: Network, now: Duration) {
        let before = std::mem::replace(&mut self.network, network);
        let (id, moved) = (self.network.id, self.network.differs_from(&before));
        if moved && before.local.is_some() {
            self.memories.keep(before.id, self.supervisor.memory());
        }
        let memory = self.memories.of(id);
        if moved {
            self.tell_network();
        } else if id == before.id || memory.is_none() {
            return;
        }
        if self.network.local.is_some() {
            let profile = self.thrift.profile(self.network.kind);
            self.supervisor
                .handle_network_changed(profile, memory.unwrap_or_default(), now);
        }
    }

    fn tell_network(&self) {
        let Network {
            interface,
            kind,
            local,
            ..
        } = &self.network;
        log::debug!("network: {}", self.network);
        match local {
            Some(_) => log::info!("the network is another one: {interface} ({})", kind.name()),
            None => log::info!("there is no network"),
        }
    }

    /// Lets the network be looked at as the way to where the cluster was found.
    pub(super) fn found(&self, cluster: Option<IpAddr>) {
        self.towards.send_if_modified(|towards| {
            let changed = cluster.is_some() && *towards != cluster;
            *towards = cluster.or(*towards);
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::transport::Kind;

    #[test]
    fn a_modem_is_metered_unless_somebody_says_otherwise() {
        let cellular = InterfaceKind::Cellular;
        assert_eq!(Thrift::default().profile(cellular), Profile::Metered);
        let told: Thrift = "lan".parse().unwrap();
        assert_eq!(told.profile(cellular), Profile::Lan);
        let by_interface: Thrift = "auto".parse().unwrap();
        assert_eq!(by_interface.profile(InterfaceKind::Wired), Profile::Normal);
    }

    #[test]
    fn the_latest_networks_are_remembered() {
        let ssh = Memory {
            worked: Some(Kind::Ssh),
            ..Memory::default()
        };
        let mut memories = Memories::default();
        for id in 0..20 {
            memories.keep(NetworkId(id), Memory::default());
            memories.keep(NetworkId(0), ssh);
        }
        assert_eq!(memories.of(NetworkId(0)), Some(ssh));
        assert_eq!(memories.of(NetworkId(19)), Some(Memory::default()));
        assert_eq!(memories.of(NetworkId(12)), None);
        assert_eq!(memories.0.len(), REMEMBERED);
    }
}

//! Telling agents that their links ended with the process before.
//!
//! A cluster that is killed tells nobody. Over TCP its system does; over QUIC an agent would notice
//! at its next sign of life, for which metered links wait up to a quarter of an hour, and nobody
//! could dial it until then. So the process that follows sends each a stateless reset (RFC 9000
//! §10.3): the token that goes with the connection's id, which is remembered with the node's
//! presence. Whoever has no such connection any more takes no notice.
//!
//! An agent whose address changed may use a newer id by now, and learns as it would without this.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use protocol::identity::NodeId;
use ring::hmac::{HMAC_SHA256, Key, sign};
use tokio::time::{MissedTickBehavior, interval};

use super::registry::Registry;

/// Resets that go at once, and...
const AT_ONCE: usize = 20;
/// ...the pause after them: 1,000 a second is about what two processors can welcome.
const PAUSE: Duration = Duration::from_millis(20);
/// How often all are told that have not come back: packets get lost.
const ROUNDS: usize = 2;
/// Bytes before the token: as in the shortest packet that carries anything (RFC 9000 §10.3).
const HEAD: usize = 25;
/// Bytes (RFC 9000 §10.3).
const TOKEN: usize = 16;

/// A link of the process before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Whose.
    pub node: NodeId,
    /// Where the agent was.
    pub addr: SocketAddr,
    /// Id of the connection, as the agent addresses it.
    pub connection_id: Vec<u8>,
}

/// Sends resets.
pub struct Recall {
    socket: UdpSocket,
    key: Key,
}

impl Recall {
    /// Sends from the socket that the links came to, with the key that their tokens were made of.
    ///
    /// # Errors
    /// If the system has no descriptor left.
    pub fn new(socket: &UdpSocket, reset_key: &[u8]) -> io::Result<Self> {
        Ok(Self {
            socket: socket.try_clone()?,
            key: Key::new(HMAC_SHA256, reset_key),
        })
    }

    /// Tells all that have not come back.
    pub async fn tell(self, lost: Vec<Lost>, registry: Registry) {
        if lost.is_empty() {
            return;
        }
        tracing::info!(
            agents = lost.len(),
            "telling agents that their links are gone"
        );
        let mut pace = interval(PAUSE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for _ in 0..ROUNDS {
            let away = |lost: &&Lost| registry.get(lost.node).is_none();
            let away: Vec<_> = lost.iter().filter(away).collect();
            for some in away.chunks(AT_ONCE) {
                pace.tick().await;
                some.iter().for_each(|lost| self.reset(lost));
            }
        }
    }

    fn reset(&self, lost: &Lost) {
        // A full socket or an address of another family is as good as a lost packet.
        let sent = self.addressed(lost.addr).and_then(|addr| {
            let packet = packet(&self.key, &lost.connection_id);
            self.socket.send_to(&packet, addr)
        });
        if let Err(error) = sent {
            tracing::debug!(node = %lost.node, %error, "no reset");
        }
    }

    /// The address as this socket writes it.
    fn addressed(&self, addr: SocketAddr) -> io::Result<SocketAddr> {
        let ip = match (self.socket.local_addr()?.ip(), addr.ip().to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(v4)) => v4.to_ipv6_mapped().into(),
            (_, ip) => ip,
        };
        Ok((ip, addr.port()).into())
    }
}

/// A packet that cannot be told from any other, except by its token.
fn packet(key: &Key, connection_id: &[u8]) -> Vec<u8> {
    let mut packet = rand::random::<[u8; HEAD]>().to_vec();
    if let Some(first) = packet.first_mut() {
        *first = *first & 0x3f | 0x40;
    }
    packet.extend(sign(key, connection_id).as_ref().iter().take(TOKEN));
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_looks_like_a_short_packet_and_ends_with_the_ids_token() {
        let key = Key::new(HMAC_SHA256, &[1; 32]);
        let (one, again) = (packet(&key, b"id"), packet(&key, b"id"));
        assert_eq!((one.len(), one[0] & 0xc0), (HEAD + TOKEN, 0x40));
        assert_ne!(one[..HEAD], again[..HEAD]);
        assert_eq!(one[HEAD..], again[HEAD..]);
        assert_ne!(one[HEAD..], packet(&key, b"another")[HEAD..]);
    }

    #[test]
    fn addresses_are_written_as_the_socket_does() {
        let v4: SocketAddr = ([192, 0, 2, 1], 7).into();
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:7".parse().unwrap();
        for (bound, wanted) in [("127.0.0.1:0", v4), ("[::]:0", mapped)] {
            let socket = UdpSocket::bind(bound).unwrap();
            let recall = Recall::new(&socket, &[1; 32]).unwrap();
            for addr in [v4, mapped] {
                assert_eq!(recall.addressed(addr).unwrap(), wanted);
            }
        }
    }
}

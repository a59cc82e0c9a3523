//! What a network lets through.

use super::packet::{Flow, Protocol};

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the device.
    Up,
    /// To the device.
    Down,
}

/// Some packets: those of a protocol, of a service in the world, or of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    protocol: Option<Protocol>,
    port: Option<u16>,
}

impl Rule {
    /// All of a protocol.
    #[must_use]
    pub fn protocol(protocol: Protocol) -> Self {
        Self {
            protocol: Some(protocol),
            port: None,
        }
    }

    /// A service in the world.
    #[must_use]
    pub fn service(protocol: Protocol, port: u16) -> Self {
        Self {
            protocol: Some(protocol),
            port: Some(port),
        }
    }

    /// A port in the world, TCP and UDP.
    #[must_use]
    pub fn port(port: u16) -> Self {
        Self {
            protocol: None,
            port: Some(port),
        }
    }

    fn covers(self, flow: &Flow, direction: Direction) -> bool {
        let far = match direction {
            Direction::Up => flow.destination,
            Direction::Down => flow.source,
        };
        self.protocol
            .is_none_or(|protocol| protocol == flow.protocol)
            && self.port.is_none_or(|port| port == far.port())
    }
}

/// What one direction of a link lets through. Whatever it does not vanishes without a word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Nothing of this.
    pub deny: Vec<Rule>,
    /// If there is a list: nothing but this.
    pub only: Option<Vec<Rule>>,
    /// Nothing that is longer than this, IP header included: a black hole for path MTU discovery.
    pub longest: Option<usize>,
}

impl Filter {
    pub(super) fn passes(&self, packet: &[u8], direction: Direction) -> bool {
        if self.longest.is_some_and(|longest| packet.len() > longest) {
            return false;
        }
        let flow = Flow::of(packet);
        let among = |rules: &[Rule]| {
            flow.is_some_and(|flow| rules.iter().any(|rule| rule.covers(&flow, direction)))
        };
        !among(&self.deny) && self.only.as_deref().is_none_or(among)
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::made::{echo, tcp, udp};
    use super::*;

    const DEVICE: &str = "192.168.77.2:53";
    const SERVER: &str = "10.213.9.1:3080";

    #[test]
    fn rules_look_at_the_far_end() {
        let up = udp(DEVICE, SERVER, b"");
        let down = udp(SERVER, DEVICE, b"");
        let deny = |rule| Filter {
            deny: vec![rule],
            ..Filter::default()
        };
        for (rule, passes) in [
            (Rule::protocol(Protocol::Udp), false),
            (Rule::protocol(Protocol::Tcp), true),
            (Rule::service(Protocol::Udp, 3080), false),
            (Rule::service(Protocol::Tcp, 3080), true),
            (Rule::port(3080), false),
            (Rule::port(53), true),
        ] {
            assert_eq!(deny(rule).passes(&up, Direction::Up), passes, "{rule:?}");
            assert_eq!(
                deny(rule).passes(&down, Direction::Down),
                passes,
                "{rule:?}"
            );
        }
    }

    #[test]
    fn a_list_of_what_may_pass_shuts_out_the_rest() {
        let filter = Filter {
            only: Some(vec![Rule::service(Protocol::Tcp, 3080)]),
            ..Filter::default()
        };
        assert!(filter.passes(&tcp(DEVICE, SERVER, 2), Direction::Up));
        assert!(!filter.passes(&udp(DEVICE, SERVER, b""), Direction::Up));
        assert!(!filter.passes(&echo(8, DEVICE, SERVER, 1), Direction::Up));
        assert!(!filter.passes(b"nothing known", Direction::Up));
        assert!(Filter::default().passes(b"nothing known", Direction::Up));
    }

    #[test]
    fn longer_packets_vanish() {
        let filter = Filter {
            longest: Some(1300),
            ..Filter::default()
        };
        assert!(filter.passes(&udp(DEVICE, SERVER, &[0; 1272]), Direction::Up));
        assert!(!filter.passes(&udp(DEVICE, SERVER, &[0; 1273]), Direction::Up));
    }
}

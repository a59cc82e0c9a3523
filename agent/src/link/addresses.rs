//! From a name to addresses, in the order they are tried.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::timeout;

use super::transport::{Fault, FaultKind};
use crate::address::Address;

/// Addresses tried in one attempt: more cost more packets than they are worth.
const MAX_TRIES: usize = 4;
/// A resolver asks twice within this time; one that is slower has no answer.
const RESOLVE_LIMIT: Duration = Duration::from_secs(6);

/// The addresses of a host, never none. `whose` says whose they are.
pub(super) async fn resolve(address: &Address, whose: &str) -> Result<Vec<SocketAddr>, Fault> {
    if let Ok(ip) = address.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, address.port)]);
    }
    let failed = |why: &str| {
        let text = format!("{whose} name cannot be resolved: {why}");
        Fault::new(FaultKind::Unreachable, text)
    };
    let looking = tokio::net::lookup_host((address.host.as_str(), address.port));
    let found: Vec<_> = match timeout(RESOLVE_LIMIT, looking).await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) => return Err(failed(&error.to_string())),
        Err(_) => return Err(failed("the resolver does not answer")),
    };
    if found.is_empty() {
        return Err(failed("it has no address"));
    }
    Ok(found)
}

/// The addresses for one attempt: IPv6 first and both families in turn (RFC 8305 §4), each in the
/// resolver's order. After failures it starts one later each time, so that with many addresses,
/// those that never answer do not hide the others for good.
pub(super) fn in_turn(all: &[SocketAddr], failures: u32) -> Vec<SocketAddr> {
    let (mut six, mut four) = (
        all.iter().filter(|to| to.is_ipv6()),
        all.iter().filter(|to| to.is_ipv4()),
    );
    let mut order = Vec::with_capacity(all.len());
    while order.len() < all.len() {
        order.extend(six.next());
        order.extend(four.next());
    }
    if let Some(turn) = usize::try_from(failures)
        .unwrap_or(0)
        .checked_rem(order.len())
    {
        order.rotate_left(turn);
    }
    order.truncate(MAX_TRIES);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn ipv6_comes_first_and_families_take_turns() {
        let all = addresses(&["192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1"]);
        let order = addresses(&["[2001:db8::1]:1", "192.0.2.1:1", "192.0.2.2:1"]);
        assert_eq!(in_turn(&all, 0), order);
        let all = addresses(&["[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1"]);
        let order = addresses(&["[2001:db8::1]:1", "192.0.2.1:1", "[2001:db8::2]:1"]);
        assert_eq!(in_turn(&all, 0), order);
    }

    #[test]
    fn every_address_gets_its_turn() {
        let ports = |all: Vec<SocketAddr>| -> Vec<_> { all.iter().map(SocketAddr::port).collect() };
        let all: Vec<SocketAddr> = (1..=5).map(|port| ([192, 0, 2, 1], port).into()).collect();
        assert_eq!(ports(in_turn(&all, 0)), [1, 2, 3, 4]);
        assert_eq!(ports(in_turn(&all, 1)), [2, 3, 4, 5]);
        assert_eq!(ports(in_turn(&all, 9)), [5, 1, 2, 3]);
        assert_eq!(in_turn(&[], 5), []);
    }

    #[tokio::test]
    async fn literal_addresses_need_no_resolver() {
        for text in ["192.0.2.1:3080", "[2001:db8::1]:3080"] {
            let found = resolve(&text.parse().unwrap(), "the cluster's").await;
            assert_eq!(found.unwrap(), [text.parse().unwrap()]);
        }
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_said_to() {
        let address = "no-such-host.invalid:1".parse().unwrap();
        let fault = resolve(&address, "the HTTP proxy's").await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Unreachable);
        let said = "the HTTP proxy's name cannot be resolved: ";
        assert!(fault.text.starts_with(said), "{fault}");
    }
}

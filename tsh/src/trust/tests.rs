use std::time::Duration;

use protocol::SERVER_NAME;

use super::*;
use crate::testing::{Cas, NOW};

fn proxy() -> ProxyAddr {
    "tether.example.com".parse().unwrap()
}

fn pin_of(cas: &Cas) -> CaPin {
    cas.trusted().pins().unwrap()[0]
}

/// Judges a server of `cas` with these names, knowing these pins.
fn judge(cas: &Cas, names: &[&str], pins: Vec<CaPin>, now: u64) -> (Verdict, bool) {
    let chain = cas.server_chain(names);
    let verifier = Verifier::new(proxy(), pins);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
    let name = proxy().server_name().unwrap();
    let taken = verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], now);
    (verifier.verdict().unwrap(), taken.is_ok())
}

#[test]
fn the_pinned_ca_is_trusted_for_the_proxy_and_for_tethers_own_name() {
    let cas = Cas::new();
    for name in ["tether.example.com", SERVER_NAME] {
        let (verdict, taken) = judge(&cas, &[name], vec![pin_of(&cas)], NOW);
        assert_eq!(verdict, Verdict::Pinned(pin_of(&cas)));
        assert!(taken);
    }
}

#[test]
fn one_of_several_pins_is_enough_while_a_ca_is_replaced() {
    let cas = Cas::new();
    let pins = vec![CaPin([0; 32]), pin_of(&cas)];
    assert!(judge(&cas, &[SERVER_NAME], pins, NOW).1);
}

#[test]
fn an_unknown_cluster_is_not_taken_but_its_pin_is_told() {
    let cas = Cas::new();
    let (verdict, taken) = judge(&cas, &[SERVER_NAME], vec![], NOW);
    assert_eq!(verdict, Verdict::Unknown(pin_of(&cas)));
    assert!(!taken);
}

#[test]
fn another_ca_than_the_pinned_one_is_a_mismatch() {
    let (known, other) = (Cas::new(), Cas::new());
    let (verdict, taken) = judge(&other, &[SERVER_NAME], vec![pin_of(&known)], NOW);
    assert_eq!(
        verdict,
        Verdict::Mismatch {
            seen: Some(pin_of(&other))
        }
    );
    assert!(!taken);
}

#[test]
fn the_right_ca_does_not_help_another_host_or_an_expired_server() {
    let cas = Cas::new();
    let (verdict, taken) = judge(&cas, &["other.example.com"], vec![pin_of(&cas)], NOW);
    assert!(matches!(verdict, Verdict::Bad(_)) && !taken);
    let (verdict, taken) = judge(&cas, &[SERVER_NAME], vec![pin_of(&cas)], NOW + 86_400);
    assert!(matches!(verdict, Verdict::Bad(_)) && !taken);
}

#[test]
fn showing_the_pinned_ca_without_being_signed_by_it_does_not_do() {
    let (cas, thief) = (Cas::new(), Cas::new());
    let mut chain = thief.server_chain(&[SERVER_NAME]);
    chain[1] = cas.server_chain(&[SERVER_NAME])[1].clone();
    let verifier = Verifier::new(proxy(), vec![pin_of(&cas)]);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW));
    let name = proxy().server_name().unwrap();
    let taken = verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], now);
    assert!(taken.is_err());
    assert!(matches!(verifier.verdict(), Some(Verdict::Bad(_))));
}

#[test]
fn the_complaints_say_what_to_do_and_exit_with_246() {
    let (known, other) = (Cas::new(), Cas::new());
    for (pins, part) in [
        (vec![], "is not known"),
        (vec![pin_of(&known)], "IS NOT THE CLUSTER YOU KNOW"),
    ] {
        let chain = other.server_chain(&[SERVER_NAME]);
        let verifier = Verifier::new(proxy(), pins);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW));
        let name = proxy().server_name().unwrap();
        let _ = verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], now);
        let error = verifier.complaint().unwrap();
        assert_eq!(Exit::of(&error).code(), 246);
        let text = error.to_string();
        assert!(text.contains(part), "{text}");
        assert!(text.contains(&pin_of(&other).to_string()), "{text}");
        assert!(text.contains("--ca-pin"), "{text}");
    }
}

//! Devices that were away for long, and devices that are not the only ones with their key.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::net::SocketAddr;
use std::process::Command;

use hil_tests::cluster::{Agent, Cluster, me, text};
use hil_tests::process::run;
use serde_json::Value;

const SECOND: &str = r#""generation":2"#;

/// As somebody does who clones a flash image.
fn copied(cluster: &Cluster, original: &Agent, name: &str) -> Agent {
    let copy = cluster.device(name, None).unwrap();
    let mut cp = Command::new("cp");
    cp.arg("-a").args([original.data_dir(), copy.data_dir()]);
    run(&mut cp, b"").unwrap().ok().unwrap();
    copy
}

#[test]
fn a_device_whose_certificate_ended_a_year_ago_is_back_at_its_first_try() {
    let (_dir, cluster) = Cluster::with_clock("-380d").unwrap();
    let mut agent = cluster.joined_agent("gateway-1", "", None).unwrap();
    cluster.set_clock("+0").unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    agent.start().unwrap();
    agent.wait_for_status(SECOND).unwrap();
    cluster.check_reach("gateway-1").unwrap();
    let log = agent.log();
    assert!(log.contains("new certificates, generation=2"), "{log}");
    assert!(!log.contains("link down"), "{log}");
    cluster.audited("TJ003I", "gateway-1").unwrap();
}

#[test]
fn a_copy_of_a_device_is_turned_away_and_both_addresses_are_written_down() {
    let (_dir, cluster) = Cluster::with_clock("-4d").unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let mut ours = cluster.joined_agent("gateway-1", "", None).unwrap();
    let mut copy = copied(&cluster, &ours, "copy");
    cluster.set_clock("+0").unwrap();
    ours.start().unwrap();
    ours.wait_for_status(SECOND).unwrap();
    // The next link shows the new certificates, and that they have arrived.
    ours.stop().unwrap();
    ours.start().unwrap();
    cluster.check_reach("gateway-1").unwrap();

    copy.start().unwrap();
    let told = "another device uses this node's key";
    let status = copy.wait_for_status(told).unwrap();
    assert!(status.contains(r#""state":"waiting""#), "{status}");
    let events = cluster.audit("TJ004W").unwrap();
    let addr = |key| text(&events[0], key).parse::<SocketAddr>().unwrap();
    assert_ne!(addr("addr.remote"), addr("addr.renewed"), "{events:#?}");
    let nodes = cluster.tctl_json(&["nodes", "ls"]).unwrap();
    let problem = "another device uses its key";
    assert!(nodes[0]["problems"].to_string().contains(problem));

    cluster.check_reach("gateway-1").unwrap();
    let status = ours.wait_for_status(r#""state":"up""#).unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["last_loss"], Value::Null, "{status}");
}

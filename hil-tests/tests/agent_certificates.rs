//! Certificates of devices, which last a week: renewed in time, or replaced when it is too late.
//! The cluster's clock is set; that of the devices is right.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hil_tests::cluster::{Agent, Cluster, me};

const FIRST: &str = r#""generation":1"#;
const SECOND: &str = r#""generation":2"#;

fn started(mut agent: Agent) -> Agent {
    let status = agent.run(&["status", "--format", "json"], b"").unwrap();
    assert!(status.stdout.contains(FIRST), "{status:?}");
    agent.start().unwrap();
    agent
}

#[test]
fn certificates_are_renewed_at_half_life_and_replaced_after_their_end() {
    let (_dir, cluster) = Cluster::with_clock("-8d").unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let expired = cluster.joined_agent("expired", "", None).unwrap();
    let removed = cluster.joined_agent("removed", "", None).unwrap();
    cluster.set_clock("-4d").unwrap();
    let half = cluster.joined_agent("half", "", None).unwrap();
    let remove = cluster.tctl(&["nodes", "rm", "removed"]).unwrap();
    remove.ok().unwrap();
    cluster.set_clock("+0").unwrap();

    let half = started(half);
    half.wait_for_status(SECOND).unwrap();
    assert!(half.log().contains("certificates renewed, generation=2"));
    cluster.check_reach("half").unwrap();

    // Only its key is left to show.
    let expired = started(expired);
    expired.wait_for_status(SECOND).unwrap();
    assert!(expired.log().contains("new certificates, generation=2"));
    cluster.check_reach("expired").unwrap();
    for node in ["half", "expired"] {
        cluster.audited("TJ003I", node).unwrap();
    }

    let removed = started(removed);
    let told = "this node was removed and must join anew: this node was removed from the cluster";
    let status = removed.wait_for_status(told).unwrap();
    let waiting = r#""state":"waiting","retry_in_s":"#;
    assert!(status.contains(waiting), "{status}");
}

#[test]
fn a_certificate_that_only_the_cluster_knows_to_be_over_is_replaced() {
    let (_dir, cluster) = Cluster::with_clock("+0").unwrap();
    let agent = cluster.joined_agent("gateway-1", "", None).unwrap();
    cluster.set_clock("+8d").unwrap();
    let agent = started(agent);
    agent.wait_for_status(SECOND).unwrap();
    cluster.audited("T3007W", "certificate expired").unwrap();
    cluster.audited("TJ003I", "gateway-1").unwrap();
    cluster.wait_online("gateway-1", true).unwrap();
}

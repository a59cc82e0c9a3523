//! Devices whose clock is decades behind or ahead: they live by the cluster's time.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use hil_tests::cluster::{Agent, Cluster, me, text};
use hil_tests::time::{now, shown};

/// A day in January 1970: no battery.
const BEHIND: u64 = 1_000_000;
/// 2040-06-01.
const AHEAD: u64 = 2_222_208_000;

fn lives_in_the_present(agent: &Agent) {
    let status = agent.wait_for_status(r#""state":"up""#).unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let since = text(&status["link"], "since");
    let about = shown(now() - 600)..shown(now() + 600);
    assert!(about.contains(&since), "{status}");
    assert_eq!(status["certificate"]["expired"], false, "{status}");
    let log = agent.log();
    let up = log.lines().rev().find(|line| line.contains("link up"));
    assert!(about.contains(&up.unwrap().to_owned()), "{log}");
}

fn joins_in_one_year_and_goes_on_in_another(first: u64, then: u64) {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let mut agent = cluster.device("gateway-1", None).unwrap();
    agent.set_clock(first).unwrap();
    cluster.admit(&agent, "").unwrap();
    for year in [first, then] {
        agent.set_clock(year).unwrap();
        agent.start().unwrap();
        cluster.check_reach("gateway-1").unwrap();
        lives_in_the_present(&agent);
        agent.stop().unwrap();
    }
    // Only a certificate that is over is replaced, whatever year it is on the device.
    assert!(!agent.log().contains("certificates"), "{}", agent.log());
}

#[test]
fn a_device_joins_in_1970_and_is_reached_in_2040() {
    joins_in_one_year_and_goes_on_in_another(BEHIND, AHEAD);
}

#[test]
fn a_device_joins_in_2040_and_is_reached_in_1970() {
    joins_in_one_year_and_goes_on_in_another(AHEAD, BEHIND);
}

#[test]
fn certificates_are_renewed_by_the_clusters_time_whatever_the_year() {
    let (_dir, cluster) = Cluster::with_clock("-4d").unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let years = [("behind", BEHIND), ("ahead", AHEAD)];
    let agents = years.map(|(name, year)| {
        let mut agent = cluster.joined_agent(name, "", None).unwrap();
        agent.set_clock(year).unwrap();
        agent.start().unwrap();
        cluster.wait_online(name, true).unwrap();
        agent
    });
    for agent in &agents {
        agent.wait_for_status(r#""generation":1"#).unwrap();
    }
    // A link that is up learns the time by the next dial.
    cluster.set_clock("+0").unwrap();
    for ((name, _), agent) in years.iter().zip(&agents) {
        cluster.check_reach(name).unwrap();
        agent.wait_for_status(r#""generation":2"#).unwrap();
        assert!(agent.log().contains("certificates renewed, generation=2"));
        cluster.check_reach(name).unwrap();
    }
}

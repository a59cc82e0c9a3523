//! Fleets that lose their cluster all at once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use hil_tests::cluster::{Cluster, READY, me, text};
use hil_tests::process::poll;
use hil_tests::swarm::{Dialler, Storm, Swarm, Target};

/// Enough to stand in line, few enough for a debug build.
const FLEET: usize = 400;
/// Nobody should be left waiting for good; how long it takes is for benchmarks.
const LIMIT: Duration = Duration::from_secs(180);

struct World {
    _dir: tempfile::TempDir,
    cluster: Cluster,
    dialler: Dialler,
    swarm: Swarm,
}

fn world(count: usize) -> World {
    let (dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let token = cluster
        .tctl_json(&["tokens", "add", "--ttl", "1h"])
        .unwrap();
    let ca = cluster.tctl(&["auth", "export", "--type", "tls"]).unwrap();
    let target = Target {
        addr: format!("127.0.0.1:{}", cluster.port()).parse().unwrap(),
        ca: ca.ok().unwrap(),
        token: text(&token, "token"),
    };
    World {
        dialler: Dialler::new(&operator, target.addr, &target.ca).unwrap(),
        swarm: Swarm::start(&target, count).unwrap(),
        cluster,
        _dir: dir,
    }
}

impl World {
    /// Waits until the store knows of all links.
    fn settle(&self) {
        let all = poll(READY, || {
            let presence = self.cluster.tctl_json(&["get", "presence"]).ok()?;
            let up = |record: &&serde_json::Value| record.to_string().contains(r#""reason":null"#);
            (presence.as_array()?.iter().filter(up).count() == self.swarm.len()).then_some(())
        });
        assert!(all.is_some(), "{}", self.cluster.log());
    }
}

#[test]
fn a_fleet_is_back_after_a_crash_and_after_a_stop_and_people_are_served_meanwhile() {
    let mut world = world(FLEET);
    for how in ["kill", "stop"] {
        world.settle();
        let (cluster, swarm) = (&mut world.cluster, &world.swarm);
        let restart = || {
            if how == "kill" {
                cluster.kill()?;
            } else {
                cluster.stop()?;
            }
            cluster.resume()
        };
        let (storm, ()) = Storm::watch(swarm, Some(&world.dialler), LIMIT, restart).unwrap();
        assert!(storm.all_back, "{how}: {:?}", storm.tally);
        assert!(storm.tally.refused.is_empty(), "{how}: {:?}", storm.tally);
        assert!(!storm.served().is_empty(), "{how}: {:?}", storm.dials);
    }
}

#[test]
fn agents_that_have_no_reason_to_ask_are_told_that_their_cluster_was_killed() {
    let mut world = world(20);
    world.settle();
    world.swarm.hush(true);
    world.cluster.kill().unwrap();
    world.cluster.resume().unwrap();
    let told = world.swarm.wait(READY, |tally| tally.up == 0);
    assert!(told, "{:?}", world.swarm.tally());
    world.swarm.hush(false);
    let back = world.swarm.wait(LIMIT, |tally| tally.up == 20);
    assert!(back, "{:?}", world.swarm.tally());
}

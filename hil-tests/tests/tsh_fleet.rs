//! `tsh ls`: which nodes there are, and what is known of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hil_tests::cluster::{Cluster, me};

#[test]
fn nodes_are_listed_filtered_and_named() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let _gateway = cluster.agent("gateway-1", "env=lab", None).unwrap();
    let mut router = cluster.agent("router", "env=prod", None).unwrap();
    router.stop().unwrap();
    cluster.wait_online("router", false).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let list = |args: &[&str]| operator.tsh(&[&["ls"], args].concat()).unwrap();
    for (filter, names) in [
        (&[][..], "gateway-1\nrouter\n"),
        (&["env=lab"], "gateway-1\n"),
        (&["--search", "rout,prod"], "router\n"),
        (&["env=none"], ""),
    ] {
        let done = list(&[&["--format", "names"], filter].concat());
        assert_eq!(done.ok().unwrap(), names, "{filter:?}");
    }
    let none = list(&["env=none", "--format", "json"]);
    assert_eq!((none.stdout.as_str(), none.code()), ("[]\n", 0));
    assert_eq!(none.stderr, "No node matches.\n");

    let table = list(&["-v"]).ok().unwrap();
    let line = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("gateway-1").contains("online"), "{table}");
    assert!(line("router").contains("offline"), "{table}");
    assert!(line("router").contains("agent stopped"), "{table}");
}

//! `tether-agent`: joining, starting, telling how it is.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use hil_tests::cluster::{Agent, Cluster, me, text};
use hil_tests::process::run;

/// A join token for any number of uses, and the pin.
fn token(cluster: &Cluster) -> (String, String) {
    let token = cluster.tctl_json(&["tokens", "add"]).unwrap();
    (text(&token, "token"), text(&token, "ca_pin"))
}

fn configure(agent: &Agent, text: &str) {
    std::fs::write(agent.config_file(), text).unwrap();
}

#[test]
fn a_device_joins_once_unless_it_is_forced() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    let device = cluster.device("gateway-1", None).unwrap();
    let (secret, pin) = token(&cluster);
    let joined = device.join(&cluster, &secret, &pin, &[]).unwrap();
    assert_eq!(joined.code(), 0, "{joined:?}");
    for sentence in [
        "Joined the cluster lab as gateway-1",
        "tether-agent start --data-dir",
    ] {
        assert!(joined.stdout.contains(sentence), "{joined:?}");
    }
    assert!(!joined.stderr.contains(&secret), "{joined:?}");
    cluster.audited("TJ001I", "gateway-1").unwrap();
    for file in ["node.key", "node.state"] {
        let found = std::fs::metadata(device.data_dir().join(file)).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o600, "{file}");
    }

    let again = device.join(&cluster, &secret, &pin, &[]).unwrap();
    again.refused(1, "--force").unwrap();
    let key = || std::fs::read(device.data_dir().join("node.key")).unwrap();
    let before = key();
    let forced = device.join(&cluster, &secret, &pin, &["--force"]);
    forced.unwrap().ok().unwrap();
    assert!(key() == before, "the key is another");
    let nodes = cluster.tctl_json(&["nodes", "ls"]).unwrap();
    assert_eq!(nodes.as_array().unwrap().len(), 1, "{nodes}");
}

#[test]
fn a_configuration_can_hold_all_that_a_join_needs() {
    let (dir, cluster) = Cluster::temporary().unwrap();
    let (secret, pin) = token(&cluster);
    let addr = cluster.addr();
    let file = dir.path().join("token");
    let config =
        |name| format!("cluster = \"{addr}\"\nca_pin = \"{pin}\"\nnode_name = \"{name}\"\n");
    let with_token = |name| format!("{}token_file = \"{}\"\n", config(name), file.display());

    let mut alone = cluster.device("alone", None).unwrap();
    configure(&alone, &with_token("gateway-1"));
    alone.start().unwrap();
    alone.wait_for_status("cannot read the token file").unwrap();
    std::fs::write(&file, format!("{secret}\n")).unwrap();
    alone.wait_for_status(r#""state":"up""#).unwrap();
    cluster.wait_online("gateway-1", true).unwrap();

    let by_hand = cluster.device("by-hand", None).unwrap();
    configure(&by_hand, &config("gateway-2"));
    let join = ["join", "--token-file", file.to_str().unwrap()];
    let joined = by_hand.run(&join, b"").unwrap().ok().unwrap();
    assert!(joined.contains("as gateway-2"), "{joined}");
}

#[test]
fn a_check_names_all_that_is_wrong() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    let device = cluster.joined_agent("gateway-1", "", None).unwrap();
    let check = || device.run(&["start", "--check"], b"").unwrap();
    let fine = check().ok().unwrap();
    assert!(fine.contains("gateway-1 in the cluster lab"), "{fine}");

    let status = device.run(&["status", "-f", "yaml"], b"").unwrap();
    assert_eq!(status.code(), 1, "{status:?}");
    for line in ["running: false\n", "  name: \"gateway-1\"\n"] {
        assert!(status.stdout.contains(line), "{}", status.stdout);
    }

    for file in ["node.key", "node.state"] {
        let path = device.data_dir().join(file);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    }
    let torn = check();
    torn.refused(2, "node.key").unwrap();
    torn.refused(2, "node.state").unwrap();

    configure(&device, "colour = 1\nnode_name = 2\n");
    let wrong = check();
    wrong.refused(2, "agent.toml:1: colour").unwrap();
    wrong.refused(2, "agent.toml:2: node_name").unwrap();
}

#[test]
fn an_agent_says_what_it_is_and_says_goodbye() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let mut agent = cluster.joined_agent("gateway-1", "", None).unwrap();
    configure(&agent, "[labels]\nboard = \"mt300\"\n");
    agent.start().unwrap();
    let status = agent.wait_for_status(r#""state":"up""#).unwrap();
    for field in [
        r#""running":true"#,
        r#""name":"gateway-1""#,
        r#""cluster":{"name":"lab""#,
        r#""transport":"quic""#,
        r#""sessions":0"#,
    ] {
        assert!(status.contains(field), "{field} in {status}");
    }
    let second = agent.run(&["start"], b"").unwrap();
    second.refused(1, "another tether-agent").unwrap();

    let node = || {
        let listed = operator.tsh(&["ls", "--format", "json"]).unwrap();
        let nodes: serde_json::Value = serde_json::from_str(&listed.ok().unwrap()).unwrap();
        nodes[0].clone()
    };
    let uname = |what| {
        let said = run(Command::new("uname").arg(what), b"").unwrap();
        said.ok().unwrap().trim().to_owned()
    };
    let shown = node();
    assert_eq!(shown["online"], true);
    assert_eq!(shown["labels"]["board"], "mt300");
    assert_eq!(shown["agent_version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(shown["os"], uname("-s"));
    assert_eq!(shown["arch"], uname("-m"));
    assert_eq!(shown["kernel"], uname("-r"));

    agent.stop().unwrap();
    cluster.wait_online("gateway-1", false).unwrap();
    assert_eq!(node()["reason"], "agent stopped");
}

//! Logging in and out with `tsh`, and what trust decides.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::path::Path;

use hil_tests::cluster::{Cluster, PASSWORD, Person, me, text};
use hil_tests::openssh::SshAgent;
use hil_tests::terminal::Terminal;
use serde_json::Value;

fn status(person: &Person) -> Value {
    let status = person.tsh(&["status", "--format", "json"]).unwrap();
    serde_json::from_str(&status.ok().unwrap()).unwrap()
}

fn kept(person: &Person, name: &str) -> String {
    std::fs::read_to_string(person.kept(name).unwrap()).unwrap()
}

#[test]
fn a_login_is_shown_renewed_and_forgotten() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let operator = cluster.person("operator");
    assert_eq!(operator.tsh(&["status"]).unwrap().code(), 249);
    let wrong = operator.login(&cluster, "wrong").unwrap();
    wrong.refused(248, "wrong user name or password").unwrap();
    assert_eq!(operator.tsh(&["status"]).unwrap().code(), 249);

    operator.login(&cluster, PASSWORD).unwrap().ok().unwrap();
    let shown = status(&operator);
    assert_eq!(shown["user"], "operator");
    assert_eq!(shown["cluster"], "lab");
    assert_eq!(shown["proxy"], cluster.addr());
    assert_eq!(shown["valid"], true);
    let known_hosts = kept(&operator, "known_hosts");
    assert!(
        known_hosts.starts_with("@cert-authority * ssh-ed25519 "),
        "{known_hosts}"
    );

    // Who and where is remembered, the key is not used again.
    let key = kept(&operator, "key.pub");
    let renewal = ["login", "--password-file", "-", "--ttl", "1h"];
    let renewed = operator.tsh_with(&renewal, format!("{PASSWORD}\n").as_bytes());
    let renewed = renewed.unwrap().ok().unwrap();
    assert!(renewed.contains("(for 59 min)"), "{renewed}");
    assert_ne!(kept(&operator, "key.pub"), key);
    let logins = cluster.audit("T1000I").unwrap();
    let [first, second] = &logins[..] else {
        unreachable!("{logins:?}")
    };
    assert_eq!(text(first, "cert_expires"), text(&shown, "valid_until"));
    let until = text(&status(&operator), "valid_until");
    assert_eq!(text(second, "cert_expires"), until);

    operator.tsh(&["logout"]).unwrap().ok().unwrap();
    assert!(!operator.kept("key").unwrap().exists());
    assert_eq!(operator.tsh(&["status"]).unwrap().code(), 249);
    assert_eq!(operator.tsh(&["ls"]).unwrap().code(), 249);
    operator.tsh(&["logout"]).unwrap().ok().unwrap();
    // Whom to trust is not forgotten.
    let again = operator.login_with(&cluster, PASSWORD, &[]).unwrap();
    again.ok().unwrap();
}

#[test]
fn a_cluster_that_is_not_known_is_told_nothing_without_a_terminal() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let operator = cluster.person("operator");
    let done = operator.login_with(&cluster, PASSWORD, &[]).unwrap();
    done.refused(246, "is not known").unwrap();
    done.refused(246, &cluster.ca_pin().unwrap()).unwrap();
    done.refused(246, "--ca-pin").unwrap();
    for code in ["T1000I", "T1000W"] {
        assert_eq!(cluster.audit(code).unwrap(), [] as [Value; 0]);
    }
}

#[test]
fn a_cluster_with_another_ca_is_refused_loudly() {
    let (_dir, mut cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let wrong = format!("sha256:{}", "00".repeat(32));
    let wrong = ["--ca-pin", &wrong];
    let done = operator.login_with(&cluster, PASSWORD, &wrong).unwrap();
    done.refused(246, "IS NOT THE CLUSTER YOU KNOW").unwrap();

    cluster.set_up_anew().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let target = format!("{}@gateway-1", me());
    for (args, sentence) in [
        (&["ls"][..], "IS NOT THE CLUSTER YOU KNOW"),
        (
            &["ssh", &target, "true"],
            "is not the cluster you logged in to",
        ),
    ] {
        operator.tsh(args).unwrap().refused(246, sentence).unwrap();
    }
    let done = operator.login_with(&cluster, PASSWORD, &[]).unwrap();
    done.refused(246, "IS NOT THE CLUSTER YOU KNOW").unwrap();
    for code in ["T1000I", "T1000W", "T1006W"] {
        assert_eq!(cluster.audit(code).unwrap(), [] as [Value; 0]);
    }
    // The pin from the administrator lifts it.
    operator.login(&cluster, PASSWORD).unwrap().ok().unwrap();
    operator.tsh(&["ls"]).unwrap().ok().unwrap();
}

#[test]
fn a_cluster_that_cannot_be_reached_exits_with_245() {
    let (_dir, mut cluster) = Cluster::temporary().unwrap();
    cluster.stop().unwrap();
    let operator = cluster.person("operator");
    let done = operator.login_with(&cluster, PASSWORD, &[]).unwrap();
    done.refused(245, &cluster.addr()).unwrap();
    let nowhere = ["login", "--proxy", "no.such.host.invalid", "--user", "x"];
    let done = operator.tsh(&nowhere).unwrap();
    done.refused(245, "no.such.host.invalid").unwrap();
}

#[test]
fn every_command_names_an_expired_login_and_at_a_terminal_renews_it() {
    let (_dir, cluster) = Cluster::with_clock("-14h").unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    cluster.set_clock("+0").unwrap();
    let _agent = cluster.agent("gateway-1", "", None).unwrap();
    let target = format!("{}@gateway-1", me());
    for args in [
        &["ls"][..],
        &["ssh", &target, "true"],
        &["proxy", "ssh", &target],
    ] {
        let done = operator.tsh(args).unwrap();
        let sentence = "Your certificate for lab expired 2 h ago. Run: tsh login";
        done.refused(249, sentence).unwrap();
    }
    let status = operator.tsh(&["status"]).unwrap();
    status.refused(249, "not logged in").unwrap();

    let terminal = Terminal::open(&operator, "tsh ls").unwrap();
    terminal
        .wait_for("Your certificate for lab expired")
        .unwrap();
    terminal.wait_for("Password, or invite code: ").unwrap();
    terminal.enter(PASSWORD).unwrap();
    terminal.wait_for("ended with 0").unwrap();
    let screen = terminal.screen().unwrap();
    assert!(screen.contains("gateway-1"), "{screen}");
    assert!(!screen.contains(PASSWORD), "{screen}");
    operator
        .tsh(&["ssh", &target, "true"])
        .unwrap()
        .ok()
        .unwrap();
}

#[test]
fn ssh_agent_holds_the_key_until_logout() {
    let (dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let mut operator = cluster.person("operator");
    let agent = SshAgent::start(dir.path()).unwrap();
    operator.use_ssh_agent(&agent);
    for _ in 0..2 {
        let done = operator.login(&cluster, PASSWORD).unwrap();
        assert_eq!((done.code(), done.stderr.as_str()), (0, ""));
        let keys = agent.keys().unwrap();
        assert_eq!(keys.len(), 2, "one key and its certificate: {keys:?}");
        assert!(holds(&keys, &operator.kept("key.pub").unwrap()), "{keys:?}");
    }
    operator.tsh(&["logout"]).unwrap().ok().unwrap();
    assert_eq!(agent.keys().unwrap(), [""; 0]);
    let unwanted = operator.login_with(&cluster, PASSWORD, &["--no-agent"]);
    unwanted.unwrap().ok().unwrap();
    assert_eq!(agent.keys().unwrap(), [""; 0]);
}

/// Whether all are of this key.
fn holds(keys: &[String], public: &Path) -> bool {
    let mut fingerprint = std::process::Command::new("ssh-keygen");
    fingerprint.arg("-l").arg("-f").arg(public);
    let shown = hil_tests::process::run(&mut fingerprint, b"").unwrap();
    let shown = shown.ok().unwrap();
    let fingerprint = shown.split(' ').nth(1).unwrap();
    keys.iter().all(|key| key.contains(fingerprint))
}

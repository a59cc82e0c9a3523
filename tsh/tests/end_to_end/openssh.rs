//! OpenSSH through `tsh proxy ssh` and `tsh config`.

use std::process::Command;

use crate::client::{User, code, text};
use crate::cluster::{Cluster, Options};

/// The real client, with the configuration that tsh writes.
fn ssh(user: &User, program: &str, args: &[&str]) -> std::process::Output {
    let config = user.home.path().join("ssh config");
    let written = user.run(&["config"]);
    assert_eq!(code(&written), 0, "{written:?}");
    std::fs::write(&config, written.stdout).unwrap();
    let mut command = Command::new(program);
    command.env_remove("SSH_AUTH_SOCK").arg("-F").arg(&config);
    command.args(["-o", "LogLevel=ERROR"]);
    command.args(args).output().unwrap()
}

#[test]
fn openssh_trusts_the_node_and_logs_in() {
    for udp in [true, false] {
        let options = Options {
            udp,
            ..Options::default()
        };
        let user = User::logged_in(&Cluster::start(options));
        let done = ssh(&user, "ssh", &["root@gateway-1.lab", "echo hello; exit 5"]);
        assert_eq!(code(&done), 5, "{done:?}");
        assert_eq!(text(&done.stdout), "hello\n");
    }
}

#[test]
fn openssh_refuses_a_node_of_another_ca() {
    let options = Options {
        foreign_host_ca: true,
        ..Options::default()
    };
    let user = User::logged_in(&Cluster::start(options));
    let done = ssh(&user, "ssh", &["root@gateway-1.lab", "true"]);
    assert_eq!(code(&done), 255, "{done:?}");
}

#[test]
fn openssh_gets_the_proxys_sentence() {
    let user = User::logged_in(&Cluster::start(Options::default()));
    let done = ssh(&user, "ssh", &["root@nowhere.lab", "true"]);
    assert_eq!(code(&done), 255);
    assert!(
        text(&done.stderr).contains("There is no such node"),
        "{done:?}"
    );
}

#[test]
fn many_bytes_go_through_the_relay_unharmed() {
    let user = User::logged_in(&Cluster::start(Options::default()));
    let done = ssh(
        &user,
        "ssh",
        &["root@gateway-1.lab", "head -c 30000000 /dev/zero"],
    );
    assert_eq!(code(&done), 0, "{done:?}");
    assert_eq!(done.stdout.len(), 30_000_000);
}

#[test]
fn the_jump_host_is_known_to_the_configuration() {
    let user = User::logged_in(&Cluster::start(Options::default()));
    let shown = ssh(&user, "ssh", &["-G", "127.0.0.1"]);
    let shown = text(&shown.stdout);
    let (_, port) = user.proxy.split_once(':').unwrap();
    for line in [
        "user ann".to_owned(),
        format!("port {port}"),
        format!(
            "userknownhostsfile {}",
            user.entry().join("known_hosts").display()
        ),
        format!(
            "certificatefile {}",
            user.entry().join("key-cert.pub").display()
        ),
    ] {
        assert!(
            shown.lines().any(|shown| shown == line),
            "{line} in\n{shown}"
        );
    }
    let jump = ssh(
        &user,
        "ssh",
        &["-G", "-J", "127.0.0.1", "root@gateway-1.lab"],
    );
    let shown = text(&jump.stdout);
    assert!(
        shown.contains("proxyjump") && !shown.contains("proxycommand"),
        "{shown}"
    );
}

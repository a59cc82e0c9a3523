//! The product's main job: a shell on a device that accepts no connection, by certificate.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::process::Command;

use hil_tests::cluster::{Cluster, me, text};
use hil_tests::net::Nat;
use hil_tests::process::run;

#[test]
fn a_newcomers_first_afternoon_works_without_a_terminal() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    let me = me();
    let added = [
        "users", "add", "operator", "--roles", "access", "--logins", &me,
    ];
    let invite = text(&cluster.tctl_json(&added).unwrap(), "invite");
    let _agent = cluster.agent("gateway-1", "env=lab", None).unwrap();

    let operator = cluster.person("operator");
    std::fs::create_dir_all(&operator.home).unwrap();
    let (invite_file, password_file) = (operator.home.join("invite"), operator.home.join("pw"));
    std::fs::write(&invite_file, invite).unwrap();
    std::fs::write(&password_file, "a new password\n").unwrap();
    let (addr, pin) = (cluster.addr(), cluster.ca_pin().unwrap());
    let login = [
        "login", "--proxy", &addr, "--user", "operator", "--ca-pin", &pin,
    ];
    let files = [
        invite_file.to_str().unwrap(),
        password_file.to_str().unwrap(),
    ];
    let redeem = [
        &login[..],
        &["--invite-file", files[0], "--password-file", files[1]],
    ]
    .concat();
    operator.tsh(&redeem).unwrap().ok().unwrap();
    assert_eq!(
        operator.tsh(&redeem).unwrap().code(),
        248,
        "an invite works once"
    );
    operator
        .tsh(&[&login[..], &["--password-file", files[1]]].concat())
        .unwrap()
        .ok()
        .unwrap();

    assert_eq!(
        operator
            .tsh(&["ls", "env=lab", "--format", "names"])
            .unwrap()
            .ok()
            .unwrap(),
        "gateway-1\n"
    );
    assert_eq!(
        operator
            .tsh(&["ls", "env=prod", "--format", "names"])
            .unwrap()
            .ok()
            .unwrap(),
        ""
    );
    let target = format!("{me}@gateway-1");
    let done = operator
        .tsh(&["ssh", &target, "--", "uname", "-n"])
        .unwrap();
    assert_eq!(
        done.stdout.trim(),
        nix::unistd::gethostname().unwrap().to_str().unwrap()
    );
    assert_eq!(done.code(), 0, "{}", done.stderr);
    assert_eq!(
        operator.tsh(&["ssh", &target, "exit 42"]).unwrap().code(),
        42
    );
    let killed = operator.tsh(&["ssh", &target, "kill -TERM $$"]).unwrap();
    assert_eq!(killed.code(), 128 + 15);
    let split = operator
        .tsh(&["ssh", &target, "echo out; echo err >&2"])
        .unwrap();
    assert_eq!(
        (split.stdout.as_str(), split.stderr.as_str()),
        ("out\n", "err\n")
    );
    let echoed = operator
        .tsh_with(&["ssh", &target, "cat"], b"through the tunnel")
        .unwrap();
    assert_eq!(echoed.stdout, "through the tunnel");
}

#[test]
fn a_device_behind_nat_with_no_way_in_is_reached() {
    if !Nat::available() {
        eprintln!("skipped: this machine allows no network namespaces");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let nat = Nat::new().unwrap();
    let mut cluster = Cluster::start(dir.path(), "127.0.0.1").unwrap();
    cluster.use_plain_accounts().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let _agent = cluster.agent("gateway-1", "", Some(nat)).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let target = format!("{}@gateway-1", me());
    let addresses = operator
        .tsh(&["ssh", &target, "ip -4 -o addr"])
        .unwrap()
        .ok()
        .unwrap();
    assert!(
        addresses.contains("192.168.77.2"),
        "not the device's network: {addresses}"
    );
}

#[test]
fn openssh_reaches_a_node_through_tsh_proxy_ssh() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let _agent = cluster.agent("gateway-1", "", None).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let config = operator.ssh_config().unwrap();
    let target = format!("{}@gateway-1.lab", me());
    let mut ssh = Command::new("ssh");
    ssh.arg("-F")
        .arg(&config)
        .args(["-o", "BatchMode=yes", &target, "echo over openssh; exit 7"]);
    let done = run(ssh.env_remove("SSH_AUTH_SOCK"), b"").unwrap();
    assert_eq!(
        (done.stdout.as_str(), done.code()),
        ("over openssh\n", 7),
        "{}",
        done.stderr
    );

    let source = operator.home.join("file");
    let bytes: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&source, &bytes).unwrap();
    let copy = operator.home.join("copy");
    let mut rsync = Command::new("rsync");
    rsync
        .arg("-e")
        .arg(format!("ssh -F {} -o BatchMode=yes", config.display()));
    rsync
        .arg(&source)
        .arg(format!("{target}:{}", copy.display()));
    run(rsync.env_remove("SSH_AUTH_SOCK"), b"")
        .unwrap()
        .ok()
        .unwrap();
    assert!(
        std::fs::read(&copy).unwrap() == bytes,
        "rsync changed the file"
    );
}

#[test]
fn openssh_alone_jumps_with_the_certificates_in_ssh_agent() {
    let (dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let _agent = cluster.agent("gateway-1", "", None).unwrap();
    let operator = cluster.person("operator");
    let socket = dir.path().join("ssh-agent.sock");
    let mut agent = Command::new("ssh-agent");
    agent.arg("-D").arg("-a").arg(&socket);
    let mut agent =
        hil_tests::process::Daemon::start(&mut agent, &dir.path().join("ssh-agent.log")).unwrap();
    agent
        .wait_until("ssh-agent's socket", hil_tests::cluster::READY, || {
            socket.exists().then_some(())
        })
        .unwrap();
    let (addr, pin) = (cluster.addr(), cluster.ca_pin().unwrap());
    let mut login = operator.command().unwrap();
    login.args([
        "login", "--proxy", &addr, "--user", "operator", "--ca-pin", &pin,
    ]);
    login
        .args(["--password-file", "-"])
        .env("SSH_AUTH_SOCK", &socket);
    run(&mut login, hil_tests::cluster::PASSWORD.as_bytes())
        .unwrap()
        .ok()
        .unwrap();

    // Only what a plain user of OpenSSH has: a known_hosts with the cluster's host CA, and the agent.
    let known_hosts = dir.path().join("known_hosts");
    let ca = cluster
        .tctl(&["auth", "export", "--type", "host"])
        .unwrap()
        .ok()
        .unwrap();
    std::fs::write(&known_hosts, ca).unwrap();
    let config = dir.path().join("ssh_config");
    let lines = format!(
        "UserKnownHostsFile {}\nGlobalKnownHostsFile /dev/null\nBatchMode yes\nStrictHostKeyChecking yes\n",
        known_hosts.display()
    );
    std::fs::write(&config, lines).unwrap();
    let jump = format!("operator@{addr}");
    let target = format!("{}@gateway-1", me());
    let mut ssh = Command::new("ssh");
    ssh.arg("-F")
        .arg(&config)
        .args(["-J", &jump, &target, "echo jumped"]);
    let done = run(ssh.env("SSH_AUTH_SOCK", &socket), b"").unwrap();
    assert_eq!(done.stdout, "jumped\n", "{}", done.stderr);

    let mut ssh = Command::new("ssh");
    let target = format!("{}@nowhere", me());
    ssh.arg("-F")
        .arg(&config)
        .args(["-J", &jump, &target, "true"]);
    let done = run(ssh.env("SSH_AUTH_SOCK", &socket), b"").unwrap();
    assert!(
        done.stderr.contains("there is no node \"nowhere\""),
        "{}",
        done.stderr
    );
}

#[test]
fn a_node_is_back_without_help_after_agent_and_cluster_restart() {
    let (_dir, mut cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let mut agent = cluster.agent("gateway-1", "", None).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let target = format!("{}@gateway-1", me());
    let works = || {
        let done = operator.tsh(&["ssh", &target, "echo here"]).unwrap();
        assert_eq!(done.stdout, "here\n", "{}", done.stderr);
    };
    works();

    agent.stop().unwrap();
    cluster.wait_online("gateway-1", false).unwrap();
    agent.start().unwrap();
    cluster.wait_online("gateway-1", true).unwrap();
    works();

    agent.kill().unwrap();
    agent.start().unwrap();
    hil_tests::process::poll(hil_tests::cluster::READY, || {
        let done = operator.tsh(&["ssh", &target, "echo here"]).unwrap();
        (done.stdout == "here\n").then_some(())
    })
    .expect("reachable after the agent was killed");

    cluster.stop().unwrap();
    cluster.resume().unwrap();
    cluster.wait_online("gateway-1", true).unwrap();
    works();

    cluster.kill().unwrap();
    cluster.resume().unwrap();
    cluster.wait_online("gateway-1", true).unwrap();
    works();
}

#[test]
fn sessions_end_when_their_user_or_node_is_removed() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    cluster.add_user("second", "access", &me()).unwrap();
    let agent = cluster.agent("gateway-1", "", None).unwrap();
    let target = format!("{}@gateway-1", me());
    for (user, remove) in [
        ("operator", ["users", "rm", "operator"]),
        ("second", ["nodes", "rm", "gateway-1"]),
    ] {
        let person = cluster.logged_in(user).unwrap();
        let log = person.home.join("session.log");
        let mut tsh = person.command().unwrap();
        tsh.args(["ssh", &target, "echo started; sleep 600"]);
        let mut session = hil_tests::process::Daemon::start(&mut tsh, &log).unwrap();
        session
            .wait_until("the session", hil_tests::cluster::READY, || {
                std::fs::read_to_string(&log)
                    .unwrap()
                    .contains("started")
                    .then_some(())
            })
            .unwrap();
        cluster.tctl(&remove).unwrap().ok().unwrap();
        let ended = session.wait_until("its end", hil_tests::cluster::READY, || None::<()>);
        assert!(
            format!("{:?}", ended.unwrap_err()).contains("ended"),
            "{user}'s session goes on"
        );
    }
    drop(agent);
}

#[test]
fn labels_from_a_command_and_the_token_show_up() {
    let (dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let mut agent = cluster.joined_agent("gateway-1", "env=lab", None).unwrap();
    let source = dir.path().join("firmware");
    std::fs::write(&source, "1.0\n").unwrap();
    let config = format!(
        "[labels]\nboard = \"mt300\"\nenv = \"prod\"\n[[command_labels]]\nname = \"firmware\"\ncommand = [\"cat\", \"{}\"]\nperiod = \"5s\"\n",
        source.display()
    );
    std::fs::write(agent.config_file(), config).unwrap();
    agent.start().unwrap();
    cluster.wait_online("gateway-1", true).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let shows = |wanted: &str| {
        hil_tests::process::poll(hil_tests::cluster::READY, || {
            let names = operator
                .tsh(&["ls", wanted, "--format", "names"])
                .unwrap()
                .stdout;
            (names == "gateway-1\n").then_some(())
        })
    };
    shows("firmware=1.0").expect("the command's first label");
    shows("board=mt300").expect("the static label");
    shows("env=lab").expect("the token's label outweighs the agent's");
    std::fs::write(&source, "2.0\n").unwrap();
    shows("firmware=2.0").expect("the command's second label");
}

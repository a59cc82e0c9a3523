//! The product's main job: a shell on a device that accepts no connection, by certificate.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::path::Path;

use hil_tests::cluster::{Cluster, PASSWORD, READY, me};
use hil_tests::net::Nat;
use hil_tests::openssh::SshAgent;
use hil_tests::process::{Daemon, poll, run};

#[test]
fn a_newcomers_first_afternoon_works_without_a_terminal() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    let me = me();
    let invite = cluster.invite("operator", "access", &me).unwrap();
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
    let again = operator.tsh(&redeem).unwrap();
    let sentence = "tsh: this invite is not valid; it may have been used or have expired";
    again.refused(248, sentence).unwrap();
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
    let _agent = cluster.agent("gateway-1", "", Some(nat.into())).unwrap();
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
    let target = format!("{}@gateway-1.lab", me());
    let ssh = |args: &[&str]| run(operator.ssh().unwrap().args(args), b"").unwrap();
    let done = ssh(&[&target, "echo over openssh; exit 7"]);
    assert_eq!(
        (done.stdout.as_str(), done.code()),
        ("over openssh\n", 7),
        "{}",
        done.stderr
    );
    let many = ssh(&[&target, "head -c 30000000 /dev/zero"]);
    assert_eq!((many.stdout.len(), many.code()), (30_000_000, 0));
    let nowhere = ssh(&[&format!("{}@nowhere.lab", me()), "true"]);
    let sentence = "tsh: there is no node \"nowhere.lab\"";
    nowhere.refused(255, sentence).unwrap();
    // The proxy is known to the configuration as a host to jump through.
    let jumped = ssh(&["-J", "127.0.0.1", &target, "echo $SSH_CLIENT"]);
    assert!(jumped.stdout.starts_with("127.0.0.1 "), "{jumped:?}");

    let source = operator.home.join("file");
    let bytes: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(&source, &bytes).unwrap();
    let copy = operator.home.join("copy");
    let config = operator.ssh_config().unwrap();
    let mut rsync = operator.program(Path::new("rsync"));
    rsync
        .arg("-e")
        .arg(format!("ssh -F {} -o BatchMode=yes", config.display()))
        .arg(&source)
        .arg(format!("{target}:{}", copy.display()));
    run(&mut rsync, b"").unwrap().ok().unwrap();
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
    let mut operator = cluster.person("operator");
    let ssh_agent = SshAgent::start(dir.path()).unwrap();
    operator.use_ssh_agent(&ssh_agent);
    operator.login(&cluster, PASSWORD).unwrap().ok().unwrap();

    // Only what a plain user of OpenSSH has: a known_hosts with the cluster's host CA, and the agent.
    let known_hosts = dir.path().join("known_hosts");
    let ca = cluster.tctl(&["auth", "export", "--type", "host"]).unwrap();
    std::fs::write(&known_hosts, ca.ok().unwrap()).unwrap();
    let config = dir.path().join("ssh_config");
    let lines = format!(
        "UserKnownHostsFile {}\nGlobalKnownHostsFile /dev/null\nBatchMode yes\nStrictHostKeyChecking yes\n",
        known_hosts.display()
    );
    std::fs::write(&config, lines).unwrap();
    let jump = format!("operator@{}", cluster.addr());
    let ssh = |node: &str, command: &str| {
        let mut ssh = operator.program(Path::new("ssh"));
        ssh.arg("-F").arg(&config).args(["-J", &jump]);
        let target = format!("{}@{node}", me());
        run(ssh.args([&target, command]), b"").unwrap()
    };
    for name in ["gateway-1", "gateway-1.lab"] {
        let done = ssh(name, "echo jumped");
        assert_eq!(done.stdout, "jumped\n", "{}", done.stderr);
    }
    // Whatever a device calls itself, it is nobody elsewhere.
    let vouched_for = |host: &str| {
        let mut find = operator.program(Path::new("ssh-keygen"));
        find.args(["-F", host, "-f"]).arg(&known_hosts);
        !run(&mut find, b"").unwrap().stdout.is_empty()
    };
    assert!(vouched_for("gateway-1.lab") && vouched_for("gateway-1"));
    for host in ["git.example.com", "192.0.2.7", "[git.example.com]:2222"] {
        assert!(!vouched_for(host), "{host}");
    }
    let nowhere = ssh("nowhere", "true");
    nowhere
        .refused(255, "there is no node \"nowhere\"")
        .unwrap();
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
    poll(READY, || {
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
        let mut session = Daemon::start(&mut tsh, &log).unwrap();
        session
            .wait_until("the session", READY, || {
                std::fs::read_to_string(&log)
                    .unwrap()
                    .contains("started")
                    .then_some(())
            })
            .unwrap();
        cluster.tctl(&remove).unwrap().ok().unwrap();
        let ended = session.wait_until("its end", READY, || None::<()>);
        assert!(
            format!("{:?}", ended.unwrap_err()).contains("ended"),
            "{user}'s session goes on"
        );
    }
    drop(agent);
}

#[test]
fn a_session_ends_when_its_user_is_gone_by_whatever_way() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let _agent = cluster.agent("gateway-1", "", None).unwrap();
    let operator = cluster.logged_in("operator").unwrap();
    let log = operator.home.join("session.log");
    let target = format!("{}@gateway-1", me());
    let mut tsh = operator.command().unwrap();
    tsh.args(["ssh", &target, "echo started; sleep 600"]);
    let mut session = Daemon::start(&mut tsh, &log).unwrap();
    let started = || session_log(&log).contains("started").then_some(());
    session.wait_until("the session", READY, started).unwrap();
    // No command removes it: its time is over.
    let user = format!(
        "kind: user\nversion: v1\nmetadata: {{name: operator, expires: '2020-01-01T00:00:00Z'}}\n\
         spec: {{roles: [access], traits: {{logins: ['{}']}}}}\n",
        me()
    );
    let written = cluster.tctl_with(&["create", "--force", "-f", "-"], user.as_bytes());
    written.unwrap().ok().unwrap();
    let ended = session.wait_until("its end", READY, || None::<()>);
    assert!(
        format!("{:?}", ended.unwrap_err()).contains("ended"),
        "the session goes on"
    );
}

fn session_log(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap()
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
        poll(READY, || {
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

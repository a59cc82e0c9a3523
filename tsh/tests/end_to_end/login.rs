//! Logging in and out, and what trust decides.

use std::time::Duration;

use crate::client::{User, code, text};
use crate::cluster::{Cluster, Options};

#[test]
fn a_password_from_standard_input_logs_in_and_status_says_so() {
    let user = User::logged_in(&Cluster::start(Options::default()));
    let status = user.run(&["status", "--format", "json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["user"], "ann");
    assert_eq!(status["cluster"], "lab");
    assert_eq!(status["valid"], true);
    assert!(
        user.file("known_hosts")
            .starts_with("@cert-authority * ssh-ed25519 ")
    );
}

#[test]
fn a_second_login_needs_no_names_and_makes_a_new_key() {
    let user = User::logged_in(&Cluster::start(Options::default()));
    let before = user.file("key.pub");
    let again = user.run_with(
        &["login", "--password-file", "-", "--ttl", "1h"],
        b"correct horse\n",
    );
    assert_eq!(code(&again), 0, "{again:?}");
    assert_ne!(user.file("key.pub"), before);
    assert!(text(&again.stdout).contains("(for 59 min)"), "{again:?}");
}

#[test]
fn an_invite_is_redeemed_from_files() {
    let user = User::of(&Cluster::start(Options::default()));
    let invite = user.home.path().join("invite");
    std::fs::write(&invite, "tinv-good\n").unwrap();
    let done = user.login(
        "brand new one\n",
        &[
            "--ca-pin",
            &user.pin,
            "--invite-file",
            invite.to_str().unwrap(),
        ],
    );
    assert_eq!(code(&done), 0, "{done:?}");
    std::fs::write(&invite, "tinv-used\n").unwrap();
    let done = user.login(
        "brand new one",
        &["--invite-file", invite.to_str().unwrap()],
    );
    assert_eq!(code(&done), 248);
    assert_eq!(text(&done.stderr), "tsh: That invite is not good.\n");
}

#[test]
fn wrong_passwords_and_lock_outs_have_their_exit_codes() {
    let user = User::of(&Cluster::start(Options::default()));
    let pin = ["--ca-pin", &user.pin];
    assert_eq!(code(&user.login("wrong", &pin)), 248);
    assert_eq!(code(&user.login("locked", &pin)), 247);
    assert_eq!(code(&user.run(&["status"])), 249);
}

#[test]
fn an_unknown_cluster_is_not_told_the_password_without_a_terminal() {
    let user = User::of(&Cluster::start(Options::default()));
    let done = user.login("correct horse", &[]);
    assert_eq!(code(&done), 246);
    let said = text(&done.stderr);
    assert!(
        said.contains("is not known") && said.contains(&user.pin),
        "{said}"
    );
    assert!(said.contains("--ca-pin"), "{said}");
}

#[test]
fn a_cluster_with_another_ca_is_refused_loudly() {
    let mut user = User::logged_in(&Cluster::start(Options::default()));
    let wrong = format!("sha256:{}", "00".repeat(32));
    let done = user.login("correct horse", &["--ca-pin", &wrong]);
    assert_eq!(code(&done), 246);
    assert!(text(&done.stderr).contains("IS NOT THE CLUSTER YOU KNOW"));
    // Another cluster turns up at the known address.
    let other = Cluster::start(Options::default());
    let entry = user.entry();
    user.proxy = other.address.to_string();
    std::fs::rename(entry, user.entry()).unwrap();
    let profile = user
        .file("profile.json")
        .replace(r#""proxy": ""#, r#""was": ""#);
    let profile = profile.replacen('{', &format!(r#"{{"proxy": "{}","#, user.proxy), 1);
    std::fs::write(user.entry().join("profile.json"), profile).unwrap();
    for args in [&["ls"][..], &["ssh", "gateway-1", "true"]] {
        let mut all = vec!["--proxy", &user.proxy];
        all.extend(args);
        let done = user.run(&all);
        assert_eq!(code(&done), 246, "{args:?} {done:?}");
    }
    assert_eq!(code(&user.login("correct horse", &[])), 246);
    // The pin from the administrator lifts it.
    let done = user.login("correct horse", &["--ca-pin", &other.pin]);
    assert_eq!(code(&done), 0, "{done:?}");
}

#[test]
fn an_expired_certificate_is_named_and_exits_with_249() {
    let options = Options {
        ttl: Duration::from_secs(1),
        ..Options::default()
    };
    let user = User::logged_in(&Cluster::start(options));
    for args in [
        &["ls"][..],
        &["ssh", "gateway-1", "true"],
        &["proxy", "ssh", "gateway-1"],
    ] {
        let done = user.run(args);
        assert_eq!(code(&done), 249, "{args:?}");
        let said = text(&done.stderr);
        assert!(
            said.contains("expired") && said.contains("tsh login"),
            "{said}"
        );
    }
    assert_eq!(code(&user.run(&["status"])), 249);
}

#[test]
fn a_certificate_that_the_cluster_refuses_asks_for_a_login() {
    for udp in [true, false] {
        let options = Options {
            trust_clients: false,
            udp,
            ..Options::default()
        };
        let user = User::logged_in(&Cluster::start(options));
        for args in [&["ls"][..], &["ssh", "gateway-1", "true"]] {
            let done = user.run(args);
            assert_eq!(code(&done), 249, "{args:?} {done:?}");
        }
    }
}

#[test]
fn logging_out_removes_the_key() {
    let user = User::logged_in(&Cluster::start(Options::default()));
    assert_eq!(code(&user.run(&["logout"])), 0);
    assert!(!user.entry().join("key").exists());
    assert_eq!(code(&user.run(&["status"])), 249);
    assert_eq!(code(&user.run(&["ls"])), 249);
    assert_eq!(code(&user.run(&["logout"])), 0);
    // Whom to trust is not forgotten.
    assert_eq!(code(&user.login("correct horse", &[])), 0);
}

#[test]
fn an_unreachable_cluster_exits_with_245() {
    let user = User::logged_in(&Cluster::start(Options::default()));
    let done = user.run(&[
        "login",
        "--proxy",
        "127.0.0.1:9",
        "--user",
        "ann",
        "--password-file",
        "-",
    ]);
    assert_eq!(code(&done), 245, "{done:?}");
    let done = user.run(&["login", "--proxy", "no.such.host.invalid", "--user", "ann"]);
    assert_eq!(code(&done), 245, "{done:?}");
}

#[test]
fn nodes_are_listed_filtered_and_named() {
    let user = User::logged_in(&Cluster::start(Options::default()));
    let names = |args: &[&str]| {
        let done = user.run(&[&["ls", "--format", "names"], args].concat());
        assert_eq!(code(&done), 0);
        text(&done.stdout).to_owned()
    };
    assert_eq!(names(&[]), "gateway-1\nrouter\n");
    assert_eq!(names(&["env=lab"]), "gateway-1\n");
    assert_eq!(names(&["--search", "rout,prod"]), "router\n");
    assert_eq!(names(&["env=none"]), "");
    let none = user.run(&["ls", "env=none", "--format", "json"]);
    assert_eq!(text(&none.stdout), "[]\n");
    assert_eq!(text(&none.stderr), "No node matches.\n");
    let table = user.run(&["ls", "-v"]);
    assert!(text(&table.stdout).contains("link timed out"));
}

#[test]
fn the_key_is_loaded_into_a_running_agent_and_removed_again() {
    let cluster = Cluster::start(Options::default());
    let user = User::of(&cluster);
    let socket = user.home.path().join("agent");
    let mut agent = std::process::Command::new("ssh-agent")
        .arg("-D")
        .arg("-a")
        .arg(&socket)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !socket.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let with_agent = |args: &[&str]| {
        let mut command = user.command(args);
        command.env("SSH_AUTH_SOCK", &socket);
        command
    };
    let keys = || {
        let mut list = std::process::Command::new("ssh-add");
        let out = list
            .arg("-l")
            .env("SSH_AUTH_SOCK", &socket)
            .output()
            .unwrap();
        text(&out.stdout)
            .lines()
            .filter(|line| line.contains("ED25519"))
            .count()
    };
    let password = user.home.path().join("password");
    std::fs::write(&password, "correct horse").unwrap();
    let password = password.to_str().unwrap();
    let login = [
        "login",
        "--proxy",
        &user.proxy,
        "--user",
        "ann",
        "--ca-pin",
        &user.pin,
        "--password-file",
        password,
    ];
    for _ in 0..2 {
        let done = with_agent(&login).output().unwrap();
        assert_eq!(code(&done), 0, "{done:?}");
        assert_eq!(text(&done.stderr), "");
        assert_eq!(keys(), 2, "one key and its certificate");
    }
    assert_eq!(code(&with_agent(&["logout"]).output().unwrap()), 0);
    assert_eq!(keys(), 0);
    let unwanted = [&login[..], &["--no-agent"]].concat();
    assert_eq!(code(&with_agent(&unwanted).output().unwrap()), 0);
    assert_eq!(keys(), 0);
    agent.kill().unwrap();
    agent.wait().unwrap();
}

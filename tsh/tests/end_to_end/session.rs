//! `tsh ssh` without a terminal: bytes, exit codes, refusals.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::client::{User, code, text};
use crate::cluster::{Cluster, Options};

/// One user per transport.
fn users() -> [User; 2] {
    [true, false].map(|udp| {
        let options = Options {
            udp,
            ..Options::default()
        };
        User::logged_in(&Cluster::start(options))
    })
}

#[test]
fn output_errors_and_exit_codes_pass_through() {
    for user in users() {
        let done = user.run(&["ssh", "gateway-1", "echo", "out;", "echo err >&2; exit 42"]);
        assert_eq!(code(&done), 42, "{done:?}");
        assert_eq!(text(&done.stdout), "out\n");
        assert_eq!(text(&done.stderr), "err\n");
    }
}

#[test]
fn input_reaches_the_command_and_so_does_its_end() {
    for user in users() {
        let input: Vec<u8> = (0..3_000_000).map(|i| (i % 251) as u8).collect();
        let done = user.run_with(&["ssh", "root@gateway-1.lab", "cat"], &input);
        assert_eq!(code(&done), 0);
        assert!(
            done.stdout == input,
            "{} bytes came back",
            done.stdout.len()
        );
    }
}

#[test]
fn a_lot_of_bytes_may_go_both_ways_at_once() {
    for user in users() {
        let input = vec![0x5a; 40 << 20];
        let done = user.run_with(&["ssh", "gateway-1", "cat"], &input);
        assert_eq!(code(&done), 0);
        assert_eq!(done.stdout.len(), input.len());
    }
}

#[test]
fn without_a_command_a_shell_reads_standard_input() {
    let user = User::logged_in(&Cluster::start(Options::default()));
    let done = user.run_with(&["ssh", "gateway-1"], b"echo from the shell\nexit 3\n");
    assert_eq!(text(&done.stdout), "from the shell\n");
    assert_eq!(code(&done), 3);
}

#[test]
fn a_signal_at_the_node_becomes_128_and_its_number() {
    let user = User::logged_in(&Cluster::start(Options::default()));
    assert_eq!(code(&user.run(&["ssh", "gateway-1", "kill -9 $$"])), 137);
}

#[test]
fn refused_dials_pass_on_the_proxys_sentence() {
    for user in users() {
        for (args, exit, sentence) in [
            (
                &["ssh", "nowhere"][..],
                254,
                "There is no such node. Run: tsh ls",
            ),
            (&["ssh", "twins"], 253, "There are two nodes named twins."),
            (
                &["ssh", "offline", "true"],
                252,
                "offline is offline, last seen 3 h ago.",
            ),
            (
                &["ssh", "toor@gateway-1"],
                251,
                "You may not log in as toor.",
            ),
            (
                &["proxy", "ssh", "offline:22"],
                252,
                "offline is offline, last seen 3 h ago.",
            ),
        ] {
            let done = user.run(args);
            assert_eq!(code(&done), exit, "{args:?}");
            assert_eq!(text(&done.stderr), format!("tsh: {sentence}\n"));
        }
    }
}

#[test]
fn a_login_that_the_node_does_not_have_exits_with_250() {
    let user = User::logged_in(&Cluster::start(Options::default()));
    let done = user.run(&["ssh", "-l", "nobody", "gateway-1", "true"]);
    assert_eq!(code(&done), 250, "{done:?}");
    assert!(text(&done.stderr).contains("nobody"));
}

#[test]
fn a_command_that_the_node_refuses_is_said_so() {
    let user = User::logged_in(&Cluster::start(Options::default()));
    assert_eq!(code(&user.run(&["ssh", "gateway-1", "refuse me"])), 251);
}

#[test]
fn another_node_than_the_one_asked_for_is_not_logged_in_to() {
    let user = User::logged_in(&Cluster::start(Options::default()));
    let done = user.run(&["ssh", "other", "true"]);
    assert_eq!(code(&done), 246);
    assert!(
        text(&done.stderr).contains("is for another host"),
        "{done:?}"
    );
    let options = Options {
        foreign_host_ca: true,
        ..Options::default()
    };
    let user = User::logged_in(&Cluster::start(options));
    let done = user.run(&["ssh", "gateway-1", "true"]);
    assert_eq!(code(&done), 246);
    assert!(
        text(&done.stderr).contains("not signed by the cluster's CA"),
        "{done:?}"
    );
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_session() {
    let user = User::logged_in(&Cluster::start(Options::default()));
    let mut child = user.command(&["ssh", "gateway-1", "yes"]).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0; 2];
    std::io::Read::read_exact(&mut stdout, &mut first).unwrap();
    drop(stdout);
    assert_eq!(child.wait().unwrap().code(), Some(141));
}

#[test]
fn ctrl_c_ends_a_command_without_a_terminal() {
    let user = User::logged_in(&Cluster::start(Options::default()));
    let mut child = user
        .command(&["ssh", "gateway-1", "echo up; sleep 60"])
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    std::io::Read::read_exact(&mut stdout, &mut [0; 3]).unwrap();
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn unread_input_does_not_keep_the_session() {
    let user = User::logged_in(&Cluster::start(Options::default()));
    let mut child = user
        .command(&["ssh", "gateway-1", "true"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // Nobody closes or writes it.
    let _stdin = child.stdin.take();
    let start = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn n_and_openssh_options_are_taken() {
    let user = User::logged_in(&Cluster::start(Options::default()));
    let args = [
        "ssh",
        "-q",
        "-n",
        "-p",
        "22",
        "-o",
        "BatchMode=yes",
        "gateway-1",
        "--",
        "cat; echo -n end",
    ];
    let done = user.run_with(&args, b"not read");
    assert_eq!(text(&done.stdout), "end");
    assert_eq!(text(&done.stderr), "");
}

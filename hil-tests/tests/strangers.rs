//! Strangers who take what they can get, and what is left for others.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;

use hil_tests::cluster::{Cluster, READY, me};
use hil_tests::process::{poll, run};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// More than one address finds places for over bare SSH.
const STRANGERS: usize = 300;
/// Far more than find a file, and fewer than any kernel lets wait for an accept.
const CROWD: usize = 100;
/// What the cluster may open on top of what it has.
const LEFT: usize = 8;

#[test]
fn the_cluster_takes_as_many_files_as_the_system_allows() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // As a shell of most systems begins; the cluster inherits it.
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(1024), hard).unwrap();
    let (_dir, cluster) = Cluster::temporary().unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", cluster.pid())).unwrap();
    let files = limits.lines().find(|l| l.starts_with("Max open files"));
    let mut columns = files.unwrap().split_whitespace().skip(3);
    assert_eq!(columns.next().unwrap(), hard.to_string());
}

#[test]
fn an_administrator_gets_in_again_when_strangers_had_taken_all_files() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    let pid = cluster.pid().to_string();
    let open = || {
        std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .count()
    };
    let limit = open() + LEFT;
    let mut prlimit = Command::new("prlimit");
    prlimit.args(["--pid", &pid, &format!("--nofile={limit}:{limit}")]);
    run(&mut prlimit, b"").unwrap().ok().unwrap();

    let stranger = |_| TcpStream::connect(("127.0.0.1", cluster.port())).unwrap();
    let strangers: Vec<_> = (0..CROWD).map(stranger).collect();
    let socket = cluster.data_dir().join("admin.sock");
    let mut asked = Vec::new();
    let failed = poll(READY, || {
        // One that is let in takes a file, too.
        asked.push(UnixStream::connect(&socket).unwrap());
        let log = cluster.log();
        log.contains("the admin socket cannot accept").then_some(())
    });
    assert!(failed.is_some(), "{}", cluster.log());
    drop((strangers, asked));
    let answered = poll(READY, || cluster.tctl(&["status"]).unwrap().ok().ok());
    assert!(answered.is_some(), "{}", cluster.log());
}

#[test]
fn strangers_over_bare_ssh_get_fewer_places_and_leave_the_rest_to_others() {
    let (_dir, cluster) = Cluster::temporary().unwrap();
    cluster.add_user("operator", "access", &me()).unwrap();
    let greeted = || {
        let mut tcp = TcpStream::connect(("127.0.0.1", cluster.port())).unwrap();
        tcp.write_all(b"SSH-2.0-stranger\r\n").unwrap();
        let mut first = [0; 4];
        (tcp.read_exact(&mut first).is_ok() && &first == b"SSH-").then_some(tcp)
    };
    let strangers: Vec<_> = (0..STRANGERS).map(|_| greeted()).collect();
    let in_all = strangers.iter().flatten().count();
    assert!((256..STRANGERS).contains(&in_all), "{in_all}");
    cluster.logged_in("operator").unwrap();
    drop(strangers);
    assert!(poll(READY, greeted).is_some());
}

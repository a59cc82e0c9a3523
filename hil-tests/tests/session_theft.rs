//! Sessions that outlive their links, and those who would like to have them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Child;

use hil_tests::cluster::{Cluster, Person, me, text};
use hil_tests::exchange::piped;
use hil_tests::process::end_of;
use hil_tests::swarm::Dialler;
use protocol::resume::frame::{Attach, Bytes, Frame, Proof};
use protocol::resume::{Reason, StreamId};

const NODE: &str = "gateway-1";
/// More than an agent has to say to who fails.
const ALL: usize = 4096;

fn dialler(cluster: &Cluster, person: &Person) -> Dialler {
    let addr: SocketAddr = cluster.addr().parse().unwrap();
    let ca = std::fs::read_to_string(person.kept("ca.pem").unwrap()).unwrap();
    Dialler::new(person, addr, &ca).unwrap()
}

fn attach(id: StreamId, generation: u32) -> Bytes {
    let nonce = [1; 16];
    Frame::Attach(Attach {
        id,
        generation,
        nonce,
    })
    .encode()
}

fn goes_on(tsh: &mut Child, words: &str) {
    tsh.stdin
        .as_mut()
        .unwrap()
        .write_all(words.as_bytes())
        .unwrap();
    let mut got = vec![0; words.len()];
    tsh.stdout.as_mut().unwrap().read_exact(&mut got).unwrap();
    assert_eq!(got, words.as_bytes());
}

/// The audit log names sessions by their streams.
fn stream(cluster: &Cluster) -> StreamId {
    let events = cluster.audit("T2000I").unwrap();
    let number = u128::from_str_radix(&text(&events[0], "sid"), 16).unwrap();
    StreamId(number.to_be_bytes())
}

#[test]
fn a_stolen_session_is_of_no_use_to_others_and_without_its_secret_to_nobody() {
    let (_dir, mut cluster) = Cluster::temporary().unwrap();
    for user in ["owner", "thief"] {
        cluster.add_user(user, "access", &me()).unwrap();
    }
    let _agent = cluster.agent(NODE, "", None).unwrap();
    let person = cluster.logged_in("owner").unwrap();
    let target = format!("{}@{NODE}", me());
    let mut tsh = piped(person.command().unwrap().args(["ssh", &target, "cat"])).unwrap();
    goes_on(&mut tsh, "one\n");
    let id = stream(&cluster);
    let owner = dialler(&cluster, &person);
    let thief = dialler(&cluster, &cluster.logged_in("thief").unwrap());

    // Another user may not even try, whether the cluster knows the session or not.
    let sentence = "there is no such session of yours";
    let told = thief.resume(NODE, &attach(id, 1000), b"", ALL).unwrap();
    assert_eq!(told, *Reason::Gone.frame());
    cluster.audited("T1006W", sentence).unwrap();
    cluster.kill().unwrap();
    cluster.resume().unwrap();
    cluster.wait_online(NODE, true).unwrap();
    let told = thief.resume(NODE, &attach(id, 1000), b"", ALL).unwrap();
    assert_eq!(told, *Reason::Gone.frame());
    goes_on(&mut tsh, "two\n");

    // Its owner without the secret is nobody, and may not try for long.
    let guess = Frame::Proof(Proof {
        received: 0,
        from: 0,
        tag: [0; 32],
    });
    let guess = guess.encode();
    let told = owner.resume(NODE, &attach(id, 1000), &guess, ALL).unwrap();
    let (challenge, rest) = told.split_at(told.len() - 2);
    assert!(matches!(Frame::decode(challenge), Ok(Frame::Challenge(_))));
    assert_eq!(*rest, *Reason::Proof.frame());
    let told = owner.resume(NODE, &attach(id, 1001), &guess, ALL).unwrap();
    assert_eq!(told, *Reason::Busy.frame());

    // None of that has disturbed it, and it still comes back.
    goes_on(&mut tsh, "three\n");
    cluster.kill().unwrap();
    cluster.resume().unwrap();
    goes_on(&mut tsh, "four\n");
    drop(tsh.stdin.take());
    end_of(tsh).unwrap().ok().unwrap();
}

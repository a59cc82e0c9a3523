use super::*;
use crate::handover::message::Listed;
use std::process::Command;
use tokio::io::AsyncReadExt;

const ID: StreamId = StreamId([7; 16]);

fn inherited(socket: OwnedFd) -> Inherited {
    Inherited {
        keepers: vec![socket],
        ..Inherited::default()
    }
}

/// A keeper's end of a socket, which has said what it keeps.
async fn keeper() -> (Keepers, Wire) {
    let (ours, theirs) = crate::handover::wire::pair().unwrap();
    let theirs = Wire::new(theirs).unwrap();
    theirs.send(&FromKeeper::Over([1; 16]), None).unwrap();
    let listed = Listed::new([(ID, "ann", 7)].into_iter(), std::iter::empty());
    theirs
        .send(&FromKeeper::State(listed.state()), None)
        .unwrap();
    let keepers = Keepers::meet(inherited(ours)).await;
    let (packet, _) = theirs.receive().await.unwrap().unwrap();
    assert_eq!(read(&packet), Some(ToKeeper::Hello));
    (keepers, theirs)
}

#[tokio::test]
async fn who_comes_back_to_a_kept_stream_is_handed_over_and_bytes_move_both_ways() {
    let (mut keepers, theirs) = keeper().await;
    assert_eq!(keepers.over_before(), [StreamId([1; 16])]);
    assert_eq!(keepers.count(), 1);
    assert!(keepers.know(ID) && !keepers.know(StreamId([8; 16])));
    let (mut client, link) = tokio::io::duplex(64);
    let (reader, writer) = tokio::io::split(link);
    let stream = Stream {
        reader: Box::new(reader),
        writer: Box::new(writer),
        delivered: Box::pin(std::future::ready(())),
    };
    keepers.attach(ID, b"request", stream);
    let (packet, fd) = theirs.receive().await.unwrap().unwrap();
    assert_eq!(
        read(&packet),
        Some(ToKeeper::Attach(Blob::new(b"request").unwrap()))
    );
    let fd = std::os::unix::net::UnixStream::from(fd.unwrap());
    let mut handed = UnixStream::from_std(fd).unwrap();
    client.write_all(b"up").await.unwrap();
    let mut got = [0; 2];
    handed.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"up");
    handed.write_all(b"down").await.unwrap();
    drop(handed);
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"down");
}

#[tokio::test]
async fn what_a_keeper_has_not_ended_is_lost_with_it() {
    let (mut keepers, theirs) = keeper().await;
    let (inputs, mut queue) = mpsc::channel(4);
    keepers.listen(&inputs);
    assert!(matches!(queue.recv().await, Some(Input::ChildEnded)));
    drop(theirs);
    let Some(Input::KeeperGone { keeper }) = queue.recv().await else {
        panic!("not gone");
    };
    assert_eq!(keepers.gone(keeper), [ID]);
    assert_eq!(keepers.count(), 0);
}

#[tokio::test]
async fn a_stream_that_is_over_counts_no_more_but_can_be_asked_for() {
    let (mut keepers, _theirs) = keeper().await;
    let pid = keepers.list[0].pid;
    keepers.over(pid, ID);
    assert_eq!(keepers.count(), 0);
    assert!(keepers.know(ID));
    assert!(keepers.gone(pid).is_empty());
}

#[tokio::test]
async fn whose_sessions_are_kept_is_known_and_theirs_alone_end() {
    let (keepers, theirs) = keeper().await;
    assert!(keepers.users().eq(["ann"]));
    assert!(keepers.taken().eq([("ann", 7)]));
    keepers.end_user("bob", Reason::Locked);
    keepers.end_user("ann", Reason::Locked);
    let (packet, _) = theirs.receive().await.unwrap().unwrap();
    assert_eq!(read(&packet), Some(ToKeeper::end(ID, Reason::Locked)));
}

#[tokio::test]
async fn who_says_nothing_is_no_keeper() {
    let (ours, theirs) = crate::handover::wire::pair().unwrap();
    drop(theirs);
    let keepers = Keepers::meet(inherited(ours)).await;
    assert!(keepers.list.is_empty());
}

#[tokio::test]
async fn a_keeper_that_has_ended_meanwhile_is_met_all_the_same() {
    let (ours, theirs) = crate::handover::wire::pair().unwrap();
    let theirs = Wire::new(theirs).unwrap();
    let listed = Listed::new(std::iter::empty(), std::iter::empty());
    let state = FromKeeper::State(listed.state());
    theirs.send(&state, None).unwrap();
    drop(theirs);
    let keepers = Keepers::meet(inherited(ours)).await;
    assert_eq!(keepers.list.len(), 1);
}

#[tokio::test]
async fn what_a_keeper_leaves_behind_is_reaped_though_it_ends_later() {
    let sleep = || Command::new("sleep").arg("1000").spawn().unwrap();
    let mut children = [sleep(), sleep()];
    let pids = children
        .each_ref()
        .map(|child| Pid::from_raw(child.id().cast_signed()));
    let (mut keepers, _theirs) = keeper().await;
    keepers.list[0].children.push(pids[0]);
    keepers.left.push(pids[1]);
    let pid = keepers.list[0].pid;
    keepers.gone(pid);
    assert!(pids.iter().all(|pid| keepers.left.contains(pid)));
    children.iter_mut().for_each(|child| child.kill().unwrap());
    while !keepers.left.is_empty() {
        keepers.reap();
        std::thread::yield_now();
    }
    assert!(pids.iter().all(|pid| sys::reap(*pid) == Child::Strange));
}

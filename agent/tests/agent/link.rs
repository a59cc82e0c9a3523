//! Links to a cluster that misbehaves, keeps still, or speaks at a moment of the test's choosing.

use protocol::error::CloseCode;
use protocol::message::control::{ToAgent, ToCluster};
use protocol::message::dial::{DialRefusal, DialReply};

use crate::cluster::{Cluster, Linked, read, understood, until};
use crate::process::{Agent, Device};

/// What a real cluster asks for.
const KEEPALIVE_S: u16 = 25;

/// A device that has joined, its running agent, and the link.
async fn up(keepalive_s: u16) -> (Cluster, Device, Agent, Linked) {
    let (mut cluster, device) = (Cluster::start(), Device::new());
    device.join(&cluster).await;
    let agent = device.start();
    let (linked, hello) = cluster.welcomed(keepalive_s).await;
    assert_eq!(trust_serial(&hello), 1);
    (cluster, device, agent, linked)
}

fn trust_serial(hello: &[u8]) -> u32 {
    let ToCluster::Hello(hello) = understood(hello) else {
        panic!("not a Hello")
    };
    hello.trust_serial
}

/// Asks the agent to leave and come back.
async fn drain(linked: &mut Linked) {
    linked
        .write(&ToAgent::Drain {
            after_ms: 100,
            spread_ms: 100,
        })
        .await;
    assert_eq!(linked.close_code().await, CloseCode::Draining.code().into());
}

#[tokio::test]
async fn a_drained_link_comes_back() {
    let (mut cluster, _device, _agent, mut linked) = up(KEEPALIVE_S).await;
    drain(&mut linked).await;
    cluster.welcomed(KEEPALIVE_S).await;
}

#[tokio::test]
async fn other_cas_are_kept_and_named_from_then_on() {
    let (mut cluster, device, _agent, mut linked) = up(KEEPALIVE_S).await;
    let before = device.state();
    let trust = cluster.authority.trust(2);
    linked.write(&ToAgent::TrustChanged(trust)).await;
    while device.state() == before {
        tokio::task::yield_now().await;
    }
    drain(&mut linked).await;
    let (_linked, hello) = cluster.welcomed(KEEPALIVE_S).await;
    assert_eq!(trust_serial(&hello), 2);
}

#[tokio::test]
async fn what_the_cluster_must_not_send_ends_the_link() {
    let (mut cluster, _device, _agent, mut linked) = up(KEEPALIVE_S).await;
    linked.send.write_all(&[0, 2, 0, 9]).await.unwrap();
    let misbehaved = CloseCode::PeerMisbehaved.code().into();
    assert_eq!(linked.close_code().await, misbehaved);

    let (mut linked, _) = cluster.welcomed(KEEPALIVE_S).await;
    // A message of a newer version is no misbehaviour; certificates of another key are.
    linked.send.write_all(&[0, 2, 99, 9]).await.unwrap();
    let issued = cluster.authority.issue([9; 32]);
    linked.write(&ToAgent::Renewed(issued.certificates())).await;
    assert_eq!(linked.close_code().await, misbehaved);
}

#[tokio::test]
async fn an_unknown_dial_is_answered_and_a_broken_one_ends_the_link() {
    let (_cluster, _device, _agent, linked) = up(KEEPALIVE_S).await;
    let (mut send, mut receive) = linked.connection.open_bi().await.unwrap();
    send.write_all(&[0, 2, 99, 9]).await.unwrap();
    let reply = read(&mut receive).await.unwrap();
    let DialReply::Refused { reason, .. } = understood(&reply) else {
        panic!("accepted")
    };
    assert_eq!(reason, DialRefusal::Internal);

    let (mut send, _receive) = linked.connection.open_bi().await.unwrap();
    send.write_all(&[0, 2, 0, 9]).await.unwrap();
    let misbehaved = CloseCode::PeerMisbehaved.code().into();
    assert_eq!(linked.close_code().await, misbehaved);
}

#[tokio::test]
async fn a_cluster_that_takes_no_datagrams_is_sent_messages() {
    let (_cluster, _device, _agent, mut linked) = up(5).await;
    let heartbeat = |message: ToCluster<'_>| match message {
        ToCluster::Heartbeat { seq } => Some(seq),
        _ => None,
    };
    assert_eq!(until(&mut linked, heartbeat).await, 1);
    linked.write(&ToAgent::HeartbeatAck { seq: 1 }).await;
    assert_eq!(until(&mut linked, heartbeat).await, 2);
}

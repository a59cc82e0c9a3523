//! `tether-agent start`: the link's whole life.

use std::time::Duration;

use protocol::error::CloseCode;
use protocol::message::Text;
use protocol::message::control::{Refusal, ToAgent, ToCluster};
use protocol::message::dial::{DialHeader, DialRefusal, DialReply, LinkRequest, Permits};

use crate::authority::now;
use crate::cluster::{Cluster, Linked, Seen, TOKEN, read, understood, until, write};
use crate::process::{Agent, Device};

/// A device that has joined, its running agent, and the link.
async fn up(config: &str) -> (Cluster, Device, Agent, Linked, Vec<u8>) {
    let (mut cluster, device) = (Cluster::start(), Device::new());
    device.configure(config);
    assert_eq!(device.join(&cluster).await.code, 0);
    assert!(matches!(cluster.seen().await, Seen::Joined { .. }));
    let agent = device.start();
    let (linked, hello) = cluster.welcomed().await;
    (cluster, device, agent, linked, hello)
}

fn header(logins: &[&'static str]) -> DialHeader<'static> {
    DialHeader {
        session_id: [6; 16],
        time_s: now().try_into().unwrap(),
        user: Text::cut("operator"),
        fingerprint: [7; 32],
        logins: logins.iter().map(|login| Text::cut(login)).collect(),
        permits: Permits::ALL,
        client_addr: Text::cut("192.0.2.7 50000"),
        idle_timeout_s: 0,
        max_session_s: 0,
    }
}

fn own_login() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid())
        .unwrap()
        .unwrap()
        .name
}

#[tokio::test]
async fn an_agent_says_hello_shows_its_status_and_says_goodbye() {
    let config = "[labels]\nenv = \"lab\"\n";
    let (_cluster, device, agent, mut linked, hello) = up(config).await;
    let ToCluster::Hello(hello) = understood(&hello) else {
        panic!("not a Hello")
    };
    assert_eq!(hello.agent_version.as_str(), env!("CARGO_PKG_VERSION"));
    assert_eq!(hello.labels.len(), 1);
    assert_eq!(hello.trust_serial, 1);
    assert_ne!(hello.boot_id, [0; 16]);
    assert_eq!(hello.inventory.os.as_str(), "Linux");

    let status = device.status_says(r#""state":"up""#).await;
    assert!(status.contains(r#""running":true"#), "{status}");
    assert!(status.contains(r#""name":"gateway-1""#), "{status}");
    assert!(status.contains(r#""transport":"quic""#), "{status}");

    let (code, took) = agent.stop().await;
    assert_eq!(code, 0);
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(
        understood::<ToCluster<'_>>(&linked.read().await),
        ToCluster::Goodbye
    );
    assert_eq!(linked.close_code().await, CloseCode::Done.code().into());
}

#[tokio::test]
async fn one_agent_per_folder() {
    let (_cluster, device, _agent, _linked, _) = up("").await;
    let second = device.run(&["start"]).await;
    assert_eq!(second.code, 1, "{second:?}");
    assert!(
        second.error.contains("another tether-agent"),
        "{}",
        second.error
    );
}

#[tokio::test]
async fn a_cluster_that_restarts_is_found_again() {
    let (cluster, device, _agent, linked, _) = up("").await;
    device.status_says(r#""state":"up""#).await;
    let mut cluster = cluster.restart(linked).await;
    let (_linked, _) = cluster.welcomed().await;
    let status = device.status_says(r#""state":"up""#).await;
    // Either that it shuts down, or that it takes no more connections while it does.
    assert!(status.contains(r#""last_loss":{"reason":"#), "{status}");
}

#[tokio::test]
async fn labels_from_commands_follow() {
    let config = "[[command_labels]]\nname = \"kernel\"\ncommand = [\"sh\", \"-c\", \"sleep 1; echo 6\"]\nperiod = \"1h\"\n";
    let (_cluster, _device, _agent, mut linked, hello) = up(config).await;
    let ToCluster::Hello(hello) = understood(&hello) else {
        panic!("not a Hello")
    };
    assert!(hello.labels.is_empty());
    let labels = until(&mut linked, |message| match message {
        ToCluster::LabelsChanged(labels) => Some(
            labels
                .iter()
                .map(|l| format!("{}={}", l.key, l.value))
                .collect::<Vec<_>>(),
        ),
        _ => None,
    })
    .await;
    assert_eq!(labels, ["kernel=6"]);
}

#[tokio::test]
async fn certificates_are_renewed_at_half_life() {
    let (mut cluster, device) = (Cluster::start(), Device::new());
    cluster.authority.policy.lock().unwrap().validity = (-3600, 600);
    assert_eq!(device.join(&cluster).await.code, 0);
    cluster.seen().await;
    let _agent = device.start();
    let (mut linked, _) = cluster.welcomed().await;
    let generation = until(&mut linked, |message| match message {
        ToCluster::Renew { generation } => Some(generation),
        _ => None,
    })
    .await;
    assert_eq!(generation, 1);
    cluster.authority.policy.lock().unwrap().validity = (-60, 7 * 86_400);
    let issued = cluster.authority.issue();
    linked.write(&ToAgent::Renewed(issued.certificates())).await;
    device.status_says(r#""generation":2"#).await;
    let before = device.state();
    linked
        .write(&ToAgent::TrustChanged(cluster.authority.trust(2)))
        .await;
    while device.state() == before {
        tokio::task::yield_now().await;
    }
    let mut cluster = cluster.restart(linked).await;
    let (_linked, hello) = cluster.welcomed().await;
    let ToCluster::Hello(hello) = understood(&hello) else {
        panic!("not a Hello")
    };
    assert_eq!(hello.trust_serial, 2);
}

#[tokio::test]
async fn a_device_with_an_expired_certificate_comes_back_by_its_key() {
    let (mut cluster, device) = (Cluster::start(), Device::new());
    cluster.authority.policy.lock().unwrap().validity = (-3600, -60);
    assert_eq!(device.join(&cluster).await.code, 0);
    cluster.seen().await;
    cluster.authority.policy.lock().unwrap().validity = (-60, 7 * 86_400);
    let _agent = device.start();
    assert!(matches!(
        cluster.seen().await,
        Seen::CameBack { generation: 1 }
    ));
    let (_linked, _) = cluster.welcomed().await;
    device.status_says(r#""generation":2"#).await;
}

#[tokio::test]
async fn a_certificate_that_only_the_cluster_knows_to_be_over_is_replaced() {
    let (mut cluster, device) = (Cluster::start(), Device::new());
    // Not yet valid: the device, which looks at the end only, takes it for good.
    cluster.authority.policy.lock().unwrap().validity = (3600, 7 * 86_400);
    assert_eq!(device.join(&cluster).await.code, 0);
    cluster.seen().await;
    cluster.authority.policy.lock().unwrap().validity = (-60, 7 * 86_400);
    let _agent = device.start();
    assert!(matches!(
        cluster.seen().await,
        Seen::CameBack { generation: 1 }
    ));
    let (_linked, _) = cluster.welcomed().await;
}

#[tokio::test]
async fn a_node_that_may_not_come_back_says_why() {
    let (mut cluster, device) = (Cluster::start(), Device::new());
    cluster.authority.policy.lock().unwrap().validity = (-3600, -60);
    assert_eq!(device.join(&cluster).await.code, 0);
    cluster.seen().await;
    cluster.authority.policy.lock().unwrap().refuse = Some(Refusal::Locked);
    let agent = device.start();
    let status = device
        .status_says("this node is locked: The cluster says no.")
        .await;
    assert!(
        status.contains(r#""state":"waiting","retry_in_s":"#),
        "{status}"
    );
    assert_eq!(agent.stop().await.0, 0);
}

#[tokio::test]
async fn a_refused_hello_is_told_by_status() {
    let (mut cluster, device) = (Cluster::start(), Device::new());
    assert_eq!(device.join(&cluster).await.code, 0);
    cluster.seen().await;
    let _agent = device.start();
    let Seen::Linked(mut linked) = cluster.seen().await else {
        panic!("not a link")
    };
    linked.read().await;
    let (reason, text) = (Refusal::Removed, Text::cut("Join anew."));
    linked
        .write(&ToAgent::Refused {
            reason,
            retry_after_s: 0,
            text,
        })
        .await;
    device
        .status_says("this node was removed and must join anew: Join anew.")
        .await;
}

#[tokio::test]
async fn what_the_cluster_must_not_send_ends_the_link() {
    let (mut cluster, _device, _agent, mut linked, _) = up("").await;
    linked.send.write_all(&[0, 2, 0, 9]).await.unwrap();
    assert_eq!(
        linked.close_code().await,
        CloseCode::PeerMisbehaved.code().into()
    );

    let (mut linked, _) = cluster.welcomed().await;
    // A message of a newer version is no misbehaviour; certificates of another key are.
    linked.send.write_all(&[0, 2, 99, 9]).await.unwrap();
    cluster.authority.policy.lock().unwrap().public_key = [9; 32];
    let issued = cluster.authority.issue();
    linked.write(&ToAgent::Renewed(issued.certificates())).await;
    assert_eq!(
        linked.close_code().await,
        CloseCode::PeerMisbehaved.code().into()
    );
}

#[tokio::test]
async fn a_dial_reaches_the_ssh_server() {
    let (_cluster, device, agent, linked, _) = up("").await;
    let login = own_login().leak();
    let (_send, mut receive, reply) = linked.dial(&LinkRequest::Ssh(header(&[login]))).await;
    assert_eq!(understood::<DialReply<'_>>(&reply), DialReply::Accepted);
    let mut banner = [0; 8];
    receive.read_exact(&mut banner).await.unwrap();
    assert_eq!(&banner, b"SSH-2.0-");
    device.status_says(r#""sessions":1"#).await;
    let (code, took) = agent.stop().await;
    assert_eq!(code, 0);
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn an_unknown_dial_is_answered_and_a_broken_one_ends_the_link() {
    let (_cluster, _device, _agent, linked, _) = up("").await;
    let (mut send, mut receive) = linked.connection.open_bi().await.unwrap();
    send.write_all(&[0, 2, 99, 9]).await.unwrap();
    let reply = read(&mut receive).await.unwrap();
    let DialReply::Refused { reason, .. } = understood(&reply) else {
        panic!("accepted")
    };
    assert_eq!(reason, DialRefusal::Internal);

    let (mut send, _receive) = linked.connection.open_bi().await.unwrap();
    send.write_all(&[0, 2, 0, 9]).await.unwrap();
    assert_eq!(
        linked.close_code().await,
        CloseCode::PeerMisbehaved.code().into()
    );
}

#[tokio::test]
async fn dials_beyond_the_limit_are_told_to_wait() {
    let (_cluster, device, _agent, linked, _) = up("").await;
    let login = own_login().leak();
    let mut open = Vec::new();
    for _ in 0..32 {
        let (send, receive, reply) = linked.dial(&LinkRequest::Ssh(header(&[login]))).await;
        assert_eq!(understood::<DialReply<'_>>(&reply), DialReply::Accepted);
        open.push((send, receive));
    }
    let (_, _, reply) = linked.dial(&LinkRequest::Ssh(header(&[login]))).await;
    let DialReply::Refused { reason, .. } = understood(&reply) else {
        panic!("accepted")
    };
    assert_eq!(reason, DialRefusal::Busy);
    drop(open);
    device.status_says(r#""sessions":0"#).await;
}

#[tokio::test]
async fn a_device_joins_by_itself_if_its_configuration_says_how() {
    let (mut cluster, device) = (Cluster::start(), Device::new());
    let token = device.path().join("token");
    device.configure(&format!(
        "cluster = \"{}\"\nca_pin = \"{}\"\nnode_name = \"gateway-1\"\ntoken_file = \"{}\"\n",
        cluster.address,
        cluster.authority.pin(),
        token.display()
    ));
    let _agent = device.start();
    device.status_says("cannot read the token file").await;
    std::fs::write(&token, TOKEN).unwrap();
    assert!(matches!(cluster.seen().await, Seen::Joined { .. }));
    let (_linked, _) = cluster.welcomed().await;
    device.status_says(r#""state":"up""#).await;
}

#[tokio::test]
async fn a_drained_link_comes_back() {
    let (mut cluster, _device, _agent, mut linked, _) = up("").await;
    linked
        .write(&ToAgent::Drain {
            after_ms: 100,
            spread_ms: 100,
        })
        .await;
    assert_eq!(linked.close_code().await, CloseCode::Draining.code().into());
    let (mut linked, _) = cluster.welcomed().await;
    write(&mut linked.send, &ToAgent::HeartbeatAck { seq: 1 }).await;
}

#[tokio::test]
async fn a_cluster_that_answers_no_heartbeat_is_left() {
    let (mut cluster, device) = (Cluster::start(), Device::new());
    assert_eq!(device.join(&cluster).await.code, 0);
    cluster.seen().await;
    let _agent = device.start();
    let Seen::Linked(mut linked) = cluster.seen().await else {
        panic!("not a link")
    };
    linked.read().await;
    linked.welcome(5).await;
    let heartbeat = |message: ToCluster<'_>| match message {
        ToCluster::Heartbeat { seq } => Some(seq),
        _ => None,
    };
    assert_eq!(until(&mut linked, heartbeat).await, 1);
    linked.write(&ToAgent::HeartbeatAck { seq: 1 }).await;
    assert_eq!(until(&mut linked, heartbeat).await, 2);
    assert_eq!(linked.close_code().await, CloseCode::TimedOut.code().into());
    device.status_says("the cluster no longer answers").await;
}

//! The wire layout, held still: a released message must keep its bytes for good. A failure here
//! means that agents in the field could no longer be understood.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use protocol::message::control::{Hello, Inventory, Refusal, ToAgent, ToCluster, Welcome};
use protocol::message::dial::{
    ClientRequest, DialHeader, DialRefusal, DialReply, LinkRequest, OpeningBytes, Permits,
    ResumableDial,
};
use protocol::message::frame::HEADER;
use protocol::message::join::{Certificates, JoinReply, JoinRequest, Joined, Secret, Trust};
use protocol::message::version::Versions;
use protocol::message::{Blob, Label, Labels, MAX_FRAME, Message, Text, decode, encode};
use protocol::resume::StreamId;
use protocol::resume::frame::{Attach, Frame};

const VECTORS: &str = include_str!("golden.txt");

/// Compares with the committed bytes, and reads them back.
fn golden<T>(name: &str, message: &T)
where
    T: Message + serde::Serialize + serde::de::Deserialize<'static> + PartialEq + std::fmt::Debug,
{
    let mut buffer = vec![0; HEADER + MAX_FRAME];
    let frame = encode(message, &mut buffer).expect("fits");
    let hex: String = frame.iter().map(|b| format!("{b:02x}")).collect();
    let committed = VECTORS
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("no vector: {name} {hex}"));
    assert_eq!(hex, committed, "{name}");
    let body: &'static [u8] = frame[HEADER..].to_vec().leak();
    assert_eq!(decode::<T>(body).as_ref(), Ok(message), "{name}");
}

fn labels() -> Labels<'static> {
    let mut labels = Labels::new();
    labels
        .push(Label {
            key: Text::cut("env"),
            value: Text::cut("lab"),
        })
        .unwrap();
    labels
        .push(Label {
            key: Text::cut("site"),
            value: Text::cut("Köln"),
        })
        .unwrap();
    labels
}

fn certificates() -> Certificates<'static> {
    Certificates {
        generation: 3,
        not_before_s: 1_700_000_000,
        not_after_s: 1_700_604_800,
        ssh: Blob::new(b"ssh certificate").unwrap(),
        x509: Blob::new(b"x509 certificate").unwrap(),
    }
}

fn trust() -> Trust<'static> {
    Trust {
        serial: 2,
        host_ca_x509: Blob::new(b"host ca").unwrap(),
        host_ca_ssh: [0x11; 32],
        user_ca_ssh: [0x22; 32],
    }
}

#[test]
fn messages_of_an_agent_keep_their_bytes() {
    let hello = Hello {
        versions: Versions {
            oldest: 1,
            newest: 3,
        },
        boot_id: [0xb0; 16],
        agent_version: Text::cut("0.1.0"),
        inventory: Inventory {
            hostname: Text::cut("gateway-1"),
            os: Text::cut("Linux"),
            arch: Text::cut("mips"),
            kernel: Text::cut("5.15.150"),
        },
        labels: labels(),
        only_login: Some(Text::cut("ann")),
        trust_serial: 2,
    };
    golden("hello", &ToCluster::Hello(hello));
    golden("heartbeat", &ToCluster::Heartbeat { seq: 300 });
    golden("labels-changed", &ToCluster::LabelsChanged(labels()));
    golden("renew", &ToCluster::Renew { generation: 3 });
    golden("goodbye", &ToCluster::Goodbye);
    golden("keepalive", &ToCluster::Keepalive { interval_s: 280 });
    golden("moving", &ToCluster::Moving);
    let session_id = [0x66; 16];
    golden("session-ended", &ToCluster::SessionEnded { session_id });
    let user = Text::cut("ann");
    golden("keeps", &ToCluster::Keeps { user });
}

#[test]
fn messages_of_a_cluster_keep_their_bytes() {
    let welcome = Welcome {
        version: 1,
        time_s: 1_700_000_000,
        cluster: Text::cut("lab"),
        node_name: Text::cut("gateway-1"),
        keepalive_s: 25,
    };
    golden("welcome", &ToAgent::Welcome(welcome));
    golden("heartbeat-ack", &ToAgent::HeartbeatAck { seq: 300 });
    golden("trust-changed", &ToAgent::TrustChanged(trust()));
    golden("renewed", &ToAgent::Renewed(certificates()));
    golden(
        "drain",
        &ToAgent::Drain {
            after_ms: 1000,
            spread_ms: 4000,
        },
    );
    let text = Text::cut("removed");
    golden(
        "refused",
        &ToAgent::Refused {
            reason: Refusal::Removed,
            retry_after_s: 600,
            text,
        },
    );
    golden(
        "rebound",
        &ToAgent::Rebound {
            addr: Text::cut("192.0.2.7:50000"),
        },
    );
    let session_id = [0x66; 16];
    golden("end-session", &ToAgent::EndSession { session_id });
    let user = Text::cut("ann");
    golden("end-user", &ToAgent::EndUser { user });
}

#[test]
fn join_messages_keep_their_bytes() {
    let request = JoinRequest::Token {
        token: Secret(Text::cut("secret")),
        node_name: Text::cut("gateway-1"),
        public_key: [0x33; 32],
        proof: Blob::new(&[0x44; 64]).unwrap(),
    };
    golden("join-token", &request);
    let proof = Blob::new(&[0x44; 64]).unwrap();
    golden(
        "join-return",
        &JoinRequest::Return {
            node_id: [0x55; 16],
            generation: 3,
            proof,
        },
    );
    let joined = Joined {
        node_id: [0x55; 16],
        time_s: 1_700_000_000,
        cluster: Text::cut("lab"),
        node_name: Text::cut("gateway-1"),
        certificates: certificates(),
        trust: trust(),
    };
    golden("joined", &JoinReply::Joined(joined));
    let text = Text::cut("expired");
    golden(
        "join-refused",
        &JoinReply::Refused {
            reason: Refusal::Token,
            text,
        },
    );
}

#[test]
fn dial_messages_keep_their_bytes() {
    let login = Some(Text::cut("root"));
    let opening = Frame::Attach(Attach {
        id: StreamId([0x11; 16]),
        generation: 3,
        nonce: [0x33; 16],
    });
    golden(
        "client-ssh",
        &ClientRequest::Ssh {
            target: Text::cut("gateway-1"),
            login,
        },
    );
    let mut logins = heapless::Vec::new();
    logins.push(Text::cut("root")).unwrap();
    let header = DialHeader {
        session_id: [0x66; 16],
        time_s: 1_700_000_000,
        user: Text::cut("operator"),
        fingerprint: [0x77; 32],
        logins,
        permits: Permits::ALL,
        client_addr: Text::cut("192.0.2.7 50000"),
        idle_timeout_s: 0,
        max_session_s: 43200,
    };
    golden("link-ssh", &LinkRequest::Ssh(header.clone()));
    let opening = opening.encode();
    let opening = OpeningBytes::new(&opening).unwrap();
    let target = Text::cut("gateway-1");
    golden(
        "client-resumable",
        &ClientRequest::Resumable {
            target,
            login,
            opening,
        },
    );
    golden(
        "link-resumable",
        &LinkRequest::Resumable(ResumableDial {
            header,
            grace_s: 600,
            opening,
        }),
    );
    golden(
        "dial-not-resumable",
        &DialReply::Refused {
            reason: DialRefusal::NotResumable,
            text: Text::cut("no memory"),
        },
    );
    golden("dial-accepted", &DialReply::Accepted);
    golden("dial-named", &DialReply::Named { node: [7; 16] });
    let text = Text::cut("offline");
    golden(
        "dial-refused",
        &DialReply::Refused {
            reason: DialRefusal::Offline,
            text,
        },
    );
}

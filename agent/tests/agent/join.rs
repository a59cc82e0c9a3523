//! `tether-agent join`, and what `start` and `status` say before it.

use std::os::unix::fs::PermissionsExt;

use protocol::message::control::Refusal;

use crate::cluster::{Cluster, Seen, TOKEN};
use crate::process::Device;

#[tokio::test]
async fn a_device_joins_once() {
    let (mut cluster, device) = (Cluster::start(), Device::new());
    let joined = device.join(&cluster).await;
    assert_eq!(joined.code, 0, "{joined:?}");
    assert!(
        joined.out.contains("Joined the cluster lab as gateway-1"),
        "{}",
        joined.out
    );
    assert!(joined.out.contains("tether-agent start"), "{}", joined.out);
    assert!(!joined.error.contains(TOKEN), "{}", joined.error);
    assert!(matches!(cluster.seen().await, Seen::Joined { node_name } if node_name == "gateway-1"));
    for file in ["node.key", "node.state"] {
        let found = std::fs::metadata(device.path().join("data").join(file)).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o600, "{file}");
    }

    let again = device.join(&cluster).await;
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.error.contains("--force"), "{}", again.error);

    let address = cluster.address.to_string();
    let pin = cluster.authority.pin();
    let key = std::fs::read(device.path().join("data/node.key")).unwrap();
    let join = [
        "join",
        "--force",
        "--cluster",
        &address,
        "--token",
        TOKEN,
        "--ca-pin",
        &pin,
    ];
    let forced = device.run(&join).await;
    assert_eq!(forced.code, 0, "{forced:?}");
    assert_eq!(
        std::fs::read(device.path().join("data/node.key")).unwrap(),
        key
    );
}

#[tokio::test]
async fn a_token_file_is_as_good() {
    let (cluster, device) = (Cluster::start(), Device::new());
    let token = device.path().join("token");
    std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
    device.configure(&format!(
        "cluster = \"{}\"\nca_pin = \"{}\"\nnode_name = \"gateway-1\"\n",
        cluster.address,
        cluster.authority.pin()
    ));
    let joined = device
        .run(&["join", "--token-file", token.to_str().unwrap()])
        .await;
    assert_eq!(joined.code, 0, "{joined:?}");
}

#[tokio::test]
async fn another_cluster_than_the_pinned_one_is_not_joined() {
    let (cluster, other, device) = (Cluster::start(), Cluster::start(), Device::new());
    let joined = device
        .join_with(&cluster, TOKEN, &other.authority.pin())
        .await;
    assert_eq!(joined.code, 5, "{joined:?}");
    assert!(
        joined.error.contains("not the trusted cluster"),
        "{}",
        joined.error
    );
    assert!(!device.path().join("data/node.state").exists());
}

#[tokio::test]
async fn a_refusal_is_told_in_the_clusters_words() {
    let (cluster, device) = (Cluster::start(), Device::new());
    let joined = device
        .join_with(&cluster, "bad-token", &cluster.authority.pin())
        .await;
    assert_eq!(joined.code, 3, "{joined:?}");
    assert!(
        joined.error.contains("The cluster says no."),
        "{}",
        joined.error
    );
    assert!(joined.error.contains("new join token"), "{}", joined.error);
    cluster.authority.policy.lock().unwrap().refuse = Some(Refusal::Locked);
    assert_eq!(device.join(&cluster).await.code, 3);
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_is_unreachable() {
    let (cluster, device) = (Cluster::start(), Device::new());
    let join = |address: String| {
        let pin = cluster.authority.pin();
        let device = &device;
        async move {
            device
                .run(&[
                    "join",
                    "--cluster",
                    &address,
                    "--token",
                    TOKEN,
                    "--ca-pin",
                    &pin,
                ])
                .await
        }
    };
    let ran = join("name.invalid:3080".to_owned()).await;
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.error.contains("cannot be resolved"), "{}", ran.error);
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let ran = join(silent.local_addr().unwrap().to_string()).await;
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.error.contains("no answer over UDP"), "{}", ran.error);
}

#[tokio::test]
async fn without_a_join_nothing_starts_and_status_says_so() {
    let device = Device::new();
    for arguments in [&["start"][..], &["start", "--check"]] {
        let ran = device.run(arguments).await;
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(
            ran.error.contains("tether-agent join --cluster"),
            "{}",
            ran.error
        );
    }
    let status = device.run(&["status"]).await;
    assert_eq!(status.code, 1, "{status:?}");
    assert!(status.out.contains("not running"), "{}", status.out);
    assert!(status.out.contains("has not joined"), "{}", status.out);
}

#[tokio::test]
async fn a_check_names_all_that_is_wrong() {
    let (cluster, device) = (Cluster::start(), Device::new());
    device.join(&cluster).await;
    let fine = device.run(&["start", "--check"]).await;
    assert_eq!(fine.code, 0, "{fine:?}");
    assert!(
        fine.out.contains("gateway-1 in the cluster lab"),
        "{}",
        fine.out
    );

    let stopped = device.run(&["status", "-f", "yaml"]).await;
    assert_eq!(stopped.code, 1, "{stopped:?}");
    assert!(stopped.out.contains("running: false\n"), "{}", stopped.out);
    assert!(
        stopped.out.contains("  name: \"gateway-1\"\n"),
        "{}",
        stopped.out
    );

    for file in ["node.key", "node.state"] {
        let path = device.path().join("data").join(file);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    }
    let torn = device.run(&["start", "--check"]).await;
    assert_eq!(torn.code, 2, "{torn:?}");
    assert!(
        torn.error.contains("node.key") && torn.error.contains("node.state"),
        "{torn:?}"
    );

    device.configure("colour = 1\nnode_name = 2\n");
    let wrong = device.run(&["start", "--check"]).await;
    assert_eq!(wrong.code, 2, "{wrong:?}");
    assert!(
        wrong.error.contains("agent.toml:1: colour"),
        "{}",
        wrong.error
    );
    assert!(
        wrong.error.contains("agent.toml:2: node_name"),
        "{}",
        wrong.error
    );
}

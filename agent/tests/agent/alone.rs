//! What the agent says where no cluster answers, and where it has joined none.

use crate::process::Device;

#[tokio::test]
async fn a_cluster_that_does_not_answer_is_unreachable() {
    let device = Device::new();
    let join = async |address: &str| {
        let pin = format!("sha256:{}", "00".repeat(32));
        let from = ["join", "--cluster", address, "--ca-pin", &pin];
        device.run(&[&from[..], &["--token", "any"]].concat()).await
    };
    let ran = join("name.invalid:3080").await;
    assert_eq!(ran.code, 4, "{ran:?}");
    assert!(ran.error.contains("cannot be resolved"), "{}", ran.error);
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let ran = join(&silent.local_addr().unwrap().to_string()).await;
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

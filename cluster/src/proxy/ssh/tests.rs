//! Clients that take their time.

use russh::client;
use russh::keys::PublicKeyOrCertificate;

use super::*;

/// Trusts anybody, and asks for nothing.
struct Idler;

impl client::Handler for Idler {
    type Error = anyhow::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool> {
        Ok(true)
    }
}

async fn server(dir: &tempfile::TempDir) -> SshProxy {
    let proxy = crate::proxy::tests::proxy(dir.path()).await;
    SshProxy::open(proxy, "lab.example.com").await.unwrap()
}

#[tokio::test]
async fn a_late_greeting_leaves_no_more_time_to_authenticate() {
    let dir = tempfile::tempdir().unwrap();
    let server = server(&dir).await;
    // From here on time passes only when nobody has anything to do.
    tokio::time::pause();
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let idle = tokio::spawn(async move {
        tokio::time::sleep(AUTH_DEADLINE - Duration::from_secs(1)).await;
        let config = Arc::new(client::Config::default());
        client::connect_stream(config, theirs, Idler).await?.await
    });
    let addr: SocketAddr = ([192, 0, 2, 7], 7).into();
    let place = server.proxy.limits.ssh.enter(addr.ip()).unwrap();
    let stranger = Stranger {
        addr,
        _place: place,
        expected: None,
        socket: None,
    };
    let began = Instant::now();
    server.run(&server.bare, ours, stranger).await.ok();
    let took = began.elapsed();
    assert!(took >= AUTH_DEADLINE, "{took:?}");
    assert!(took <= AUTH_DEADLINE + LAST_WORDS * 2, "{took:?}");
    idle.await.unwrap().ok();
}

//! Two ends of a connection, as an agent and a cluster have them, over a narrow pipe.

use std::sync::Arc;
use std::time::Duration;

use russh::server::{Auth, ChannelOpenHandle as Asked};
use russh::{Channel, ChannelId, Disconnect, client, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::channel::Message;
use crate::{Backlog, Bounds, Cutter, Ended, Gate, Misbehaved, Reader, Table, Wire, Writer};

type Halves<M> = (Reader<M>, Writer<M>, Ended);

/// Nothing here takes longer unless it waits for ever.
const LONG: Duration = Duration::from_secs(60);
/// Narrow, so that both directions are full at once.
const PIPE: usize = 4096;

const AGENT: Bounds = Bounds {
    channels: 8,
    window: 1 << 20,
    pool: 2 << 20,
    linger: Duration::from_secs(10),
};
const CLUSTER: Bounds = Bounds {
    channels: 8,
    window: 2 << 20,
    pool: 8 << 20,
    linger: Duration::ZERO,
};

struct Agent {
    table: Arc<Table>,
    dials: mpsc::UnboundedSender<Halves<client::Msg>>,
}

struct Cluster {
    table: Arc<Table>,
}

impl client::Handler for Agent {
    type Error = Error;

    async fn check_server_key(
        &mut self,
        _: &russh::keys::PublicKeyOrCertificate,
    ) -> Result<bool, Error> {
        Ok(true)
    }

    async fn server_channel_open_session(
        &mut self,
        channel: Channel<client::Msg>,
        reply: client::ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Error> {
        if let Some(halves) = self.table.add(channel.split().1, None) {
            self.dials.send(halves).ok();
            reply.accept().await;
        }
        Ok(())
    }

    async fn data(
        &mut self,
        id: ChannelId,
        data: &[u8],
        _: &mut client::Session,
    ) -> Result<(), Error> {
        Ok(self.table.data(id, data)?)
    }

    async fn extended_data(
        &mut self,
        id: ChannelId,
        kind: u32,
        data: &[u8],
        _: &mut client::Session,
    ) -> Result<(), Error> {
        Ok(self.table.extended(id, kind, data)?)
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut client::Session) -> Result<(), Error> {
        self.table.eof(id);
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut client::Session) -> Result<(), Error> {
        self.table.close(id);
        Ok(())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.table.end();
    }
}

impl server::Handler for Cluster {
    type Error = Error;

    async fn auth_none(&mut self, _: &str) -> Result<Auth, Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<server::Msg>,
        _: Asked,
        _: &mut server::Session,
    ) -> Result<(), Error> {
        Ok(())
    }

    async fn data(
        &mut self,
        id: ChannelId,
        data: &[u8],
        _: &mut server::Session,
    ) -> Result<(), Error> {
        Ok(self.table.data(id, data)?)
    }

    async fn extended_data(
        &mut self,
        id: ChannelId,
        kind: u32,
        data: &[u8],
        _: &mut server::Session,
    ) -> Result<(), Error> {
        Ok(self.table.extended(id, kind, data)?)
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut server::Session) -> Result<(), Error> {
        self.table.eof(id);
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut server::Session) -> Result<(), Error> {
        self.table.close(id);
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.table.end();
    }
}

/// An error that russh's and ours become.
#[derive(Debug)]
struct Error(#[allow(dead_code, reason = "shown when a test fails")] String);

impl From<russh::Error> for Error {
    fn from(error: russh::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<Misbehaved> for Error {
    fn from(error: Misbehaved) -> Self {
        Self(error.to_string())
    }
}

struct Link {
    agent: client::Handle<Agent>,
    agent_table: Arc<Table>,
    cutter: Cutter,
    dials: mpsc::UnboundedReceiver<Halves<client::Msg>>,
    cluster: server::Handle,
    cluster_table: Arc<Table>,
    gate: Gate,
    ended: tokio::task::JoinHandle<Result<(), Error>>,
}

async fn link() -> Link {
    let (here, there) = tokio::io::duplex(PIPE);
    let cluster_table = Table::new(CLUSTER);
    let key = russh::keys::PrivateKey::random(&mut rand::rng(), russh::keys::Algorithm::Ed25519);
    let config = Arc::new(server::Config {
        keys: vec![key.unwrap()],
        window_size: CLUSTER.ssh_window(),
        inactivity_timeout: None,
        ..server::Config::default()
    });
    let (there, gate) = Backlog::new(there);
    gate.keep();
    let handler = Cluster {
        table: Arc::clone(&cluster_table),
    };
    let running = tokio::spawn(server::run_stream(config, there, handler));
    let agent_table = Table::new(AGENT);
    let (tell, dials) = mpsc::unbounded_channel();
    let handler = Agent {
        table: Arc::clone(&agent_table),
        dials: tell,
    };
    let config = Arc::new(client::Config {
        window_size: AGENT.ssh_window(),
        ..client::Config::default()
    });
    let (here, cutter) = Wire::new(here);
    let mut agent = client::connect_stream(config, here, handler).await.unwrap();
    assert!(agent.authenticate_none("agent").await.unwrap().success());
    let running = running.await.unwrap().unwrap();
    Link {
        agent,
        agent_table,
        cutter,
        dials,
        cluster: running.handle(),
        cluster_table,
        gate,
        ended: tokio::spawn(running),
    }
}

impl Link {
    /// A dial: the cluster's halves and the agent's.
    async fn dial(&mut self) -> (Halves<server::Msg>, Halves<client::Msg>) {
        let channel = self.cluster.channel_open_session().await.unwrap();
        let write = channel.split().1;
        let here = self.cluster_table.add(write, Some(self.gate.clone()));
        (here.unwrap(), self.dials.recv().await.unwrap())
    }
}

fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|i| ((i + seed) % 251) as u8).collect()
}

async fn send<M: Message>(mut writer: Writer<M>, bytes: Vec<u8>) {
    writer.write_all(&bytes).await.unwrap();
    writer.shutdown().await.unwrap();
}

async fn receive<M: Message>(mut reader: Reader<M>) -> Vec<u8> {
    let mut got = Vec::new();
    reader.read_to_end(&mut got).await.unwrap();
    got
}

async fn both_ways(
    link: &mut Link,
    length: usize,
    seed: usize,
) -> impl Future<Output = ()> + use<> {
    let ((from_agent, to_agent, _), (from_cluster, to_cluster, _)) = link.dial().await;
    let (down, up) = (pattern(length, seed), pattern(length, seed + 7));
    let tasks = (
        tokio::spawn(send(to_agent, down.clone())),
        tokio::spawn(send(to_cluster, up.clone())),
        tokio::spawn(receive(from_agent)),
        tokio::spawn(receive(from_cluster)),
    );
    async move {
        let (sent, other, got_up, got_down) = tokio::join!(tasks.0, tasks.1, tasks.2, tasks.3);
        sent.unwrap();
        other.unwrap();
        assert!(got_up.unwrap() == up, "damaged on the way up");
        assert!(got_down.unwrap() == down, "damaged on the way down");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_both_ways_at_once_never_wait_for_each_other_nor_for_one_that_nobody_reads() {
    let mut link = link().await;
    // Full both ways, and left alone.
    let ((_stuck_up, mut down, _), (_stuck_down, mut up, _)) = link.dial().await;
    let bytes = pattern(1 << 16, 0);
    for _ in 0..64 {
        let tried = Duration::from_millis(10);
        let _ = timeout(tried, down.write_all(&bytes)).await;
        let _ = timeout(tried, up.write_all(&bytes)).await;
    }
    let mut others = Vec::new();
    for seed in 0..3 {
        others.push(both_ways(&mut link, 6 << 20, seed).await);
    }
    for other in others {
        timeout(LONG, other).await.expect("waited for ever");
    }
}

#[tokio::test]
async fn a_sender_waits_for_a_reader_and_goes_on() {
    let mut link = link().await;
    let ((_up, mut down, _), (mut from_cluster, _to_cluster, _)) = link.dial().await;
    let sent = pattern(5 << 20, 3);
    let bytes = sent.clone();
    let sending = tokio::spawn(async move {
        down.write_all(&bytes).await.unwrap();
        down.shutdown().await.unwrap();
    });
    let mut got = vec![0; 100_000];
    from_cluster.read_exact(&mut got).await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!sending.is_finished(), "nothing held it back");
    let rest = timeout(LONG, receive(from_cluster)).await.unwrap();
    assert!([got, rest].concat() == sent, "damaged");
    sending.await.unwrap();
}

#[tokio::test]
async fn the_agents_end_is_told_once_everything_has_arrived() {
    let mut link = link().await;
    let ((from_agent, _to_agent, _), (reader, mut writer, ended)) = link.dial().await;
    writer.write_all(b"last words").await.unwrap();
    drop((reader, writer));
    assert_eq!(
        timeout(LONG, receive(from_agent)).await.unwrap(),
        b"last words"
    );
    assert_eq!(link.agent_table.len(), 1);
    drop(_to_agent);
    timeout(LONG, ended.wait()).await.unwrap();
    assert_eq!(link.agent_table.len(), 0);
}

#[tokio::test]
async fn a_channel_that_the_cluster_drops_ends_the_agents_writer_after_its_reader() {
    let mut link = link().await;
    let ((up, mut down, _), (from_cluster, mut to_cluster, ended)) = link.dial().await;
    down.write_all(b"and nothing more").await.unwrap();
    drop((up, down));
    assert_eq!(
        timeout(LONG, receive(from_cluster)).await.unwrap(),
        b"and nothing more"
    );
    timeout(LONG, ended.wait()).await.unwrap();
    let refused = to_cluster.write_all(b"too late").await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn what_a_dropped_writer_had_taken_arrives() {
    let mut link = link().await;
    let ((from_agent, _to_agent, _), (_reader, mut writer, _)) = link.dial().await;
    let sent = pattern(60_000, 0);
    writer.write_all(&sent).await.unwrap();
    drop(writer);
    let got = timeout(LONG, receive(from_agent)).await.unwrap();
    assert!(got == sent, "{} bytes of {}", got.len(), sent.len());
}

#[tokio::test]
async fn an_end_that_sends_more_than_it_may_is_left() {
    let mut link = link().await;
    let (_cluster_end, (reader, _writer, _)) = link.dial().await;
    let id = link.cluster_table.only();
    let flood = vec![0; 32 << 10];
    for _ in 0..3 {
        link.cluster.data(id, flood.clone()).await.ok();
    }
    let mut reader = reader;
    let mut got = Vec::new();
    let broken = timeout(LONG, reader.read_to_end(&mut got)).await.unwrap();
    assert_eq!(
        broken.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
    assert!(link.agent_table.is_over());
    assert!(link.agent.await.is_err());
}

#[tokio::test]
async fn a_piece_without_bytes_is_not_the_end() {
    let mut link = link().await;
    let ((_up, mut down, _), (mut reader, _writer, _)) = link.dial().await;
    let id = link.agent_table.only();
    link.agent_table.data(id, b"").unwrap();
    down.write_all(b"more").await.unwrap();
    let mut got = [0; 4];
    let read = timeout(LONG, reader.read_exact(&mut got)).await.unwrap();
    assert_eq!((read.unwrap(), &got), (4, b"more"));
}

#[tokio::test]
async fn a_channel_too_many_is_refused() {
    let mut link = link().await;
    let mut open = Vec::new();
    for _ in 0..AGENT.channels {
        open.push(link.dial().await);
    }
    assert!(link.cluster.channel_open_session().await.is_err());
}

#[tokio::test]
async fn a_connection_that_is_cut_breaks_its_channels() {
    let mut link = link().await;
    let ((up, _down, _), (mut reader, _writer, ended)) = link.dial().await;
    link.cutter.cut();
    let broken = timeout(LONG, reader.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(broken.kind(), std::io::ErrorKind::ConnectionReset);
    timeout(LONG, ended.wait()).await.unwrap();
    let mut up = up;
    let broken = timeout(LONG, up.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(broken.kind(), std::io::ErrorKind::ConnectionReset);
    timeout(LONG, link.ended).await.unwrap().unwrap().ok();
}

#[tokio::test]
async fn a_disconnect_ends_everything() {
    let mut link = link().await;
    let (_cluster_end, (mut reader, _writer, _)) = link.dial().await;
    let bye = link
        .cluster
        .disconnect(Disconnect::ByApplication, "6".into(), String::new());
    bye.await.unwrap();
    let broken = timeout(LONG, reader.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(broken.kind(), std::io::ErrorKind::ConnectionReset);
}

//! An open connection: its control stream's two directions and the dials that come in, each
//! served by a task. The loop itself never waits for the network.

use std::sync::Arc;
use std::time::Duration;

use protocol::error::CloseCode;
use protocol::message::Text;
use protocol::message::control::{Hello, Inventory, ToCluster};
use protocol::message::version::SPOKEN;
use protocol::resume::MAX_STREAMS;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;

use super::dial;
use super::frame;
use super::input::{Input, News};
use super::transport::{Fault, Reader, Stream, Traffic, Transport};
use crate::labels::{self, Labels};
use crate::machine::Machine;

/// Control messages that wait to be sent: what there is to say of all sessions at once, here and in
/// two keepers, fits. A cluster that takes none of them answers no heartbeat either, and the link
/// ends for that.
const OUTGOING: usize = 4 * MAX_STREAMS;
/// How long a Goodbye may take to arrive; together with [`CLOSE`] well below the 3 s in which the
/// agent must be gone.
const GOODBYE: Duration = Duration::from_millis(500);
/// How long the end of a connection may take to be told.
const CLOSE: Duration = Duration::from_millis(300);

/// An open connection. Dropping it closes it without a word.
pub(super) struct Open {
    number: u32,
    transport: Arc<dyn Transport>,
    outgoing: mpsc::Sender<Vec<u8>>,
    writer: JoinHandle<()>,
    tasks: [AbortHandle; 2],
    heard: u64,
    /// What was owed by the cluster, and since when.
    owed: (Option<u32>, Duration),
}

impl Open {
    pub(super) fn start(
        transport: Arc<dyn Transport>,
        control: Stream,
        number: u32,
        inputs: &mpsc::Sender<Input>,
    ) -> Self {
        let Stream {
            reader,
            writer,
            delivered,
        } = control;
        let (outgoing, queue) = mpsc::channel(OUTGOING);
        let writer = crate::spawn(async move {
            write(writer, queue).await;
            delivered.await;
        });
        let news = Outlet::new(number, inputs.clone());
        let reading = crate::spawn(read(reader, Arc::clone(&transport), news.clone()));
        let dials = crate::spawn(dial::accept(Arc::clone(&transport), news));
        let tasks = [reading.abort_handle(), dials.abort_handle()];
        Self {
            number,
            transport,
            outgoing,
            writer,
            tasks,
            heard: 0,
            owed: (None, Duration::ZERO),
        }
    }

    /// Tells its news from those of others.
    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    /// Sends the least that the cluster will acknowledge; `false` if this transport has nothing
    /// that is less than a message.
    pub(super) fn ping(&self) -> bool {
        self.transport.ping()
    }

    /// Follows the device to another address.
    pub(super) fn rebind(&self) -> Result<(), Fault> {
        self.transport.rebind()
    }

    /// Queues a message.
    pub(super) fn send(&self, message: &ToCluster<'_>) {
        match frame::encode(message) {
            Ok(frame) => drop(self.outgoing.try_send(frame)),
            Err(fault) => log::warn!("a message cannot be sent: {fault}"),
        }
    }

    /// Whether the cluster was heard since the last call.
    pub(super) fn was_heard(&mut self) -> bool {
        let heard = self.transport.traffic().heard;
        std::mem::replace(&mut self.heard, heard) != heard
    }

    /// Asks again, every `patience`, as long as the cluster does not acknowledge what was sent: the
    /// transport by itself does so less and less often, and holds back all else meanwhile, answers
    /// of its own included.
    pub(super) fn urge(&mut self, patience: Duration, now: Duration) {
        let owed = self.transport.owed();
        let same = owed.is_some() && owed == self.owed.0;
        if same && now.saturating_sub(self.owed.1) < patience {
            return;
        }
        self.owed = (owed, now);
        if same {
            self.transport.ping();
        }
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.transport.traffic()
    }

    pub(super) fn kind(&self) -> &'static str {
        self.transport.kind()
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.transport.round_trip()
    }

    /// Ends the connection.
    pub(super) fn close(self, code: CloseCode) {
        self.transport.close(code);
    }

    /// Says goodbye and ends the connection; comes back when the cluster knows, or soon anyway.
    pub(super) async fn leave(mut self) {
        self.send(&ToCluster::Goodbye);
        // Without its only sender, the writer ends once the queue is empty.
        self.outgoing = mpsc::channel(1).0;
        let _ = timeout(GOODBYE, &mut self.writer).await;
        self.transport.close(CloseCode::Done);
        let _ = timeout(CLOSE, self.transport.closed()).await;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.writer.abort();
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Where one connection's news go.
#[derive(Clone)]
pub(super) struct Outlet {
    number: u32,
    inputs: mpsc::Sender<Input>,
}

impl Outlet {
    pub(super) const fn new(number: u32, inputs: mpsc::Sender<Input>) -> Self {
        Self { number, inputs }
    }

    pub(super) async fn send(&self, news: News) {
        // Nobody listens any more only when the agent ends.
        let _ = self
            .inputs
            .send(Input::Connection {
                number: self.number,
                news,
            })
            .await;
    }
}

async fn read(mut reader: Reader, transport: Arc<dyn Transport>, news: Outlet) {
    let fault = loop {
        match frame::read(&mut reader).await {
            Ok(body) => news.send(News::Frame(body)).await,
            Err(fault) => break fault,
        }
    };
    // The connection knows better than the stream why it ended.
    news.send(News::Ended(transport.ended().unwrap_or(fault)))
        .await;
}

async fn write(mut writer: super::transport::Writer, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(frame) = queue.recv().await {
        if writer.write_all(&frame).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
    let _ = writer.shutdown().await;
}

/// The first message of a link.
pub(super) fn hello<'a>(
    machine: &'a Machine,
    labels: &'a Labels,
    trust_serial: u32,
) -> ToCluster<'a> {
    ToCluster::Hello(Hello {
        versions: SPOKEN,
        boot_id: machine.boot_id,
        agent_version: Text::cut(crate::VERSION),
        inventory: Inventory {
            hostname: Text::cut(&machine.hostname),
            os: Text::cut(&machine.os),
            arch: Text::cut(&machine.arch),
            kernel: Text::cut(&machine.kernel),
        },
        labels: labels::message(labels),
        only_login: machine.only_login.as_deref().map(Text::cut),
        trust_serial,
    })
}

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
    asked: u64,
    debt: Debt,
    /// The last message that asks for a sign of life, and when it went.
    asks: Option<(u32, Duration)>,
    /// As the answer to one has shown.
    answered: Option<Duration>,
}

/// What the cluster has not acknowledged: how often it had acknowledged something before, and since
/// when that is so.
#[derive(Debug, Clone, Copy, Default)]
struct Debt {
    owed: Option<u32>,
    since: Duration,
}

impl Debt {
    /// Whether nothing was acknowledged for so long. The time runs anew then.
    fn is_overdue(&mut self, owed: Option<u32>, patience: Duration, now: Duration) -> bool {
        let same = owed.is_some() && owed == self.owed;
        if same && now.saturating_sub(self.since) < patience {
            return false;
        }
        *self = Self { owed, since: now };
        same
    }
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
            asked: 0,
            debt: Debt::default(),
            asks: None,
            answered: None,
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

    /// Asks for a sign of life by a message.
    pub(super) fn ask(&mut self, seq: u32, now: Duration) {
        self.asks = Some((seq, now));
        self.send(&ToCluster::Heartbeat { seq });
    }

    /// The answer has come.
    pub(super) fn answered(&mut self, seq: u32, now: Duration) {
        if let Some((_, asked)) = self.asks.take_if(|(asked, _)| *asked == seq) {
            self.answered = Some(now.saturating_sub(asked));
        }
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

    /// Whether the cluster asked for a sign of life since the last call. That is none of its own: it
    /// asks whether or not it hears anything.
    pub(super) fn was_asked(&mut self) -> bool {
        let asked = self.transport.traffic().asked;
        std::mem::replace(&mut self.asked, asked) != asked
    }

    /// Asks again, every `patience`, as long as the cluster does not acknowledge what was sent: the
    /// transport by itself does so less and less often, and holds back all else meanwhile, answers
    /// of its own included.
    pub(super) fn urge(&mut self, patience: Duration, now: Duration) {
        if self.debt.is_overdue(self.transport.owed(), patience, now) {
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
        self.answered.or_else(|| self.transport.round_trip())
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// At which seconds the cluster is asked, by what it owes at each.
    fn asked(owed: &[Option<u32>]) -> Vec<usize> {
        let mut debt = Debt::default();
        let mut now = SECOND * 100;
        let mut asked = Vec::new();
        for (second, &owed) in owed.iter().enumerate() {
            if debt.is_overdue(owed, SECOND, now) {
                asked.push(second);
            }
            now += SECOND;
        }
        asked
    }

    #[test]
    fn the_cluster_is_asked_for_as_long_as_it_acknowledges_nothing() {
        assert_eq!(asked(&[Some(7); 5]), [1, 2, 3, 4]);
    }

    #[test]
    fn who_acknowledges_or_owes_nothing_is_not_asked() {
        assert!(asked(&[None; 5]).is_empty());
        assert!(asked(&[Some(7), Some(8), Some(9), None, Some(9)]).is_empty());
    }

    #[test]
    fn a_debt_is_not_overdue_before_its_time() {
        let mut debt = Debt::default();
        let part = SECOND / 4;
        let due = |at: u32| debt.is_overdue(Some(0), SECOND, SECOND + part * at);
        let due: Vec<_> = (0..9).map(due).collect();
        let at: Vec<_> = (0..9).filter(|at| due[*at]).collect();
        assert_eq!(at, [4, 8]);
    }
}

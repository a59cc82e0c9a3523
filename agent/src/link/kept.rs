//! Streams that outlive the links they came over: which there are, and who may come back to them.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use protocol::resume::frame::{Attach, Open};
use protocol::resume::{Agent, Limits, MAX_STREAMS, Reason, StreamId};
use resumable::agent::{Accepted, accept};
use resumable::{Carrier, Handle, Status};
use tokio::sync::mpsc;

use super::input::Input;
use super::keepers::Keepers;
use super::lender::Lender;
use crate::config::resume::DEFAULT;
use crate::machine;

/// With less memory than this left, the system needs it more.
pub(super) const SPARE_KIB: u32 = 4096;

/// Ends that are remembered until the cluster can be told: all there can be at once, here and in
/// two keepers.
const MAX_UNTOLD: usize = 3 * MAX_STREAMS;

/// One stream.
struct Kept {
    id: StreamId,
    user: String,
    /// The OS user of its session, once it has logged in.
    login: Arc<OnceLock<String>>,
    handle: Handle<Agent>,
}

/// See the [module](self).
pub(super) struct KeptStreams {
    lender: Arc<Lender>,
    /// How many are remembered when they have ended.
    remembered: usize,
    /// Those that go on, and those that have ended and may still be asked for.
    streams: VecDeque<Kept>,
    /// Those that have ended, and the cluster does not know.
    untold: VecDeque<StreamId>,
}

/// Who comes back, as the cluster says.
pub(super) struct Visitor<'a> {
    pub(super) user: &'a str,
    pub(super) logins: &'a [String],
}

impl KeptStreams {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            lender: Lender::new(limits),
            remembered: limits.streams.max(DEFAULT.streams),
            streams: VecDeque::new(),
            untold: VecDeque::new(),
        }
    }

    /// Takes on a new stream.
    ///
    /// # Errors
    /// The carrier, and why there is no place for the stream.
    pub(super) fn accept(
        &mut self,
        open: &Open,
        (user, login): (&str, Arc<OnceLock<String>>),
        grace: Duration,
        keepers: &Keepers,
        (carrier, preamble): (Carrier, Vec<u8>),
        now: Duration,
    ) -> Result<Accepted, (Carrier, Reason)> {
        // An id that lingers would make two streams one.
        if keepers.know(open.id) || self.streams.iter().any(|kept| kept.id == open.id) {
            return Err((carrier, Reason::Misbehaved));
        }
        if machine::available_kib().is_some_and(|left| left < SPARE_KIB) {
            return Err((carrier, Reason::Memory));
        }
        let admitted = self
            .lender
            .table()
            .admit(open.id, user, keepers.taken(), now);
        let sizes = match admitted {
            Ok(sizes) => sizes,
            Err(reason) => return Err((carrier, reason)),
        };
        let lender = Arc::clone(&self.lender);
        let accepted = accept(open, sizes, grace, (carrier, preamble), Some(lender));
        self.streams.push_back(Kept {
            id: open.id,
            user: user.to_owned(),
            login,
            handle: accepted.handle.clone(),
        });
        Ok(accepted)
    }

    /// Lets a client come back.
    ///
    /// # Errors
    /// The carrier, and what to tell the client.
    pub(super) fn attach(
        &mut self,
        attach: &Attach,
        visitor: &Visitor<'_>,
        (carrier, preamble): (Carrier, Vec<u8>),
        now: Duration,
    ) -> Result<(), (Carrier, Reason)> {
        let mut streams = self.streams.iter();
        let known = streams.find(|kept| kept.id == attach.id && kept.user == visitor.user);
        let Some(kept) = known else {
            // Counts as a guess.
            let asked = self.lender.table().attach(attach.id, visitor.user, now);
            let refused = asked.err();
            let reason = refused.unwrap_or(Reason::Gone);
            // The agent before this one may have died with it, and told nobody.
            if reason == Reason::Gone && !self.streams.iter().any(|kept| kept.id == attach.id) {
                self.is_over(attach.id);
            }
            return Err((carrier, reason));
        };
        for _ in 0..kept.handle.take_wrong_proofs() {
            self.lender.table().proof_was_wrong(kept.id, now);
        }
        if kept.is_over() {
            return kept.handle.attach(attach, carrier, preamble);
        }
        let asked = self.lender.table().attach(attach.id, visitor.user, now);
        if let Err(reason) = asked {
            return Err((carrier, reason));
        }
        if !kept.is_open_to(visitor) {
            kept.handle.reset(Reason::Denied);
        }
        kept.handle.attach(attach, carrier, preamble)
    }

    /// A stream has ended, and gives back what was set aside for it.
    pub(super) fn ended(&mut self, id: StreamId) {
        self.lender.table().remove(id);
        self.is_over(id);
        let over = self.streams.iter().filter(|kept| kept.is_over()).count();
        if over > self.remembered
            && let Some(oldest) = self.streams.iter().position(Kept::is_over)
        {
            self.streams.remove(oldest);
        }
    }

    /// Nobody will ask for a stream any more.
    pub(super) fn forgotten(&mut self, id: StreamId) {
        self.lender.table().remove(id);
        self.streams.retain(|kept| kept.id != id);
    }

    /// Ends a stream.
    pub(super) fn end(&self, id: StreamId, reason: Reason) {
        for kept in self.streams.iter().filter(|kept| kept.id == id) {
            kept.handle.reset(reason);
        }
    }

    /// Ends all streams of a user.
    pub(super) fn end_user(&self, user: &str, reason: Reason) {
        let theirs: Vec<_> = self.lender.table().of_user(user).collect();
        for id in theirs {
            self.end(id, reason);
        }
    }

    /// Ends all of them.
    pub(super) fn end_all(&self, reason: Reason) {
        for kept in &self.streams {
            kept.handle.reset(reason);
        }
    }

    /// Ends all that nobody is attached to: those who are will see the session end.
    pub(super) fn end_lost(&self, reason: Reason) {
        for kept in &self.streams {
            if matches!(*kept.handle.status().borrow(), Status::Lost { .. }) {
                kept.handle.reset(reason);
            }
        }
    }

    /// This process ends, and all of them with it; those, too, whose end was not noted yet.
    pub(super) fn all_over(&mut self) {
        let table = self.lender.table();
        self.untold.extend(table.streams().map(|(id, ..)| id));
    }

    /// A stream of another process is over.
    pub(super) fn is_over(&mut self, id: StreamId) {
        self.untold.push_back(id);
        if self.untold.len() > MAX_UNTOLD {
            self.untold.pop_front();
        }
    }

    /// Those that go on, with their users and the memory set aside for them.
    pub(super) fn listed(&self) -> Vec<(StreamId, String, u32)> {
        let table = self.lender.table();
        let streams = table.streams();
        streams
            .map(|(id, user, bytes)| (id, user.to_owned(), bytes))
            .collect()
    }

    /// Bytes set aside for their buffers, or lent to them.
    pub(super) fn memory(&self) -> u32 {
        self.lender.table().reserved()
    }

    /// They are another process's to count from now on. What they have borrowed until then, it does
    /// not count: it comes back by itself.
    pub(super) fn stop_lending(&self) {
        self.lender.table().stop_lending();
    }

    /// Whether nobody can ask for any.
    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// What the cluster is to be told: these are over.
    pub(super) fn untold(&mut self) -> VecDeque<StreamId> {
        std::mem::take(&mut self.untold)
    }
}

impl Kept {
    fn is_over(&self) -> bool {
        matches!(*self.handle.status().borrow(), Status::Ended(_))
    }

    /// Whether the visitor may still be who the session runs as.
    fn is_open_to(&self, visitor: &Visitor<'_>) -> bool {
        let login = self.login.get();
        login.is_none_or(|login| visitor.logins.contains(login))
    }
}

/// Looks after a stream until nobody will ask for it any more.
pub(super) async fn look_after(
    id: StreamId,
    handle: Handle<Agent>,
    driver: resumable::Driver<Agent>,
    inputs: mpsc::Sender<Input>,
) {
    let mut status = handle.status();
    let mut driver = std::pin::pin!(driver);
    let over = async {
        let ended = |status: &Status| matches!(status, Status::Ended(_));
        status.wait_for(ended).await.is_ok()
    };
    tokio::select! {
        () = &mut driver => {}
        _ = over => {
            // Nobody listens any more only when the agent ends.
            let _ = inputs.send(Input::StreamEnded { id }).await;
            driver.await;
        }
    }
    let _ = inputs.send(Input::StreamForgotten { id }).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::resume::{Secret, Sizes, VERSION};
    use tokio::io::{AsyncReadExt, DuplexStream};

    fn open(n: u8) -> Open {
        Open {
            version: VERSION,
            id: StreamId([n; 16]),
            secret: Secret([n; 32]),
            sizes: Sizes::CLIENT,
        }
    }

    const fn attach(n: u8) -> Attach {
        Attach {
            id: StreamId([n; 16]),
            generation: 1,
            nonce: [0; 16],
        }
    }

    fn carrier() -> ((Carrier, Vec<u8>), DuplexStream) {
        let (here, there) = tokio::io::duplex(4096);
        ((Carrier::of(here), vec![b'>']), there)
    }

    fn visitor<'a>(user: &'a str, logins: &'a [String]) -> Visitor<'a> {
        Visitor { user, logins }
    }

    fn taken(kept: &mut KeptStreams, n: u8, login: &Arc<OnceLock<String>>) -> Accepted {
        let (carried, there) = carrier();
        std::mem::forget(there);
        let user = ("ann", Arc::clone(login));
        let accepted = kept.accept(
            &open(n),
            user,
            Duration::from_secs(60),
            &Keepers::default(),
            carried,
            Duration::ZERO,
        );
        accepted.ok().unwrap()
    }

    #[tokio::test]
    async fn only_its_user_comes_back_to_a_stream() {
        let mut kept = KeptStreams::new(DEFAULT);
        let _stream = taken(&mut kept, 1, &Arc::default());
        let logins = ["root".to_owned()];
        let (carried, mut there) = carrier();
        let refused = kept.attach(
            &attach(1),
            &visitor("eve", &logins),
            carried,
            Duration::ZERO,
        );
        assert_eq!(refused.err().unwrap().1, Reason::Gone);
        assert!(kept.untold().is_empty(), "it is not over");
        let mut got = Vec::new();
        there.read_to_end(&mut got).await.unwrap();
        assert!(got.is_empty(), "eve learns nothing");
        let (carried, mut there) = carrier();
        let taken = kept.attach(
            &attach(1),
            &visitor("ann", &logins),
            carried,
            Duration::ZERO,
        );
        assert!(taken.is_ok());
        assert_eq!(there.read_u8().await.unwrap(), b'>');
    }

    #[tokio::test]
    async fn the_cluster_learns_that_a_stream_of_an_agent_before_is_over() {
        let mut kept = KeptStreams::new(DEFAULT);
        let (carried, _there) = carrier();
        let refused = kept.attach(&attach(1), &visitor("ann", &[]), carried, Duration::ZERO);
        assert_eq!(refused.err().unwrap().1, Reason::Gone);
        assert_eq!(kept.untold(), [StreamId([1; 16])]);
    }

    #[tokio::test]
    async fn who_may_not_be_the_sessions_login_any_more_ends_it() {
        let mut kept = KeptStreams::new(DEFAULT);
        let login = Arc::new(OnceLock::new());
        let stream = taken(&mut kept, 1, &login);
        login.set("root".to_owned()).unwrap();
        let (carried, _there) = carrier();
        let logins = ["guest".to_owned()];
        let refused = kept.attach(
            &attach(1),
            &visitor("ann", &logins),
            carried,
            Duration::ZERO,
        );
        assert_eq!(refused.err().unwrap().1, Reason::Denied);
        assert!(matches!(*stream.handle.status().borrow(), Status::Ended(_)));
    }

    #[tokio::test]
    async fn all_streams_of_a_user_end_and_nobody_elses() {
        let mut kept = KeptStreams::new(DEFAULT);
        let streams = [1, 2].map(|n| taken(&mut kept, n, &Arc::default()));
        let ended =
            |stream: &Accepted| matches!(*stream.handle.status().borrow(), Status::Ended(_));
        kept.end_user("eve", Reason::Locked);
        assert!(!streams.iter().any(ended));
        assert!(kept.listed().iter().all(|(_, user, _)| user == "ann"));
        kept.end_user("ann", Reason::Locked);
        assert!(streams.iter().all(ended));
    }

    #[tokio::test]
    async fn whatever_ends_with_the_process_is_told_once() {
        let mut kept = KeptStreams::new(DEFAULT);
        let streams = [1, 2, 3].map(|n| taken(&mut kept, n, &Arc::default()));
        // The loop knows of one, and of another not yet; the third goes on.
        streams[0].handle.reset(Reason::Stopping);
        streams[1].handle.reset(Reason::Stopping);
        kept.ended(StreamId([1; 16]));
        kept.all_over();
        assert_eq!(kept.untold(), [1, 2, 3].map(|n| StreamId([n; 16])));
    }

    #[tokio::test]
    async fn what_has_ended_gives_back_its_place_and_is_remembered_for_a_while() {
        let mut kept = KeptStreams::new(DEFAULT);
        for n in 0..100 {
            let stream = taken(&mut kept, n, &Arc::default());
            stream.handle.reset(Reason::Locked);
            kept.ended(StreamId([n; 16]));
        }
        assert_eq!(kept.streams.len(), DEFAULT.streams);
        let (carried, _there) = carrier();
        let asked = kept.attach(&attach(99), &visitor("ann", &[]), carried, Duration::ZERO);
        assert_eq!(asked.err().unwrap().1, Reason::Locked);
        kept.forgotten(StreamId([99; 16]));
        let (carried, _there) = carrier();
        let asked = kept.attach(&attach(99), &visitor("ann", &[]), carried, Duration::ZERO);
        assert_eq!(asked.err().unwrap().1, Reason::Gone);
    }
}

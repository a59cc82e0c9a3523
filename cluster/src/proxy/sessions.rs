//! Open sessions, so that removing a user or a node ends theirs within seconds, and so that one
//! that outlives its links is one session to whoever asks.
//!
//! A session that outlives its links is carried by one stream after the other. Between two it is
//! *detached*, and stays on the list. Only its agent knows when it is over, and says so; if it
//! cannot, the session is off the list once its grace time is over. Only its agent knows, too,
//! whether there is such a session: whatever a client dials changes nothing here until then.
//!
//! Where the proxy itself is the client's end, the session ends with the client's connection, and is
//! *lost* while the agent's link is.
//!
//! All of it is written down as it changes ([`stored`]): a process that is killed leaves what it
//! knows to the next one.

mod dialling;
mod guard;
mod places;
mod stored;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use protocol::identity::NodeId;
use protocol::resume::Sizes;
use resumable::Pool;
use tokio::sync::watch;
use tokio::time::Instant;

use super::splice::Moved;
use crate::auth::ca::peer::UserPeer;
use dialling::Dialling;
pub use guard::Guard;
pub use places::Place;
use places::Places;
use stored::Marks;
pub use stored::Stored;

#[cfg(test)]
mod tests;

/// Names a session in the audit log. That of a session which outlives its links is the stream's id.
pub type SessionId = [u8; 16];

/// Whose a session is: a user's name, and which of those who have had it.
pub type Holder = (String, u64);

/// Whose the sessions are that somebody begins.
#[must_use]
pub fn holder(user: &UserPeer) -> Holder {
    (user.name.clone(), user.id)
}

/// Sessions that nobody is attached to, kept on the list at most.
const MAX_DETACHED: usize = 10_000;
/// The same of one person: whoever has more loses their own oldest, and nobody else's.
const MAX_DETACHED_OF_ONE: usize = 256;
/// An agent says that a session is over while the session's stream ends; neither waits for the
/// other.
const LAST_WORD: Duration = Duration::from_secs(2);
/// When a session is over, its last bytes have this long to reach the client. One that is gone
/// without a word would hold a TCP connection, and with it the session, for a quarter of an hour.
pub(super) const LAST_BYTES: Duration = Duration::from_secs(10);
/// An agent gives a session up after the grace time, and says so, by another clock than ours.
const AFTER_GRACE: Duration = Duration::from_secs(30);
/// Sessions of plain SSH clients that may outlive their agents' links at once. Each may take up to
/// 512 KiB of the proxy's memory...
const HELD_HERE: usize = 256;
/// ...of one person no more than this...
const HELD_OF_ONE: usize = 64;
/// ...and those that are busy as many bytes more, all together.
const LENT_HERE: u32 = 128 * 1024 * 1024;

/// Who is where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The Tether user.
    pub user: String,
    /// Which of those who have had that name.
    pub user_id: u64,
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub hostname: String,
    /// OS user, if the client has said.
    pub login: String,
}

/// A session as others see it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its id.
    pub id: SessionId,
    /// Who is where.
    pub about: About,
    /// Since when.
    pub started: SystemTime,
    /// Since when nobody is attached, if that is so.
    pub detached: Option<SystemTime>,
    /// How long it is kept then; nothing, if it ends with its stream.
    pub grace: Option<Duration>,
    /// How much longer it is kept, if nobody is attached.
    pub left: Option<Duration>,
    /// Bytes so far.
    pub moved: Moved,
}

/// What has become of a session whose stream has ended.
#[derive(Debug)]
pub enum Left {
    /// It is over.
    Over(Listed),
    /// Its client may come back.
    Detached,
    /// Its client has come back by another stream.
    Replaced,
}

struct Open {
    about: About,
    started: SystemTime,
    moved: Moved,
    /// How many streams carry it: two while a new one replaces an old one. Those that are still
    /// being dialled do not.
    carriers: usize,
    /// How long it is kept without one.
    grace: Option<Duration>,
    /// How long the agent keeps it without a stream: it must be told of the end.
    at_agent: Option<Duration>,
    detached: Option<(SystemTime, Instant)>,
    end: watch::Sender<bool>,
    /// Its agent says so. One without grace is over with its stream.
    over: watch::Sender<bool>,
    /// How often its client came back, or tried to.
    returns: watch::Sender<u32>,
}

/// A client chooses the id; whoever knows another's has another session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    id: SessionId,
    node: NodeId,
    holder: Holder,
}

type Table = HashMap<Key, Open>;

/// All open sessions. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    open: Arc<Mutex<Table>>,
    /// This process is about to end.
    leaving: Arc<watch::Sender<bool>>,
    held_here: Arc<Places>,
    /// What those of them may borrow that are busy.
    pub(super) spare: Arc<Pool>,
    /// How many are still dialling.
    dialling: Arc<AtomicUsize>,
    /// Whose records are to be written.
    marks: Arc<Marks>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            open: Arc::default(),
            leaving: Arc::new(watch::Sender::new(false)),
            held_here: Arc::default(),
            spare: Arc::new(Pool::new(LENT_HERE, Sizes::AGENT, Sizes::BUSY)),
            dialling: Arc::default(),
            marks: Arc::default(),
        }
    }
}

impl Sessions {
    /// A session that ends with its stream. Like the others it is on the list once it has begun.
    #[must_use]
    pub fn enter(&self, about: About) -> Guard {
        self.guard(rand::random(), Open::new(about, None))
    }

    /// A session that ends with its client's connection to this process, while the agent keeps it
    /// over a loss of its link.
    #[must_use]
    pub fn hold(&self, id: SessionId, about: About, grace: Duration) -> Guard {
        let mut open = Open::new(about, None);
        open.at_agent = Some(grace);
        self.guard(id, open)
    }

    /// A session that outlives its links, or the return to it. One that is not known may be from
    /// before this process: its agent decides.
    #[must_use]
    pub fn attach(&self, id: SessionId, about: About, grace: Duration) -> Guard {
        let guard = self.guard(id, Open::new(about, Some(grace)));
        if let Some(open) = self.lock().get(&guard.key) {
            open.returns.send_modify(|count| *count += 1);
        }
        guard
    }

    /// A place for a session that this process keeps for a plain client, if one is left.
    #[must_use]
    pub fn place(&self, holder: Holder) -> Option<Place> {
        Places::take(&self.held_here, holder)
    }

    /// An agent says that a session is over. Gives it if nothing carries it any more; else whoever
    /// does will find that it is over.
    #[must_use]
    pub fn over(&self, id: SessionId, node: NodeId) -> Vec<Listed> {
        let mut table = self.lock();
        let over = table.extract_if(|key, open| {
            let same = key.id == id && key.node == node;
            if same {
                open.over.send_replace(true);
            }
            same && open.carriers == 0
        });
        self.taken_off(over)
    }

    /// Ends all sessions of a kind; tells those that only their agents can end.
    pub fn end_where(
        &self,
        of_kind: impl Fn(SessionId, &About) -> bool,
    ) -> Vec<(NodeId, SessionId)> {
        let table = self.lock();
        let concerned = table
            .iter()
            .filter(|(key, open)| of_kind(key.id, &open.about));
        let kept = concerned.filter_map(|(key, open)| {
            if !open.end.send_replace(true) {
                self.marks.mark(key);
            }
            open.at_agent.map(|_| (key.node, key.id))
        });
        kept.collect()
    }

    /// Those of a node that are to end: it may not have been there to be told.
    #[must_use]
    pub fn to_end(&self, node: NodeId) -> Vec<SessionId> {
        let table = self.lock();
        let ending = table.iter().filter(|(key, open)| {
            key.node == node && open.at_agent.is_some() && *open.end.borrow()
        });
        ending.map(|(key, _)| key.id).collect()
    }

    /// All of them.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let table = self.lock();
        let listed = table.iter().map(|(key, open)| open.listed(key.id));
        listed.collect()
    }

    /// Everybody who has one.
    #[must_use]
    pub fn holders(&self) -> HashSet<Holder> {
        let table = self.lock();
        table.keys().map(|key| key.holder.clone()).collect()
    }

    /// Takes those off the list that nobody can come back to any more, and gives them.
    #[must_use]
    pub fn give_up(&self) -> Vec<Listed> {
        let mut table = self.lock();
        let given_up = table.extract_if(|_, open| open.is_given_up());
        self.taken_off(given_up)
    }

    fn taken_off(&self, sessions: impl Iterator<Item = (Key, Open)>) -> Vec<Listed> {
        let listed = sessions.map(|(key, open)| {
            self.marks.mark(&key);
            open.listed(key.id)
        });
        listed.collect()
    }

    /// This process is about to end: sessions that outlive it are detached.
    pub fn leave_all(&self) {
        self.leaving.send_replace(true);
    }

    /// Whether this process is about to end.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        *self.leaving.borrow()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// How many are carried or dialled, and have to be left alone or detached before this process
    /// ends, or whose last event is not written down.
    #[must_use]
    pub fn carried(&self) -> usize {
        let table = self.lock();
        let carried = table.values().filter(|open| open.carriers > 0).count();
        carried + self.dialling.load(Ordering::Acquire)
    }

    /// This process is not to end before the returned value is dropped.
    #[must_use]
    pub fn busy(&self) -> Dialling {
        Dialling::new(&self.dialling)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn guard(&self, id: SessionId, open: Open) -> Guard {
        Guard {
            table: self.clone(),
            id,
            key: open.about.key(id),
            end: open.end.subscribe(),
            over: open.over.subscribe(),
            returns: open.returns.subscribe(),
            leaving: self.leaving.subscribe(),
            outlives: open.grace.is_some(),
            dialled: Some((open, Dialling::new(&self.dialling))),
            left: false,
        }
    }

    /// Takes a stream off a session.
    fn leave(&self, key: &Key) -> Left {
        let mut table = self.lock();
        let Some(open) = table.get_mut(key) else {
            return Left::Replaced;
        };
        open.carriers = open.carriers.saturating_sub(1);
        if open.carriers > 0 {
            return Left::Replaced;
        }
        self.marks.mark(key);
        if open.grace.is_some() && !*open.over.borrow() {
            open.detached = Some((SystemTime::now(), Instant::now()));
            return Left::Detached;
        }
        let listed = open.listed(key.id);
        table.remove(key);
        Left::Over(listed)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl About {
    fn key(&self, id: SessionId) -> Key {
        Key {
            id,
            node: self.node,
            holder: self.holder(),
        }
    }

    /// Whose it is.
    #[must_use]
    pub fn holder(&self) -> Holder {
        (self.user.clone(), self.user_id)
    }
}

impl Open {
    fn new(about: About, grace: Option<Duration>) -> Self {
        Self {
            about,
            started: SystemTime::now(),
            moved: Moved::default(),
            carriers: 0,
            grace,
            at_agent: grace,
            detached: None,
            end: watch::Sender::new(false),
            over: watch::Sender::new(false),
            returns: watch::Sender::new(0),
        }
    }

    fn listed(&self, id: SessionId) -> Listed {
        Listed {
            id,
            about: self.about.clone(),
            started: self.started,
            detached: self.detached.map(|(at, _)| at),
            grace: self.grace,
            left: self.left(),
            moved: self.moved,
        }
    }

    fn left(&self) -> Option<Duration> {
        let (_, since) = self.detached?;
        Some(self.grace?.saturating_sub(since.elapsed()))
    }

    /// Whether nobody can come back.
    fn is_given_up(&self) -> bool {
        let (Some((_, since)), Some(grace)) = (self.detached, self.grace) else {
            return false;
        };
        since.elapsed() > grace.saturating_add(AFTER_GRACE)
    }
}

/// Forgets the session that was detached first: of one person, if they have very many, or of all.
fn make_room(table: &mut Table, holder: &Holder) -> Option<Key> {
    // Below that, nobody can have too many.
    if table.len() < MAX_DETACHED_OF_ONE {
        return None;
    }
    let detached = table.iter().filter_map(|(key, open)| {
        let (_, since) = open.detached.filter(|_| open.carriers == 0)?;
        Some((since, key))
    });
    let theirs = detached.clone().filter(|(_, key)| key.holder == *holder);
    let oldest = if theirs.clone().count() >= MAX_DETACHED_OF_ONE {
        theirs.min_by_key(|(since, _)| *since)
    } else if table.len() >= MAX_DETACHED {
        detached.min_by_key(|(since, _)| *since)
    } else {
        None
    };
    let oldest = oldest.map(|(_, key)| key.clone())?;
    table.remove(&oldest);
    Some(oldest)
}

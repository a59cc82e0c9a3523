//! What is open, written down for the next process.
//!
//! Whatever changes the list marks the session. Who carries it writes it down while the audit log
//! does the same, and a task does the rest moments later. The next process puts them on its list
//! again, detached, and knows which of them the last one had not seen detached or over: those of a
//! process that was killed.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use protocol::identity::NodeId;
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{About, Key, Listed, Open, Sessions};
use crate::proxy::splice::Moved;
use crate::resource::session::SessionSpec;
use crate::resource::{Resource, ResourceError, Resources};

/// Marked sessions are written this long after the first mark: what a process that is killed knew
/// for less is lost.
const BATCH: Duration = Duration::from_millis(100);
/// What could not be written is tried again this often.
const RETRY: Duration = Duration::from_secs(5);
/// Nobody waits for longer: a store that is stuck must not hold up who dials.
const PATIENCE: Duration = Duration::from_secs(2);

/// See the [module](self).
#[derive(Default)]
pub(super) struct Marks {
    marked: Mutex<HashSet<Key>>,
    /// Those that could not be written.
    failed: Mutex<HashSet<Key>>,
    /// Those that are in the store, or may be. Held while records are written, so that the newest is
    /// the last one.
    written: tokio::sync::Mutex<HashSet<Key>>,
    wake: Notify,
}

/// What the process before this one left.
#[derive(Default)]
pub struct Stored {
    /// Their clients may come back...
    pub sessions: Sessions,
    /// ...also to these, which nobody has seen detached.
    pub detached: Vec<Listed>,
    /// These ended with that process, and nobody has seen that either.
    pub over: Vec<Listed>,
}

impl Marks {
    pub(super) fn mark(&self, key: &Key) {
        lock(&self.marked).insert(key.clone());
        self.wake.notify_one();
    }
}

impl Sessions {
    /// Reads what was open when the process before this one ended.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn load(resources: &Resources) -> Result<Stored, ResourceError> {
        let mut stored = Stored::default();
        let marks = Arc::clone(&stored.sessions.marks);
        let mut written = marks.written.lock().await;
        for record in resources.list_each::<SessionSpec>().await? {
            match record.map(|record| restored(record.spec)) {
                Ok(Some((key, open, was_attached))) => {
                    written.insert(key.clone());
                    stored.take(key, open, was_attached);
                }
                Ok(None) => tracing::warn!("a stored session names no node or session"),
                // No reason to let the others be.
                Err(error) => tracing::warn!(%error, "a session could not be read"),
            }
        }
        drop(written);
        Ok(stored)
    }

    /// Writes down what changes, for as long as the process lives.
    pub async fn write_forever(&self, resources: &Resources) {
        let mut retry = tokio::time::interval(RETRY);
        loop {
            tokio::select! {
                () = self.marks.wake.notified() => tokio::time::sleep(BATCH).await,
                _ = retry.tick() => self.mark_failed(),
            }
            self.write(resources).await;
        }
    }

    fn mark_failed(&self) {
        let failed = std::mem::take(&mut *lock(&self.marks.failed));
        lock(&self.marks.marked).extend(failed);
    }

    /// Writes down all there is, whatever has become of earlier tries.
    pub async fn write_all(&self, resources: &Resources) {
        let listed: Vec<_> = self.lock().keys().cloned().collect();
        lock(&self.marks.marked).extend(listed);
        self.mark_failed();
        self.write(resources).await;
    }

    /// Writes down what has changed until now, also if nobody waits for it any more.
    pub async fn write(&self, resources: &Resources) {
        let (sessions, resources) = (self.clone(), resources.clone());
        let written = tokio::spawn(async move { sessions.write_marked(&resources).await });
        // Else it is written as soon as the store can.
        tokio::time::timeout(PATIENCE, written).await.ok();
    }

    async fn write_marked(&self, resources: &Resources) {
        let mut written = self.marks.written.lock().await;
        let marked = std::mem::take(&mut *lock(&self.marks.marked));
        let changes: Vec<_> = {
            let table = self.lock();
            let change = |key: Key| {
                let record = table.get(&key).map(|open| spec(&key, open));
                (key, record)
            };
            marked.into_iter().map(change).collect()
        };
        let known = &*written;
        let writes = changes.into_iter().map(|(key, record)| async move {
            let (name, stays) = (key.name(), record.is_some());
            let done = match record {
                Some(spec) => resources.put(&Resource::new(name, spec)).await.map(drop),
                None if known.contains(&key) => {
                    match resources.remove::<SessionSpec>(&name).await {
                        Err(ResourceError::NotFound { .. }) => Ok(()),
                        done => done,
                    }
                }
                None => Ok(()),
            };
            (key, stays, done)
        });
        // All at once: the store groups what is queued into one transaction.
        for (key, stays, done) in futures::future::join_all(writes).await {
            let failed = done.is_err();
            if let Err(error) = done {
                tracing::warn!(%error, "a session could not be written down");
                lock(&self.marks.failed).insert(key.clone());
            }
            // One that could not be written may be there all the same.
            if stays || failed {
                written.insert(key);
            } else {
                written.remove(&key);
            }
        }
    }
}

impl Stored {
    fn take(&mut self, key: Key, mut open: Open, was_attached: bool) {
        if was_attached {
            self.sessions.marks.mark(&key);
        }
        match open.grace {
            Some(_) if was_attached => self.detached.push(open.listed(key.id)),
            Some(_) => {}
            // That process was the client's end: the agent's is to end, too.
            None if open.at_agent.is_some() => {
                open.grace = open.at_agent;
                open.end.send_replace(true);
            }
            None => return self.over.push(open.listed(key.id)),
        }
        self.sessions.lock().insert(key, open);
    }
}

impl Key {
    fn name(&self) -> String {
        let (id, (user, user_id)) = (hex::encode(self.id), &self.holder);
        format!("{id}-{}-{user_id}-{user}", self.node)
    }
}

fn spec(key: &Key, open: &Open) -> SessionSpec {
    let about = &open.about;
    SessionSpec {
        id: hex::encode(key.id),
        user: about.user.clone(),
        user_id: about.user_id,
        node: about.node.to_string(),
        hostname: about.hostname.clone(),
        login: about.login.clone(),
        started: open.started.into(),
        sent: open.moved.sent,
        received: open.moved.received,
        grace_s: open.grace.map(|grace| grace.as_secs()),
        at_agent_s: open.at_agent.map(|grace| grace.as_secs()),
        detached: open.detached.map(|(at, _)| at.into()),
        ends: *open.end.borrow(),
    }
}

/// A session as it is now that nothing carries it, and whether something still did by its record.
fn restored(spec: SessionSpec) -> Option<(Key, Open, bool)> {
    let id = hex::decode(&spec.id).ok()?.try_into().ok()?;
    let node: NodeId = spec.node.parse().ok()?;
    let grace = spec.grace_s.map(Duration::from_secs);
    let was_attached = spec.detached.is_none();
    let about = About {
        user: spec.user,
        user_id: spec.user_id,
        node,
        hostname: spec.hostname,
        login: spec.login,
    };
    let key = about.key(id);
    let since = spec.detached.unwrap_or_else(OffsetDateTime::now_utc);
    let since = SystemTime::from(since);
    let ago = since.elapsed().unwrap_or_default();
    let mut open = Open::new(about, grace);
    open.started = spec.started.into();
    open.moved = Moved {
        sent: spec.sent,
        received: spec.received,
    };
    open.at_agent = spec.at_agent_s.map(Duration::from_secs);
    // Whatever the clock says, the agent gets a moment to say whether it knows the session. And this
    // machine may have been started more recently than that.
    let longest = grace.or(open.at_agent).unwrap_or_default();
    let at = Instant::now().checked_sub(ago.min(longest));
    open.detached = Some((since, at.unwrap_or_else(Instant::now)));
    open.end.send_replace(spec.ends);
    Some((key, open, was_attached))
}

/// No code panics while it holds one of these locks, so a poisoned one holds good data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::sessions::{Left, SessionId};
    use crate::store::sqlite::{Options, Sqlite};

    const GRACE: Duration = Duration::from_mins(10);
    const MOVED: Moved = Moved {
        sent: 3,
        received: 4,
    };

    fn store() -> (tempfile::TempDir, Resources) {
        let dir = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&dir.path().join("tether.db"), Options::default()).unwrap();
        (dir, Resources::new(Arc::new(store)))
    }

    fn about(user: &str) -> About {
        About {
            user: user.into(),
            user_id: 7,
            node: NodeId([1; 16]),
            hostname: "gateway-1".into(),
            login: "root".into(),
        }
    }

    fn ids(listed: &[Listed]) -> Vec<SessionId> {
        listed.iter().map(|listed| listed.id).collect()
    }

    fn find(stored: &Stored, id: u8) -> Option<Listed> {
        let mut all = stored.sessions.list().into_iter();
        all.find(|listed| listed.id == [id; 16])
    }

    #[tokio::test]
    async fn the_next_process_knows_what_the_last_one_left() {
        let (_dir, resources) = store();
        let sessions = Sessions::default();
        let attach = |id| sessions.attach([id; 16], about("ann"), GRACE);
        let (mut attached, mut away, mut over) = (attach(1), attach(2), attach(3));
        let mut plain = sessions.enter(about("bob"));
        let mut held = sessions.hold([5; 16], about("bob"), GRACE);
        let _never_begun = attach(6);
        for guard in [&mut attached, &mut away, &mut over, &mut plain, &mut held] {
            guard.begin();
        }
        sessions.write(&resources).await;
        assert!(matches!(away.leave(MOVED).await, Left::Detached));
        assert!(sessions.over([3; 16], NodeId([1; 16])).is_empty());
        assert!(matches!(over.leave(MOVED).await, Left::Over(_)));
        sessions.write(&resources).await;
        let before = sessions.list();

        // It is killed.
        let next = Sessions::load(&resources).await.unwrap();
        assert_eq!(ids(&next.detached), [[1; 16]]);
        assert_eq!(ids(&next.over), [plain.id]);
        let (kept, gone) = (find(&next, 1).unwrap(), find(&next, 2).unwrap());
        assert!(kept.detached.is_some() && gone.detached.is_some());
        assert_eq!((gone.moved, kept.moved), (MOVED, Moved::default()));
        assert_eq!(kept.about, about("ann"));
        let started = before.iter().find(|listed| listed.id == [1; 16]).unwrap();
        let same = started.started.duration_since(kept.started);
        assert!(same.is_ok_and(|drift| drift < Duration::from_millis(1)));
        // Nobody can come back to what this process was the client's end of.
        assert_eq!(next.sessions.to_end(NodeId([1; 16])), [[5; 16]]);
        assert_eq!(next.sessions.len(), 3);
        let held = find(&next, 5).unwrap();
        assert_eq!(held.grace, Some(GRACE), "as long as the agent has it");
        next.sessions.write_all(&resources).await;
        let anew = Sessions::load(&resources).await.unwrap();
        assert!(
            anew.detached.is_empty() && anew.over.is_empty(),
            "said once"
        );
        assert_eq!(anew.sessions.len(), 3);

        // Whoever comes back comes back to the same session.
        let mut back = anew.sessions.attach([1; 16], about("ann"), GRACE);
        assert!(!back.begin());
        assert_eq!(anew.sessions.len(), 3);
        assert!(anew.sessions.over([1; 16], NodeId([1; 16])).is_empty());
        let Left::Over(listed) = back.leave(MOVED).await else {
            panic!("it is over");
        };
        assert_eq!(listed.started, kept.started);
        anew.sessions.write(&resources).await;
        assert_eq!(Sessions::load(&resources).await.unwrap().sessions.len(), 2);
    }

    #[tokio::test]
    async fn what_could_not_be_written_is_written_later() {
        let (dir, resources) = store();
        let sessions = Sessions::default();
        let mut first = sessions.attach([1; 16], about("ann"), GRACE);
        first.begin();
        sessions.write(&resources).await;
        // Somebody else writes, and takes too long.
        let other = rusqlite::Connection::open(dir.path().join("tether.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut second = sessions.attach([2; 16], about("ann"), GRACE);
        second.begin();
        assert!(sessions.over([1; 16], NodeId([1; 16])).is_empty());
        assert!(matches!(first.leave(MOVED).await, Left::Over(_)));
        sessions.write(&resources).await;
        assert!(
            lock(&sessions.marks.failed).is_empty(),
            "nobody waits for that"
        );
        let failed = async {
            while lock(&sessions.marks.failed).len() < 2 {
                tokio::time::sleep(BATCH).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), failed)
            .await
            .unwrap();
        other.execute_batch("ROLLBACK").unwrap();
        sessions.mark_failed();
        sessions.write(&resources).await;
        let next = Sessions::load(&resources).await.unwrap();
        assert_eq!(ids(&next.detached), [[2; 16]]);
        assert_eq!(next.sessions.len(), 1, "the first one is gone");
    }

    #[tokio::test]
    async fn what_is_to_end_ends_also_if_its_node_comes_back_to_another_process() {
        let (_dir, resources) = store();
        let sessions = Sessions::default();
        for (id, user) in [(1, "ann"), (2, "bob")] {
            let mut guard = sessions.attach([id; 16], about(user), GRACE);
            guard.begin();
            guard.leave(MOVED).await;
        }
        sessions.write(&resources).await;
        assert!(sessions.to_end(NodeId([1; 16])).is_empty());
        assert_eq!(sessions.end_where(|_, about| about.user == "ann").len(), 1);
        sessions.write(&resources).await;
        let next = Sessions::load(&resources).await.unwrap().sessions;
        for sessions in [&sessions, &next] {
            assert_eq!(sessions.to_end(NodeId([1; 16])), [[1; 16]]);
            assert!(sessions.to_end(NodeId([2; 16])).is_empty());
        }
    }
}

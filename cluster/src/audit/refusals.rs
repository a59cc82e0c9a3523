//! What strangers are refused, and how much of it is written down.
//!
//! Whoever reaches the port can be refused as often as the line allows, and the disk should not fill
//! for that. So a burst of each kind is written down and then one a second; what is left out is told
//! by its number.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Audit, Code, Event};

/// So many of a kind at once: a fleet with a token that has expired, an afternoon of typing errors.
const BURST: u32 = 256;
/// Then one in this time: 50 MB a day, at 600 bytes each.
const EACH: Duration = Duration::from_secs(1);
/// How long others are left out before their number is told.
const TELL_AFTER: Duration = Duration::from_secs(60);

/// What was refused lately.
#[derive(Clone)]
pub(super) struct Refusals {
    began: Instant,
    kinds: Arc<Mutex<HashMap<Code, Kind>>>,
}

/// Refusals of one kind.
#[derive(Default)]
struct Kind {
    /// When the burst is whole again, since the beginning.
    whole: Duration,
    left_out: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Write,
    LeaveOut { first: bool },
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            kinds: Arc::default(),
        }
    }
}

impl Refusals {
    fn judge(&self, code: Code) -> Verdict {
        let now = self.began.elapsed();
        self.lock().entry(code).or_default().judge(now)
    }

    fn left_out(&self, code: Code) -> u64 {
        let mut kinds = self.lock();
        kinds
            .get_mut(&code)
            .map_or(0, |k| std::mem::take(&mut k.left_out))
    }

    fn codes(&self) -> Vec<Code> {
        self.lock().keys().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Code, Kind>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kind {
    fn judge(&mut self, now: Duration) -> Verdict {
        let whole = self.whole.max(now) + EACH;
        if whole > now + EACH * BURST {
            self.left_out += 1;
            let first = self.left_out == 1;
            return Verdict::LeaveOut { first };
        }
        self.whole = whole;
        Verdict::Write
    }
}

impl Audit {
    /// Writes down that somebody was refused who has not proved to be anybody, if not too many were.
    pub async fn refused(&self, event: Event) {
        let code = event.code;
        match self.refusals.judge(code) {
            Verdict::Write => self.record(event.brief()).await,
            Verdict::LeaveOut { first: false } => {}
            Verdict::LeaveOut { first: true } => {
                let audit = self.clone();
                drop(tokio::spawn(async move {
                    tokio::time::sleep(TELL_AFTER).await;
                    audit.tell(code).await;
                }));
            }
        }
    }

    /// Writes down how many were left out, before the cluster stops.
    pub async fn tell_left_out(&self) {
        for code in self.refusals.codes() {
            self.tell(code).await;
        }
    }

    async fn tell(&self, code: Code) {
        let count = self.refusals.left_out(code);
        if count > 0 {
            let text = format!("{count} more like this were not written down");
            let event = Event::new(code).field("error", text);
            self.record(event.field("left_out", count)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::code;
    use super::*;

    #[test]
    fn after_a_burst_one_is_written_for_each_second_that_passes() {
        let mut kind = Kind::default();
        let mut written = |now| {
            let verdicts = (0..1000).map(|_| kind.judge(now));
            verdicts.filter(|v| *v == Verdict::Write).count()
        };
        assert_eq!(written(Duration::ZERO), BURST as usize);
        assert_eq!(written(EACH / 2), 0);
        assert_eq!(written(EACH), 1);
        assert_eq!(written(EACH * 11), 10);
        assert_eq!(written(EACH * 10_000), BURST as usize);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_leaves_a_burst_and_one_event_with_the_number_of_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::open(&dir.path().join("audit.db")).unwrap();
        let refuse = |code, count| {
            let audit = audit.clone();
            async move {
                for number in 0..count {
                    audit
                        .refused(Event::new(code).field("number", number))
                        .await;
                }
            }
        };
        refuse(code::LOGIN_FAILED, 1000).await;
        refuse(code::CERTIFICATE_REFUSED, 1).await;
        tokio::time::sleep(TELL_AFTER * 2).await;
        let events = audit.newest(2000).await.unwrap();
        assert_eq!(events.len(), BURST as usize + 2);
        let left_out = |event: &serde_json::Value| event.get("left_out")?.as_u64();
        let told: Vec<_> = events.iter().filter_map(left_out).collect();
        assert_eq!(told, [1000 - u64::from(BURST)]);
        // What is left out until a stop is told then.
        refuse(code::LOGIN_FAILED, 1000).await;
        audit.tell_left_out().await;
        let last = audit.newest(1).await.unwrap();
        assert!(last.first().and_then(left_out).is_some(), "{last:?}");
    }
}

//! Several ways to the same end, one after the other and yet at once: each starts a little after
//! the one before, or as soon as one has failed, and the first that succeeds is taken (RFC 8305 §5).

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::transport::Pending;

/// Runs attempts; those that lose are dropped. Without a winner, gives all failures in the order
/// they came in. One that `decides` ends the race.
pub(super) async fn race<T, E>(
    attempts: Vec<Pending<'static, Result<T, E>>>,
    stagger: Duration,
    decides: impl Fn(&E) -> bool,
) -> Result<T, Vec<E>>
where
    T: Send + 'static,
    E: Send + 'static,
{
    let mut waiting = attempts.into_iter();
    let mut running = JoinSet::new();
    let mut failures = Vec::new();
    loop {
        if let Some(attempt) = waiting.next() {
            running.spawn(attempt);
        } else if running.is_empty() {
            return Err(failures);
        }
        let patience = match waiting.len() {
            0 => Duration::MAX,
            _ => stagger,
        };
        match timeout(patience, running.join_next()).await {
            Ok(Some(Ok(Ok(won)))) => return Ok(won),
            Ok(Some(Ok(Err(failure)))) => {
                let over = decides(&failure);
                failures.push(failure);
                if over {
                    return Err(failures);
                }
            }
            // A task that was lost, or time for the next one.
            Ok(Some(Err(_)) | None) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, sleep};

    const STAGGER: Duration = Duration::from_millis(250);

    fn after(millis: u64, outcome: Result<u8, u8>) -> Pending<'static, Result<u8, u8>> {
        Box::pin(async move {
            sleep(Duration::from_millis(millis)).await;
            outcome
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_is_preferred_while_it_is_quick() {
        let start = Instant::now();
        let attempts = vec![after(200, Ok(1)), after(0, Ok(2))];
        assert_eq!(race(attempts, STAGGER, |_| false).await, Ok(1));
        assert_eq!(start.elapsed(), Duration::from_millis(200));
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_starts_after_the_stagger_and_may_win() {
        let start = Instant::now();
        let attempts = vec![after(90_000, Ok(1)), after(100, Ok(2))];
        assert_eq!(race(attempts, STAGGER, |_| false).await, Ok(2));
        assert_eq!(start.elapsed(), Duration::from_millis(350));
    }

    #[tokio::test(start_paused = true)]
    async fn the_slow_first_one_may_still_win() {
        let attempts = vec![after(400, Ok(1)), after(90_000, Ok(2))];
        assert_eq!(race(attempts, STAGGER, |_| false).await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_starts_the_next_at_once() {
        let start = Instant::now();
        let attempts = vec![after(10, Err(1)), after(10, Err(2)), after(10, Ok(3))];
        assert_eq!(race(attempts, STAGGER, |_| false).await, Ok(3));
        assert_eq!(start.elapsed(), Duration::from_millis(30));
    }

    #[tokio::test(start_paused = true)]
    async fn all_failures_are_told_unless_one_decides() {
        let attempts = || vec![after(300, Err(1)), after(10, Err(2))];
        assert_eq!(race(attempts(), STAGGER, |_| false).await, Err(vec![2, 1]));
        assert_eq!(race(attempts(), STAGGER, |e| *e == 2).await, Err(vec![2]));
        let none: Vec<Pending<'static, Result<u8, u8>>> = Vec::new();
        assert_eq!(race(none, STAGGER, |_| false).await, Err(vec![]));
    }
}

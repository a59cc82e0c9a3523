//! A thread with a bounded queue before it, which async code can wait for without blocking.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::store::StoreError;

/// Where the answer to a job goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// The async end. Dropping it lets the thread do what is queued and waits for its end.
pub(super) struct Worker<J> {
    jobs: Option<mpsc::Sender<Queued<J>>>,
    places: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

/// The channel has no bound of its own: who puts a job into it holds one of the places.
struct Queued<J> {
    job: J,
    _place: OwnedSemaphorePermit,
}

/// The thread's end.
pub(super) struct Jobs<J>(mpsc::Receiver<Queued<J>>);

pub(super) enum Next<J> {
    Job(J),
    DeadlinePassed,
    /// The worker was dropped and nothing is left to do.
    Closed,
}

impl<J: Send + 'static> Worker<J> {
    pub(super) fn spawn(
        name: &str,
        depth: usize,
        run: impl FnOnce(Jobs<J>) + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(Jobs(queue)))?;
        Ok(Self {
            jobs: Some(jobs),
            places: Arc::new(Semaphore::new(depth)),
            thread: Some(thread),
        })
    }

    /// Queues a job as soon as there is a place, and waits for its answer.
    pub(super) async fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> J) -> Result<T, StoreError> {
        let place = self.places.clone().acquire_owned().await;
        let (Ok(place), Some(jobs)) = (place, &self.jobs) else {
            return Err(StoreError::Closed);
        };
        let (reply, answer) = oneshot::channel();
        let queued = Queued {
            job: job(reply),
            _place: place,
        };
        jobs.send(queued).map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl<J> Drop for Worker<J> {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a thread of the store has panicked");
        }
    }
}

impl<J> Jobs<J> {
    pub(super) fn next(&self) -> Option<J> {
        self.0.recv().ok().map(|queued| queued.job)
    }

    pub(super) fn next_before(&self, deadline: Instant) -> Next<J> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.0.recv_timeout(left) {
            Ok(queued) => Next::Job(queued.job),
            Err(RecvTimeoutError::Timeout) => Next::DeadlinePassed,
            Err(RecvTimeoutError::Disconnected) => Next::Closed,
        }
    }

    /// What is queued at this moment.
    pub(super) fn queued(&self) -> impl Iterator<Item = J> {
        self.0.try_iter().map(|queued| queued.job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Doubling = (u32, Reply<u32>);

    fn double(jobs: &Jobs<Doubling>) {
        while let Some((number, reply)) = jobs.next() {
            let _ = reply.send(Ok(2 * number));
        }
    }

    #[tokio::test]
    async fn a_full_queue_makes_the_caller_wait_without_blocking_the_runtime() {
        let (open, gate) = mpsc::channel();
        let worker = Worker::spawn("gated", 1, move |jobs| {
            gate.recv().expect("the gate opens");
            double(&jobs);
        })
        .expect("a thread");
        let answers = tokio::join!(
            worker.ask(|reply| (1, reply)),
            worker.ask(|reply| (2, reply)),
            worker.ask(|reply| (3, reply)),
            async { open.send(()).expect("the gate is there") },
        );
        assert_eq!((answers.0, answers.1, answers.2), (Ok(2), Ok(4), Ok(6)));
    }

    #[tokio::test]
    async fn a_thread_that_has_ended_answers_that_the_store_is_closed() {
        let worker = Worker::spawn("ended", 1, |jobs: Jobs<Doubling>| drop(jobs)).expect("spawns");
        for _ in 0..3 {
            let answer = worker.ask(|reply| (1, reply)).await;
            assert_eq!(answer, Err(StoreError::Closed));
        }
    }

    #[test]
    fn dropping_a_worker_waits_until_what_is_queued_is_done() {
        let (done, results) = mpsc::channel();
        let worker = Worker::spawn("slow", 8, move |jobs: Jobs<Doubling>| {
            while let Some((number, _)) = jobs.next() {
                done.send(number).expect("the test listens");
            }
        })
        .expect("a thread");
        for number in 0..8 {
            // Polled once, the job is queued; its answer is not waited for.
            let _ = futures::FutureExt::now_or_never(worker.ask(|reply| (number, reply)));
        }
        drop(worker);
        assert_eq!(results.try_iter().count(), 8);
    }
}

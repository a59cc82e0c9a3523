//! Who is woken when an attachment can move.
//!
//! The application's task is, since it moves bytes without a detour; the driver is as well, in case
//! the application has something else to do. Whoever comes second finds nothing to do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: AtomicBool,
    wakers: Mutex<Wakers>,
}

#[derive(Debug, Default)]
struct Wakers {
    reader: Option<Waker>,
    writer: Option<Waker>,
    driver: Option<Waker>,
}

impl Signal {
    /// Whether anything may have changed since the last time.
    pub(crate) fn take(&self) -> bool {
        self.raised.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn reads(&self, waker: &Waker) {
        keep(&mut self.lock().reader, waker);
    }

    pub(crate) fn writes(&self, waker: &Waker) {
        keep(&mut self.lock().writer, waker);
    }

    pub(crate) fn drives(&self, waker: &Waker) {
        keep(&mut self.lock().driver, waker);
    }

    pub(crate) fn wake_reader(&self) {
        wake(self.lock().reader.take());
    }

    pub(crate) fn wake_writer(&self) {
        wake(self.lock().writer.take());
    }

    /// Makes the driver look.
    pub(crate) fn wake_driver(&self) {
        self.raised.store(true, Ordering::Release);
        wake(self.lock().driver.take());
    }

    fn lock(&self) -> MutexGuard<'_, Wakers> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raised.store(true, Ordering::Release);
        let wakers = std::mem::take(&mut *self.lock());
        wake(wakers.reader);
        wake(wakers.writer);
        wake(wakers.driver);
    }
}

fn keep(place: &mut Option<Waker>, waker: &Waker) {
    match place {
        Some(kept) => kept.clone_from(waker),
        None => *place = Some(waker.clone()),
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

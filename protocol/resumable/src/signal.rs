//! Who is woken when an attachment can move.
//!
//! The application's task is, since it moves bytes without a detour. The driver is there in case the
//! application does something else: it is woken at once if nobody waits for anything, and for what
//! comes first after a while; otherwise it looks [from time to time](Pace) while there is something
//! to move: woken for each packet, it would find nothing to do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use crate::core::News;

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Signal(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Something may have changed since somebody looked.
    raised: bool,
    /// How the driver looks.
    pace: Pace,
    reader: Option<Waker>,
    writer: Option<Waker>,
    driver: Option<Waker>,
}

/// When the driver looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Pace {
    /// Once it is woken.
    #[default]
    Woken,
    /// By itself, a little later: nobody need wake it. Whether there was a reason to since it
    /// looked last.
    Ticking(bool),
}

impl State {
    /// Something is to be looked at. Whom to wake for that if nobody else is.
    fn raise(&mut self) -> Option<Waker> {
        self.raised = true;
        match &mut self.pace {
            Pace::Woken => self.driver.take(),
            Pace::Ticking(reason) => {
                *reason = true;
                None
            }
        }
    }
}

impl Signal {
    /// Whether anything may have changed since the last time. Whoever takes this must look.
    pub(crate) fn take(&self) -> bool {
        std::mem::take(&mut self.lock().raised)
    }

    pub(crate) fn reads(&self, waker: &Waker) {
        keep(&mut self.lock().reader, waker);
    }

    pub(crate) fn writes(&self, waker: &Waker) {
        keep(&mut self.lock().writer, waker);
    }

    /// The application is gone: nobody waits any longer.
    pub(crate) fn leave_alone(&self) {
        let mut state = self.lock();
        let gone = (state.reader.take(), state.writer.take());
        drop(state);
        // Whoever drops a waker may drop what it wakes.
        drop(gone);
    }

    /// The driver waits. Whether anything may have changed, and how it looks.
    pub(crate) fn drives(&self, waker: &Waker) -> (bool, Pace) {
        let mut state = self.lock();
        keep(&mut state.driver, waker);
        (state.raised, state.pace)
    }

    pub(crate) fn set_pace(&self, pace: Pace) {
        self.lock().pace = pace;
    }

    /// Wakes whom it concerns; the driver is to look now.
    pub(crate) fn tell(&self, news: News) {
        let (reader, writer, driver) = {
            let mut state = self.lock();
            state.raised |= news.earlier;
            (
                state.reader.take_if(|_| news.readable),
                state.writer.take_if(|_| news.writable),
                state.driver.take_if(|_| news.earlier),
            )
        };
        wake(reader);
        wake(writer);
        wake(driver);
    }

    /// Something is left for whoever looks next: mostly the application, at once.
    pub(crate) fn leave(&self) {
        let driver = self.lock().raise();
        wake(driver);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let (reader, writer, driver) = {
            let mut state = self.lock();
            let (reader, writer) = (state.reader.take(), state.writer.take());
            let driver = state.raise();
            let nobody = reader.is_none() && writer.is_none();
            let driver = driver.or_else(|| state.driver.take_if(|_| nobody));
            (reader, writer, driver)
        };
        wake(reader);
        wake(writer);
        wake(driver);
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

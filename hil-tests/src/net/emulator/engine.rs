//! The thread that moves packets between TUN devices, as the [`Core`] says.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::core::{Core, Exit, Interface};
use super::trace::Trace;
use super::tun::Tun;

/// Packets read from one device before the others get their turn.
const BATCH: usize = 64;
/// As long as an IP packet can be.
const LONGEST: usize = 65_535;

/// The ends that packets come from and go to.
pub(super) struct Ends {
    pub(super) world: Tun,
    pub(super) wlan: Tun,
    pub(super) wwan: Tun,
}

/// A running thread, which ends with this.
pub(super) struct Engine {
    shared: Arc<Shared>,
    wake: UnixStream,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    epoch: Instant,
}

struct State {
    core: Core,
    trace: Option<Trace>,
    stop: bool,
}

impl Engine {
    pub(super) fn start(core: Core, ends: Ends) -> Result<Self> {
        let state = State {
            core,
            trace: None,
            stop: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            epoch: Instant::now(),
        });
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("emulator".into());
        let thread = thread.spawn(move || for_thread.run(&ends, &woken))?;
        Ok(Self {
            shared,
            wake,
            thread: Some(thread),
        })
    }

    /// Looks at or changes something, which counts from now on.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Core, Duration) -> T) -> T {
        let now = self.shared.epoch.elapsed();
        let seen = look(&mut self.shared.state().core, now);
        self.wake();
        seen
    }

    /// Writes down what passes from now on.
    pub(super) fn trace(&self, trace: Option<Trace>) {
        self.shared.state().trace = trace;
    }

    fn wake(&self) {
        // A full pipe wakes as well.
        (&self.wake).write_all(&[0]).ok();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.state().stop = true;
        self.wake();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, ends: &Ends, woken: &UnixStream) {
        let mut sources = vec![
            (Some(Interface::Wlan), &ends.wlan),
            (Some(Interface::Wwan), &ends.wwan),
            (None, &ends.world),
        ];
        let mut buffer = vec![0; LONGEST];
        loop {
            let mut state = self.state();
            if state.stop {
                return;
            }
            self.write_out(&mut state, ends);
            let due = state.core.poll_timeout();
            drop(state);
            let wait = due.map(|due| due.saturating_sub(self.epoch.elapsed()));
            let ready = wait_for(&sources, woken, wait);
            if ready.last() == Some(&true) {
                while (&*woken).read(&mut buffer).is_ok_and(|length| length > 0) {}
            }
            let mut number = 0;
            sources.retain(|(from, tun)| {
                let readable = ready.get(number) == Some(&true);
                number += 1;
                !readable || self.read_in(*from, tun, &mut buffer).is_ok()
            });
        }
    }

    /// Fails if the device is gone.
    fn read_in(&self, from: Option<Interface>, tun: &Tun, buffer: &mut [u8]) -> Result<()> {
        let mut state = self.state();
        for _ in 0..BATCH {
            let Some(packet) = tun.read(buffer)? else {
                return Ok(());
            };
            let now = self.epoch.elapsed();
            match from {
                Some(interface) => {
                    state.note(&packet, now);
                    state.core.handle_device(interface, packet, now);
                }
                None => state.core.handle_world(packet, now),
            }
        }
        Ok(())
    }

    fn write_out(&self, state: &mut State, ends: &Ends) {
        let now = self.epoch.elapsed();
        while let Some((exit, packet)) = state.core.poll_transmit(now) {
            match exit {
                Exit::World => ends.world.write(&packet),
                Exit::Device(interface) => {
                    state.note(&packet, now);
                    ends.device(interface).write(&packet);
                }
            }
        }
    }
}

impl State {
    fn note(&mut self, packet: &[u8], now: Duration) {
        if let Some(trace) = &mut self.trace {
            trace.add(packet, now);
        }
    }
}

impl Ends {
    fn device(&self, interface: Interface) -> &Tun {
        match interface {
            Interface::Wlan => &self.wlan,
            Interface::Wwan => &self.wwan,
        }
    }
}

/// Which of the sources can be read, and last, whether somebody woke us.
fn wait_for(
    sources: &[(Option<Interface>, &Tun)],
    woken: &UnixStream,
    wait: Option<Duration>,
) -> Vec<bool> {
    let tuns = sources.iter().map(|(_, tun)| tun.as_fd());
    let fds = tuns.chain([woken.as_fd()]);
    let mut fds: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    // Interrupted or not: whoever is ready is looked at.
    ppoll(&mut fds, wait.map(TimeSpec::from_duration), None).ok();
    fds.iter().map(|fd| fd.any().unwrap_or(false)).collect()
}

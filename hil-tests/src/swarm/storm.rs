//! A storm: a whole fleet looks for its cluster at once. How long until all are back, and whether
//! anybody is served meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::{Dialled, Dialler, Swarm, Tally};

/// Between two dials: often enough to see a gap, rarely enough not to be the load.
const PAUSE: Duration = Duration::from_millis(100);

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Storm {
    /// Agents that were to come back.
    pub agents: usize,
    /// Whether all of them were up in the end.
    pub all_back: bool,
    /// What was counted.
    pub tally: Tally,
    /// Dials to the agent that was back first, from then on.
    pub dials: Vec<Dialled>,
}

impl Storm {
    /// Lets `begin` bring trouble over a swarm, and waits until all agents are back, or for
    /// `limit`. Whoever is given dials meanwhile.
    ///
    /// # Errors
    /// If `begin` fails.
    pub fn watch<T>(
        swarm: &Swarm,
        dialler: Option<&Dialler>,
        limit: Duration,
        begin: impl FnOnce() -> Result<T>,
    ) -> Result<(Self, T)> {
        swarm.begin_count();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let dials = dialler.map(|d| scope.spawn(|| dial_until(&over, d, swarm)));
            let begun = begin();
            let agents = swarm.len();
            let back = |tally: &Tally| tally.welcomed.len() == agents && tally.up == agents;
            let all_back = begun.is_ok() && swarm.wait(limit, back);
            over.store(true, Ordering::Relaxed);
            let dials = dials.map(|thread| thread.join().map_err(|_| anyhow!("a dial panicked")));
            let storm = Self {
                agents,
                all_back,
                tally: swarm.tally(),
                dials: dials.transpose()?.unwrap_or_default(),
            };
            Ok((storm, begun?))
        })
    }

    /// Times of the dials that were served, shortest first.
    #[must_use]
    pub fn served(&self) -> Vec<Duration> {
        let mut served: Vec<_> = self.dials.iter().flatten().copied().collect();
        served.sort();
        served
    }

    /// Why the others were not.
    #[must_use]
    pub fn not_served(&self) -> Vec<&str> {
        let failed = self.dials.iter().filter_map(|dial| dial.as_ref().err());
        failed.map(String::as_str).collect()
    }
}

fn dial_until(over: &AtomicBool, dialler: &Dialler, swarm: &Swarm) -> Vec<Dialled> {
    let mut dials = Vec::new();
    while !over.load(Ordering::Relaxed) {
        if let Some(number) = swarm.first_back() {
            dials.push(dialler.dial(&Swarm::name(number)));
        }
        thread::sleep(PAUSE);
    }
    dials
}

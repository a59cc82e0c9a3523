//! What was measured, as a table and as JSON.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::bulk::Loaded;
use crate::bench::median;
use ::cross::shell::say;

/// Times of both sides, in seconds.
#[derive(Default)]
pub(super) struct Times {
    ours: Vec<f64>,
    peer: Vec<f64>,
    /// What a side counts with that was not back.
    patience: f64,
}

impl Times {
    /// Adds a run.
    pub(super) fn add(
        &mut self,
        ours: Option<Duration>,
        peer: Option<Duration>,
        patience: Duration,
    ) {
        self.patience = patience.as_secs_f64();
        for (times, time) in [(&mut self.ours, ours), (&mut self.peer, peer)] {
            times.push(time.unwrap_or(patience).as_secs_f64());
        }
    }
}

struct Figure {
    name: String,
    unit: &'static str,
    ours: f64,
    peer: f64,
    /// No side was waited for any longer.
    limit: f64,
}

/// All figures, in the order in which they were measured.
#[derive(Default)]
pub(super) struct Figures(Vec<Figure>);

impl Figures {
    pub(super) fn add(&mut self, name: &str, unit: &'static str, ours: f64, peer: f64) {
        self.push(name, unit, (ours, peer), f64::INFINITY);
    }

    fn push(&mut self, name: &str, unit: &'static str, (ours, peer): (f64, f64), limit: f64) {
        self.0.push(Figure {
            name: name.into(),
            unit,
            ours,
            peer,
            limit,
        });
    }

    pub(super) fn times(&mut self, name: &str, times: Times) {
        let worst = |times: &[f64]| times.iter().copied().fold(0.0, f64::max);
        let (ours, peer) = (worst(&times.ours), worst(&times.peer));
        let medians = (median(times.ours), median(times.peer));
        self.push(&format!("{name}, median"), "s", medians, times.patience);
        self.push(&format!("{name}, worst"), "s", (ours, peer), times.patience);
    }

    pub(super) fn loaded(&mut self, name: &str, control: &str, ours: &Loaded, peer: &Loaded) {
        let name = |what| format!("{name}, {control}: {what}");
        self.add(&name("bulk"), "Mbit/s", ours.rate, peer.rate);
        for (what, share) in [("echo p50", 0.5), ("echo p99", 0.99)] {
            let (ours, peer) = (ours.quantile(share), peer.quantile(share));
            self.add(&name(what), "ms", ours, peer);
        }
    }

    pub(super) fn report(&self, json: Option<&Path>) -> Result<()> {
        let (ours, peer) = ("Tether", "autossh");
        say(&format!(
            "\n{:<48} {ours:>10} {peer:>10} {:>7}  unit",
            "", "ratio"
        ));
        for figure in &self.0 {
            let show = |value: f64| {
                let most = if value >= figure.limit { "> " } else { "" };
                format!("{most}{value:.1}")
            };
            say(&format!(
                "{:<48} {:>10} {:>10} {:>7.2}  {}",
                figure.name,
                show(figure.ours),
                show(figure.peer),
                figure.ours / figure.peer,
                figure.unit
            ));
        }
        let Some(path) = json else { return Ok(()) };
        let rows: Vec<_> = self.0.iter().map(Figure::json).collect();
        std::fs::write(path, serde_json::to_string_pretty(&rows)?)?;
        say(&format!("written to {}", path.display()));
        Ok(())
    }
}

impl Figure {
    fn json(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "unit": self.unit,
            "ours": self.ours,
            "peer": self.peer,
            "ratio": self.ours / self.peer,
            "ours_gave_up": self.ours >= self.limit,
            "peer_gave_up": self.peer >= self.limit,
        })
    }
}

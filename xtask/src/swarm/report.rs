//! What a swarm has shown, for people and for programs.

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use hil_tests::swarm::{Storm, share};
use serde_json::{Value, json};

use ::cross::shell::say;

/// How to print.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
    /// For both
    Yaml,
}

/// All figures.
pub(super) struct Report {
    pub(super) joined: Duration,
    pub(super) first: Storm,
    pub(super) restart: Option<Restart>,
    pub(super) memory: Option<Memory>,
}

/// A storm after a restart.
pub(super) struct Restart {
    pub(super) storm: Storm,
    /// Until the old process was gone.
    pub(super) gone: Duration,
    /// Until the new one listened.
    pub(super) ready: Duration,
}

/// Memory of the cluster's process, in KiB of PSS.
pub(super) struct Memory {
    pub(super) agents: usize,
    pub(super) empty: f64,
    pub(super) idle: Option<f64>,
    pub(super) after_restart: Option<f64>,
}

impl Memory {
    pub(super) const fn new(empty: f64, agents: usize) -> Self {
        Self {
            agents,
            empty,
            idle: None,
            after_restart: None,
        }
    }

    fn each(&self, whole: Option<f64>) -> Option<f64> {
        whole.map(|whole| tenths((whole - self.empty) / self.agents as f64))
    }

    fn value(&self) -> Value {
        json!({
            "empty_kib": self.empty,
            "idle_kib": self.idle,
            "per_agent_kib": self.each(self.idle),
            "after_restart_kib": self.after_restart,
            "per_agent_after_restart_kib": self.each(self.after_restart),
        })
    }
}

impl Report {
    pub(super) fn all_back(&self) -> bool {
        let restarted = self.restart.as_ref().is_none_or(|r| r.storm.all_back);
        self.first.all_back && restarted
    }

    pub(super) fn print(&self, format: Format) -> Result<()> {
        let value = self.value();
        match format {
            Format::Text => say(self.text(&value).trim_end()),
            Format::Json => say(&serde_json::to_string_pretty(&value)?),
            Format::Yaml => say(serde_norway::to_string(&value)?.trim_end()),
        }
        Ok(())
    }

    fn value(&self) -> Value {
        let restart = self.restart.as_ref().map(|restart| {
            let mut value = storm(&restart.storm);
            if let Some(fields) = value.as_object_mut() {
                fields.insert("gone_s".into(), seconds(Some(restart.gone)));
                fields.insert("ready_s".into(), seconds(Some(restart.ready)));
            }
            value
        });
        json!({
            "agents": self.first.agents,
            "joined_s": seconds(Some(self.joined)),
            "first_links": storm(&self.first),
            "restart": restart,
            "memory": self.memory.as_ref().map(Memory::value),
        })
    }

    fn text(&self, value: &Value) -> String {
        let mut out = format!(
            "{} agents, joined in {} s\n",
            value["agents"], value["joined_s"]
        );
        out += &section("first links", &value["first_links"]);
        if self.restart.is_some() {
            out += &section("after the restart", &value["restart"]);
        }
        if self.memory.is_some() {
            out += &section("memory of the cluster", &value["memory"]);
        }
        out
    }
}

/// One line for each figure, groups on a line of their own.
fn section(title: &str, value: &Value) -> String {
    let mut out = format!("\n{title}\n");
    for (name, value) in value.as_object().into_iter().flatten() {
        let shown = match value {
            Value::Null => continue,
            Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| format!("{}: {value}", words(name)))
                .collect::<Vec<_>>()
                .join(", "),
            other => other.to_string(),
        };
        let shown = if shown.is_empty() { "none" } else { &shown };
        out += &format!("  {:<28} {shown}\n", words(name));
    }
    out
}

fn words(name: &str) -> String {
    name.replace('_', " ")
}

fn storm(storm: &Storm) -> Value {
    let tally = &storm.tally;
    let until = |percent| seconds(tally.until(percent, storm.agents));
    json!({
        "back": tally.welcomed.len(),
        "all_back": storm.all_back,
        "back_after_s": { "50%": until(50), "90%": until(90), "99%": until(99), "100%": until(100) },
        "welcomed_per_second": tally.rate().map(f64::round),
        "connections_begun": tally.attempts,
        "turned_away": tally.turned_away,
        "refused": tally.refused,
        "losses": tally.losses,
        "dials": dials(storm),
    })
}

fn dials(storm: &Storm) -> Value {
    let served = storm.served();
    let millis = |percent| share(&served, percent).map(|d| d.as_secs_f64() * 1000.0);
    let mut reasons = storm.not_served();
    reasons.dedup();
    json!({
        "asked": storm.dials.len(),
        "served": served.len(),
        "median_ms": millis(50).map(tenths),
        "p95_ms": millis(95).map(tenths),
        "longest_ms": millis(100).map(tenths),
        "not_served": reasons,
    })
}

fn seconds(duration: Option<Duration>) -> Value {
    duration.map_or(Value::Null, |d| {
        ((d.as_secs_f64() * 100.0).round() / 100.0).into()
    })
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

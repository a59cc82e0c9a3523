//! What an agent weighs, what it weighed before, and whether it still may.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::target::{self, Size, Target};

/// Crates named when a budget is exceeded.
const NAMED: usize = 8;

/// The measure of one agent. The recorded one of each target is in `targets/sizes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The target's name.
    pub target: String,
    /// What it was built with.
    pub compiler: String,
    /// Bytes as flashed.
    pub stripped: u64,
    /// Bytes by `xz -9e`.
    pub xz: u64,
    /// Bytes of code and data by crate.
    pub crates: BTreeMap<String, u64>,
}

impl Report {
    /// The recorded report of a target, if there is one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn recorded(target: &Target) -> Result<Option<Self>> {
        let place = place(target);
        match std::fs::read_to_string(&place) {
            Ok(text) => {
                let report = toml::from_str(&text).with_context(|| place.display().to_string())?;
                Ok(Some(report))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| place.display().to_string()),
        }
    }

    /// Makes this the recorded report.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn record(&self, target: &Target) -> Result<()> {
        let place = place(target);
        std::fs::create_dir_all(place.parent().context("no folder")?)?;
        let text = toml::to_string(self)?;
        std::fs::write(&place, text).with_context(|| place.display().to_string())
    }

    /// Refuses an agent over its budget, and names what grew since `recorded`.
    ///
    /// # Errors
    /// By how much it is over, and the crates that grew.
    pub fn judge(&self, target: &Target, recorded: Option<&Self>) -> Result<()> {
        let budget = target.budget;
        let mut over = String::new();
        for (what, size, budget) in [
            ("stripped", self.stripped, budget.stripped),
            ("by xz", self.xz, budget.xz),
        ] {
            if size > budget.bytes() {
                let excess = size - budget.bytes();
                let size = Size::new(size);
                let _ = write!(over, "\n  {what}: {size}, {excess} bytes over its {budget}");
            }
        }
        if over.is_empty() {
            return Ok(());
        }
        bail!(
            "the agent for {} is over its budget{over}\n{}",
            target.name,
            self.growth(recorded)
        )
    }

    fn growth(&self, recorded: Option<&Self>) -> String {
        let Some(recorded) = recorded else {
            return "  there is no recorded report to compare with".into();
        };
        let mut grown: Vec<_> = self
            .crates
            .iter()
            .map(|(name, &size)| {
                (
                    size.saturating_sub(*recorded.crates.get(name).unwrap_or(&0)),
                    name,
                )
            })
            .filter(|(by, _)| *by > 0)
            .collect();
        grown.sort_by(|a, b| b.cmp(a));
        if grown.is_empty() {
            return "  no crate grew since the recorded report".into();
        }
        let mut text = String::from("  grown since the recorded report:");
        for (by, name) in grown.iter().take(NAMED) {
            let _ = write!(text, "\n    {name}: +{by} bytes");
        }
        text
    }

    /// The largest crates, one a line.
    #[must_use]
    pub fn largest(&self, count: usize) -> String {
        let mut crates: Vec<_> = self
            .crates
            .iter()
            .map(|(name, size)| (size, name))
            .collect();
        crates.sort_by(|a, b| b.cmp(a));
        let counted: u64 = self.crates.values().sum();
        let mut text = String::new();
        for (size, name) in crates.iter().take(count) {
            let _ = writeln!(text, "{:>10}  {name}", Size::new(**size).to_string());
        }
        let rest = self.stripped.saturating_sub(counted);
        let _ = write!(
            text,
            "{:>10}  (no symbol: constants, tables)",
            Size::new(rest).to_string()
        );
        text
    }
}

/// The sizes of every target as a Markdown table, for people.
///
/// # Errors
/// If a target or report cannot be read.
pub fn table() -> Result<String> {
    let mut table = String::from("| target | for | stripped | xz |\n| --- | --- | --- | --- |\n");
    for target in target::all()? {
        let (stripped, xz) = match Report::recorded(&target)? {
            Some(report) => (
                Size::new(report.stripped).to_string(),
                Size::new(report.xz).to_string(),
            ),
            None => ("not measured".into(), "".into()),
        };
        let (name, summary) = (&target.name, &target.summary);
        let _ = writeln!(table, "| `{name}` | {summary} | {stripped} | {xz} |");
    }
    Ok(table)
}

fn place(target: &Target) -> PathBuf {
    target::folder()
        .join("sizes")
        .join(format!("{}.toml", target.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(stripped: &str, xz: &str) -> Target {
        let text = format!(
            "triple = 't'\nsummary = ''\ndevices = []\n\
             [budget]\nstripped = '{stripped}'\nxz = '{xz}'\n[emulator]\ncommand = []"
        );
        toml::from_str(&text).expect("a target")
    }

    fn report(crates: &[(&str, u64)]) -> Report {
        let crates = crates.iter().map(|&(name, size)| (name.to_owned(), size));
        Report {
            target: "t".into(),
            compiler: "rustc".into(),
            stripped: 2048,
            xz: 1024,
            crates: crates.collect(),
        }
    }

    #[test]
    fn an_agent_within_its_budget_passes() {
        let report = report(&[]);
        assert!(report.judge(&target("2 KiB", "1 KiB"), None).is_ok());
    }

    #[test]
    fn a_budget_exceeded_names_the_crates_that_grew() {
        let before = report(&[("russh", 500), ("tokio", 300), ("std", 100)]);
        let now = report(&[("russh", 900), ("tokio", 200), ("std", 101), ("regex", 50)]);
        let text = now.judge(&target("1 KiB", "1 KiB"), Some(&before));
        let text = format!("{:#}", text.expect_err("over"));
        assert!(
            text.contains("stripped: 2 KiB, 1024 bytes over its 1 KiB"),
            "{text}"
        );
        assert!(!text.contains("by xz"), "{text}");
        let grown = "russh: +400 bytes\n    regex: +50 bytes\n    std: +1 bytes";
        assert!(text.ends_with(grown), "{text}");
    }

    #[test]
    fn a_compressed_budget_counts_too() {
        let over = report(&[]).judge(&target("2 KiB", "0.5 KiB"), None);
        let text = format!("{:#}", over.expect_err("over"));
        assert!(text.contains("by xz: 1 KiB, 512 bytes over"), "{text}");
        assert!(text.contains("no recorded report"), "{text}");
    }

    #[test]
    fn the_largest_come_first() {
        let text = report(&[("a", 100), ("b", 1024), ("c", 200)]).largest(2);
        let names: Vec<_> = text.lines().map(|line| line.split("  ").last()).collect();
        assert_eq!(names[..2], [Some("b"), Some("c")], "{text}");
        assert!(text.contains("1 KiB  (no symbol"), "{text}");
    }
}

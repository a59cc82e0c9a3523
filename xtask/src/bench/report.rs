//! What was measured, what must hold, and whether it does; as tables and as JSON.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use super::median;
use ::cross::shell::say;

/// What did not come at all took so long.
pub(super) const NEVER: f64 = f64::INFINITY;

/// What must hold for our side.
#[derive(Clone, Copy)]
pub(super) enum Limit {
    None,
    AtLeast(f64),
    AtMost(f64),
    /// In relation to the other side.
    TimesAtLeast(f64),
    TimesAtMost(f64),
    /// No whole one more than the other side.
    NoneExtra,
}

impl Limit {
    fn holds(self, ours: f64, other: Option<f64>) -> Option<bool> {
        let other = other.unwrap_or(f64::NAN);
        Some(match self {
            Self::None => return None,
            Self::AtLeast(least) => ours >= least,
            Self::AtMost(most) => ours <= most,
            Self::TimesAtLeast(least) => ours / other >= least,
            Self::TimesAtMost(most) => ours / other <= most,
            Self::NoneExtra => ours - other < 0.5,
        })
    }

    fn text(self) -> String {
        match self {
            Self::None => String::new(),
            Self::AtLeast(least) => format!(">= {least}"),
            Self::AtMost(most) => format!("<= {most}"),
            Self::TimesAtLeast(least) => format!(">= {least} x"),
            Self::TimesAtMost(most) => format!("<= {most} x"),
            Self::NoneExtra => "none extra".into(),
        }
    }
}

struct Figure {
    name: String,
    unit: &'static str,
    ours: f64,
    other: Option<f64>,
    limit: Limit,
    /// Each run, of both sides.
    runs: [Vec<f64>; 2],
}

/// Figures of two sides.
pub(super) struct Table {
    other: &'static str,
    figures: Vec<Figure>,
}

impl Table {
    /// Beside a side of this name.
    pub(super) fn beside(other: &'static str) -> Self {
        Self {
            other,
            figures: Vec::new(),
        }
    }

    /// Adds the medians of both sides' runs.
    pub(super) fn medians(
        &mut self,
        name: &str,
        unit: &'static str,
        runs: (&[f64], &[f64]),
        limit: Limit,
    ) {
        self.add(name, unit, runs, |runs| median(runs.to_vec()), limit);
    }

    /// Adds the largest of both sides' runs.
    pub(super) fn worst(
        &mut self,
        name: &str,
        unit: &'static str,
        runs: (&[f64], &[f64]),
        limit: Limit,
    ) {
        let worst = |runs: &[f64]| runs.iter().copied().fold(0.0, f64::max);
        self.add(name, unit, runs, worst, limit);
    }

    /// Adds what `of` makes of both sides' runs.
    pub(super) fn add(
        &mut self,
        name: &str,
        unit: &'static str,
        (ours, other): (&[f64], &[f64]),
        of: impl Fn(&[f64]) -> f64,
        limit: Limit,
    ) {
        self.figures.push(Figure {
            name: name.into(),
            unit,
            ours: of(ours),
            other: (!other.is_empty()).then(|| of(other)),
            limit,
            runs: [ours.to_vec(), other.to_vec()],
        });
    }

    fn print(&self) {
        say(&format!(
            "\n{:<58} {:>9} {:>13} {:>6}  {:<7} {:<11} holds",
            "", "Tether", self.other, "ratio", "unit", "limit"
        ));
        for figure in &self.figures {
            say(&figure.line());
        }
    }
}

impl Figure {
    fn ratio(&self) -> Option<f64> {
        let other = self.other.filter(|other| other.is_finite());
        let ratio = self.ours / other?;
        ratio.is_finite().then_some(ratio)
    }

    fn holds(&self) -> Option<bool> {
        self.limit.holds(self.ours, self.other)
    }

    fn line(&self) -> String {
        let digits = if self.ours < 100.0 { 2 } else { 1 };
        let show = |value: Option<f64>, digits: usize| match value {
            None => "-".into(),
            Some(NEVER) => "never".into(),
            Some(value) => format!("{value:.digits$}"),
        };
        let holds = match self.holds() {
            None => "",
            Some(true) => "yes",
            Some(false) => "NO",
        };
        let line = format!(
            "{:<58} {:>9} {:>13} {:>6}  {:<7} {:<11} {holds}",
            self.name,
            show(Some(self.ours), digits),
            show(self.other, digits),
            show(self.ratio(), 3),
            self.unit,
            self.limit.text(),
        );
        line.trim_end().to_owned()
    }

    /// What never came is `null`.
    fn json(&self, other: &str) -> Value {
        let [ours, others] = &self.runs;
        json!({
            "name": self.name,
            "unit": self.unit,
            "beside": other,
            "ours": self.ours,
            "other": self.other,
            "ratio": self.ratio(),
            "limit": self.limit.text(),
            "holds": self.holds(),
            "our_runs": ours,
            "other_runs": others,
        })
    }
}

/// All tables, in the order in which they were measured.
pub(super) struct Report {
    json: Option<PathBuf>,
    rows: Vec<Value>,
}

impl Report {
    pub(super) fn new(json: Option<&Path>) -> Self {
        Self {
            json: json.map(Path::to_owned),
            rows: Vec::new(),
        }
    }

    /// Prints a table, and keeps it: a run is long, and something may end it.
    pub(super) fn add(&mut self, table: Table) -> Result<()> {
        if table.figures.is_empty() {
            return Ok(());
        }
        table.print();
        let rows = table.figures.iter().map(|figure| figure.json(table.other));
        self.rows.extend(rows);
        match &self.json {
            Some(path) => Ok(std::fs::write(
                path,
                serde_json::to_string_pretty(&self.rows)?,
            )?),
            None => Ok(()),
        }
    }

    /// Says where it is, and what did not hold.
    pub(super) fn write(&self) -> Result<()> {
        let failed = self
            .rows
            .iter()
            .filter(|row| row.get("holds") == Some(&Value::Bool(false)));
        match failed.count() {
            0 => say("\nevery limit holds"),
            count => say(&format!("\n{count} limits do not hold")),
        }
        if let Some(path) = &self.json {
            say(&format!("written to {}", path.display()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_or_does_not() {
        for (limit, ours, other, holds) in [
            (Limit::AtLeast(100.0), 100.0, None, Some(true)),
            (Limit::AtLeast(100.0), 99.0, Some(0.0), Some(false)),
            (Limit::AtMost(0.3), 0.3, Some(NEVER), Some(true)),
            (Limit::AtMost(0.3), NEVER, Some(NEVER), Some(false)),
            (Limit::TimesAtLeast(0.97), 98.0, Some(100.0), Some(true)),
            (Limit::TimesAtLeast(0.97), 96.0, Some(100.0), Some(false)),
            (Limit::TimesAtMost(1.05), 1.06, Some(1.0), Some(false)),
            (Limit::TimesAtMost(1.05), 1.0, None, Some(false)),
            (Limit::NoneExtra, 6.1, Some(5.9), Some(true)),
            (Limit::NoneExtra, 6.9, Some(5.9), Some(false)),
            (Limit::None, 1.0, Some(2.0), None),
        ] {
            assert_eq!(limit.holds(ours, other), holds, "{}", limit.text());
        }
    }

    #[test]
    fn what_never_came_has_no_ratio() {
        let mut table = Table::beside("peer");
        let both = (&[1.0, 2.0][..], &[NEVER, 3.0][..]);
        table.worst("echo", "s", both, Limit::AtMost(2.0));
        let line = table.figures[0].line();
        for part in ["2.00", "never", "-", "<= 2", "yes"] {
            assert!(line.contains(part), "{line}");
        }
        let row = table.figures[0].json("peer");
        assert_eq!(row["other_runs"], json!([null, 3.0]));
        assert_eq!((&row["other"], &row["holds"]), (&Value::Null, &json!(true)));
    }
}

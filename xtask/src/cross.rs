//! `cargo xtask cross`: the agent for the boards in `targets/`.

use ::cross::agent;
use ::cross::build::build;
use ::cross::report::{self, Report};
use ::cross::shell::{root, say};
use ::cross::target::{self, Size, Target};
use ::cross::toolchain::Toolchain;
use ::cross::tools::{Tool, packages};
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde_json::json;

/// Crates shown by `--bloat`.
const SHOWN: usize = 20;
/// README's table stands between these.
const TABLE: (&str, &str) = ("<!-- sizes -->\n", "<!-- /sizes -->");

const TOOLS: &[Tool<'_>] = &[("xz", "xz-utils", "sizes are shown compressed, too")];

/// What to build.
#[derive(Args)]
pub(crate) struct Options {
    /// Names of files in targets/, or Rust triples
    targets: Vec<String>,
    /// Every target
    #[arg(long, conflicts_with = "targets")]
    all: bool,
    /// Show the largest crates
    #[arg(long)]
    bloat: bool,
    /// Make these sizes the recorded ones, in targets/sizes and README.md
    #[arg(long)]
    record: bool,
    /// Install nothing; fail if something is missing
    #[arg(long)]
    no_install: bool,
    /// Only list the targets
    #[arg(long, conflicts_with_all = ["targets", "all", "bloat", "record"])]
    list: bool,
    /// How to list
    #[arg(long, value_enum, default_value_t = Format::Text, requires = "list")]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
    Yaml,
}

/// Runs `cargo xtask cross`.
///
/// # Errors
/// If a target is unknown, does not build, or is over its budget.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.list {
        return list(options.format);
    }
    let targets = if options.all {
        target::all()?
    } else {
        let find = |name: &String| target::find(name);
        options
            .targets
            .iter()
            .map(find)
            .collect::<Result<Vec<_>>>()?
    };
    ensure!(
        !targets.is_empty(),
        "name a target, or --all; `cargo xtask cross --list` shows them"
    );
    let reports = build_all(&targets, !options.no_install)?;
    if options.bloat {
        for report in &reports {
            say(&format!("\n{}:\n{}", report.target, report.largest(SHOWN)));
        }
    }
    if options.record {
        for (target, report) in targets.iter().zip(&reports) {
            report.record(target)?;
        }
        update_readme()?;
    }
    judge(&targets, &reports)
}

/// Builds the targets that the test run emulates or boots, and holds them to their budget.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_tested(all: bool, install: bool) -> Result<()> {
    let mut targets = target::all()?;
    targets.retain(|target| {
        let booted = target.board.as_ref().is_some_and(|board| board.always);
        all || target.emulator.always || booted
    });
    build_named(&targets, install)
}

/// Builds these targets, and holds them to their budget.
///
/// # Errors
/// As [`run`].
pub(crate) fn build_named(targets: &[Target], install: bool) -> Result<()> {
    let reports = build_all(targets, install)?;
    judge(targets, &reports)
}

fn build_all(targets: &[Target], install: bool) -> Result<Vec<Report>> {
    packages(TOOLS, install)?;
    let toolchain = Toolchain::ready(install)?;
    say(&format!("compiler: {}", toolchain.rust().version));
    let mut reports = Vec::new();
    for (number, target) in targets.iter().enumerate() {
        let (name, total) = (&target.name, targets.len());
        say(&format!("\n== {name} ({} of {total})", number + 1));
        let report = build(&toolchain, target).with_context(|| name.clone())?;
        say(&format!(
            "{name}: static, {} stripped, {} by xz: {}",
            Size::new(report.stripped),
            Size::new(report.xz),
            agent::place(target).display()
        ));
        reports.push(report);
    }
    Ok(reports)
}

fn judge(targets: &[Target], reports: &[Report]) -> Result<()> {
    let over: Vec<_> = targets
        .iter()
        .zip(reports)
        .map(|(target, report)| report.judge(target, Report::recorded(target)?.as_ref()))
        .filter_map(Result::err)
        .map(|error| format!("{error:#}"))
        .collect();
    ensure!(over.is_empty(), "{}", over.join("\n"));
    Ok(())
}

fn list(format: Format) -> Result<()> {
    let targets = target::all()?;
    if let Format::Text = format {
        for target in targets {
            let (name, triple, summary) = (&target.name, &target.triple, &target.summary);
            say(&format!("{name:<9} {triple:<32} {summary}"));
        }
        return Ok(());
    }
    let row = |target: &Target| {
        json!({
            "name": target.name,
            "triple": target.triple,
            "summary": target.summary,
            "devices": target.devices,
            "budget": {
                "stripped": target.budget.stripped.bytes(),
                "xz": target.budget.xz.bytes(),
            },
        })
    };
    let rows: Vec<_> = targets.iter().map(row).collect();
    say(match format {
        Format::Yaml => serde_norway::to_string(&rows)?,
        _ => serde_json::to_string_pretty(&rows)?,
    }
    .trim_end());
    Ok(())
}

/// Whether README shows the recorded sizes.
///
/// # Errors
/// If it does not, or cannot be read.
pub(crate) fn check_readme() -> Result<()> {
    let text = std::fs::read_to_string(root()?.join("README.md"))?;
    ensure!(
        with_table(&text)? == text,
        "README.md does not show the recorded sizes; `cargo xtask cross --all --record` writes them"
    );
    Ok(())
}

fn update_readme() -> Result<()> {
    let path = root()?.join("README.md");
    let text = std::fs::read_to_string(&path)?;
    Ok(std::fs::write(&path, with_table(&text)?)?)
}

fn with_table(text: &str) -> Result<String> {
    let marks = || format!("README.md has no {:?} and {:?}", TABLE.0, TABLE.1);
    let (before, rest) = text.split_once(TABLE.0).with_context(marks)?;
    let (_, after) = rest.split_once(TABLE.1).with_context(marks)?;
    Ok(format!(
        "{before}{}{}{}{after}",
        TABLE.0,
        report::table()?,
        TABLE.1
    ))
}

//! `cargo xtask test`: everything that must hold before a change is kept.

use anyhow::Result;

use crate::shell::{cargo, check, say};
use crate::tools;

/// Installs what is missing and runs format, lints, dependency checks and all tests.
///
/// # Errors
/// At the first step that fails.
pub(crate) fn run(install: bool) -> Result<()> {
    tools::packages(tools::TEST, install)?;
    tools::cargo_tools(install)?;
    let steps: &[(&str, &[&str])] = &[
        ("format", &["fmt", "--all", "--check"]),
        (
            "lints",
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--",
                "-D",
                "warnings",
            ],
        ),
        (
            "dependencies",
            &["deny", "--offline", "check", "bans", "licenses", "sources"],
        ),
        ("programs", &["build", "--workspace", "--locked"]),
        (
            "tests",
            &[
                "nextest",
                "run",
                "--workspace",
                "--locked",
                "--no-fail-fast",
            ],
        ),
    ];
    for (what, args) in steps {
        say(&format!("\n== {what}"));
        check(&mut cargo(args)?)?;
    }
    say("\nall checks passed");
    Ok(())
}

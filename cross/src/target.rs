//! A target: one file in `targets/`, named as the target is.

pub mod board;
mod size;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

pub use board::Board;
pub use size::Size;

/// What a target's file says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The file's name without its ending.
    #[serde(skip)]
    pub name: String,
    /// Rust's name of it.
    pub triple: String,
    /// What kind of device has such a CPU, in a few words.
    pub summary: String,
    /// Devices known to have it.
    pub devices: Vec<String>,
    /// More flags for rustc, above all the CPU.
    #[serde(default)]
    pub rustflags: Vec<String>,
    /// The agent's cargo features, apart from those it always has.
    #[serde(default)]
    pub features: Vec<String>,
    /// What the agent may weigh.
    pub budget: Budget,
    /// How a Linux machine of another kind runs its programs.
    pub emulator: Emulator,
    /// An emulated machine with a kernel.
    pub board: Option<Board>,
}

/// What the agent may weigh on a target; more fails the build.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// As flashed.
    pub stripped: Size,
    /// As in a package or an update, by `xz -9e`.
    pub xz: Size,
}

/// User-mode emulation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emulator {
    /// The program and its arguments; empty if this machine runs the target itself.
    pub command: Vec<String>,
    /// Lines for the agent's configuration, where the emulator is not as good as a kernel.
    #[serde(default)]
    pub agent_config: String,
    /// Whether the ordinary test run includes it, or only `--all`.
    #[serde(default)]
    pub always: bool,
}

/// The folder `targets/` of the checkout.
#[must_use]
pub fn folder() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).join("targets")
}

/// Every target, by name.
///
/// # Errors
/// If a file cannot be read or says something unknown.
pub fn all() -> Result<Vec<Target>> {
    read_all(&folder())
}

/// One target.
///
/// # Errors
/// If there is none of this name, with those there are; or its file is wrong.
pub fn find(name: &str) -> Result<Target> {
    let all = all()?;
    let names = all.iter().fold(String::new(), |mut names, target| {
        let _ = write!(names, " {}", target.name);
        names
    });
    all.into_iter()
        .find(|target| target.name == name || target.triple == name)
        .with_context(|| format!("there is no target {name}; there are:{names}"))
}

fn read_all(folder: &Path) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            targets.push(read(&path)?);
        }
    }
    if targets.is_empty() {
        bail!("{} has no target", folder.display());
    }
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(targets)
}

fn read(path: &Path) -> Result<Target> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| shown.to_string())?;
    let mut target: Target =
        toml::from_str(&text).with_context(|| format!("{shown} is not a target"))?;
    let name = path.file_stem().and_then(|name| name.to_str());
    target.name = name.with_context(|| shown.to_string())?.to_owned();
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        triple = "mipsel-unknown-linux-musl"
        summary = "routers"
        devices = ["a router"]
        [budget]
        stripped = "2.5 MiB"
        xz = "750 KiB"
        [emulator]
        command = ["qemu-mipsel-static"]
    "#;

    fn parse(text: &str) -> Result<Vec<Target>> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("router.toml"), text)?;
        read_all(dir.path())
    }

    fn complaint(text: &str) -> String {
        format!("{:#}", parse(text).expect_err("this is not a target"))
    }

    #[test]
    fn a_target_is_named_as_its_file() -> Result<()> {
        let targets = parse(GOOD)?;
        assert_eq!(targets.len(), 1);
        assert_eq!(targets[0].name, "router");
        assert_eq!(targets[0].budget.stripped.bytes(), 2_621_440);
        Ok(())
    }

    #[test]
    fn an_unknown_key_is_named_with_its_file_and_line() {
        let text = complaint(&GOOD.replace("summary", "sumary"));
        assert!(text.contains("router.toml"), "{text}");
        assert!(text.contains("unknown field `sumary`"), "{text}");
        assert!(text.contains("line 3"), "{text}");
    }

    #[test]
    fn a_missing_budget_is_named() {
        let text = complaint(&GOOD.replace("xz = \"750 KiB\"", ""));
        assert!(text.contains("missing field `xz`"), "{text}");
        let (before, after) = GOOD.split_once("[budget]").expect("it has one");
        let (_, after) = after.split_once("[emulator]").expect("it has one");
        let text = complaint(&format!("{before}[emulator]{after}"));
        assert!(text.contains("missing field `budget`"), "{text}");
    }

    #[test]
    fn an_empty_folder_is_no_list() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(read_all(dir.path()).is_err());
    }

    #[test]
    fn the_targets_of_this_checkout_are_in_order() -> Result<()> {
        let all = all()?;
        assert!(all.len() >= 8);
        assert!(find("mips")?.triple.starts_with("mips-"));
        let unknown = format!("{:#}", find("z80").expect_err("there is none"));
        assert!(unknown.contains("mipsel"), "{unknown}");
        Ok(())
    }
}

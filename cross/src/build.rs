//! One target from source to a measured, stripped agent.

mod claim;

use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::report::Report;
use crate::shell::{check, root};
use crate::target::Target;
use crate::toolchain::Toolchain;
use crate::{agent, cache, elf};
use claim::Claim;

/// Flags for every target. A panic stops at once and without a message: its text, the tables to
/// unwind the stack and those to format every type are a quarter of the agent. Addresses are static,
/// since on MIPS every call of position-independent code goes through a table.
const RUSTFLAGS: &[&str] = &[
    "-Zunstable-options",
    "-Cpanic=immediate-abort",
    "-Cforce-unwind-tables=no",
    "-Zlocation-detail=none",
    "-Zfmt-debug=shallow",
    "-Crelocation-model=static",
    // Hashes and ciphers as loops: unrolled for each round they are 60 KiB, and no faster where
    // they do not fit the instruction cache. Bulk data goes through ring, which has its own.
    "--cfg=sha2_backend_soft=\"compact\"",
    "--cfg=aes_backend_soft=\"compact\"",
    "-Clink-self-contained=no",
    "-Clink-arg=-Wl,--gc-sections",
    // zig brings the libraries of the target; that rustc has none is not worth a warning.
    "-Alinker-messages",
];

/// What stands before the compiler, and what that goes by.
const LEAN: &[&str] = &[
    include_str!("../lean-rustc"),
    include_str!("../lean/quinn-proto.sed"),
    include_str!("../lean/russh.sed"),
    include_str!("../lean/rustls.sed"),
    include_str!("../lean/ssh-key.sed"),
    include_str!("../lean/toml-span.sed"),
];

/// Builds, checks, strips and measures the agent of one target.
///
/// # Errors
/// If the build fails or the result is not static. A budget is the caller's to judge.
pub fn build(toolchain: &Toolchain, target: &Target) -> Result<Report> {
    let cache = cache::dir("build")?;
    let outputs = cache.join(&target.triple).join("small");
    let claim = Claim::new(&cache, &outputs, &root()?)?;
    compile(toolchain, target, &cache)?;
    let linked = outputs.join("tether-agent");
    let bytes = fs::read(&linked).with_context(|| linked.display().to_string())?;
    drop(claim);
    elf::check_static(&bytes).with_context(|| linked.display().to_string())?;
    let place = agent::place(target);
    fs::create_dir_all(place.parent().context("no folder")?)?;
    fs::write(&place, elf::strip(&bytes)?).with_context(|| place.display().to_string())?;
    executable(&place)?;
    Ok(Report {
        target: target.name.clone(),
        compiler: toolchain.rust().version.clone(),
        stripped: fs::metadata(&place)?.len(),
        xz: compressed(&place)?,
        crates: elf::by_crate(&bytes)?,
    })
}

fn compile(toolchain: &Toolchain, target: &Target, cache: &Path) -> Result<()> {
    let flags = RUSTFLAGS.iter().copied().map(str::to_owned);
    let flags = flags.chain([lean_version()]);
    let flags: Vec<_> = flags.chain(target.rustflags.iter().cloned()).collect();
    let mut command = toolchain.zigbuild()?;
    command
        .current_dir(root()?)
        .args([
            "--locked",
            "--profile",
            "small",
            "--package",
            "tether-agent",
        ])
        .args(["--target", &target.triple])
        .args([
            "-Zbuild-std=std,panic_abort",
            "-Zbuild-std-features=optimize_for_size",
        ])
        .env("CARGO_TARGET_DIR", cache)
        .env("RUSTC_WRAPPER", root()?.join("cross/lean-rustc"))
        // The symbols say which crate weighs what; they are stripped after that.
        .env("CARGO_PROFILE_SMALL_STRIP", "none")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    if !target.features.is_empty() {
        command.args(["--features", &target.features.join(",")]);
    }
    check(&mut command)
}

/// A setting that nobody asks for: when it changes, cargo builds again what it has built with another
/// `lean-rustc`.
fn lean_version() -> String {
    let mut hasher = DefaultHasher::new();
    LEAN.hash(&mut hasher);
    format!("--cfg=lean_rustc=\"{:016x}\"", hasher.finish())
}

fn executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o755),
    )?)
}

/// Its size as a package or an update has it.
fn compressed(path: &Path) -> Result<u64> {
    let mut xz = Command::new("xz");
    let args: [OsString; 3] = ["-9e".into(), "--stdout".into(), path.into()];
    let output = xz.args(args).output().context("xz (package xz-utils)")?;
    anyhow::ensure!(output.status.success(), "xz: {}", output.status);
    Ok(output.stdout.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn the_compiler_is_told_everything_but_the_tables() {
        let told = Command::new(root().unwrap().join("cross/lean-rustc"))
            .args(["printf", "%s\n", "--crate-name", "p521", "--cfg"])
            .args([r#"feature="precomputed-tables""#, "--cfg", "a b 'c'", ""])
            .output()
            .unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        let told: Vec<_> = told.lines().collect();
        let expected = [
            "--crate-name",
            "p521",
            "--cfg",
            r#"feature="no-precomputed-tables""#,
            "--cfg",
            "a b 'c'",
            "",
        ];
        assert_eq!(told, expected);
    }

    /// ssh-key as cargo unpacks it, with its `signature.rs`.
    fn unpacked(dir: &Path, signature: &str) -> PathBuf {
        let source = dir.join("ssh-key-0.7.0/src");
        fs::create_dir_all(&source).unwrap();
        fs::write(source.join("lib.rs"), "mod all;").unwrap();
        fs::write(source.join("signature.rs"), signature).unwrap();
        source.join("lib.rs")
    }

    #[test]
    fn the_compiler_is_given_a_copy_without_what_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let text = "one\n        Self::Ecdsa(pk) => pk.verify(),\ntwo\n";
        let crate_root = unpacked(dir.path(), text);
        let lean = || {
            let mut command = Command::new(root().unwrap().join("cross/lean-rustc"));
            command
                .args(["printf", "%s\n", "--crate-name", "ssh_key"])
                .arg(&crate_root)
                .arg("--out-dir")
                .arg(dir.path());
            command.output().unwrap()
        };
        let told = lean();
        assert!(told.status.success(), "{told:?}");
        let told = String::from_utf8(told.stdout).unwrap();
        let copy = Path::new(told.lines().nth(2).unwrap());
        assert_ne!(copy, crate_root);
        assert_eq!(fs::read_to_string(copy).unwrap(), "mod all;");
        let copied = fs::read_to_string(copy.with_file_name("signature.rs")).unwrap();
        assert_eq!(copied, "one\ntwo\n");

        let changed = "its authors have written it anew";
        unpacked(dir.path(), changed);
        let told = lean();
        assert!(!told.status.success());
        let said = String::from_utf8(told.stderr).unwrap();
        assert!(said.contains("signature.rs has nothing of it"), "{said}");
    }

    #[test]
    fn nothing_listens_to_traces() {
        let told = Command::new(root().unwrap().join("cross/lean-rustc"))
            .args(["printf", "%s\n", "/registry/tracing-0.1.44/src/lib.rs"])
            .output()
            .unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        assert!(
            told.ends_with("--cfg\nfeature=\"max_level_off\"\n"),
            "{told}"
        );
    }
}

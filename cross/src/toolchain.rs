//! What a cross build needs: a Rust compiler with the source of its standard library, and zig as
//! C compiler and linker. A bare machine gets both from here.

mod rust;
mod zig;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

pub use rust::{Rust, nightly};

/// A toolchain that is there.
#[derive(Debug)]
pub struct Toolchain {
    rust: Rust,
    zig: PathBuf,
}

impl Toolchain {
    /// Finds the toolchain; what is missing is installed if `install` says so.
    ///
    /// # Errors
    /// If something cannot be had: what was tried, and what to install by hand.
    pub fn ready(install: bool) -> Result<Self> {
        Ok(Self {
            rust: rust::ready(install)?,
            zig: zig::ready(install)?,
        })
    }

    /// The compiler.
    #[must_use]
    pub fn rust(&self) -> &Rust {
        &self.rust
    }

    /// `cargo zigbuild` with this toolchain, in an environment without settings of other builds.
    ///
    /// # Errors
    /// If `PATH` cannot be extended.
    pub fn zigbuild(&self) -> Result<Command> {
        let mut command = Command::new(self.zig.join("cargo-zigbuild"));
        for (name, _) in std::env::vars_os() {
            if is_of_another_build(&name) {
                command.env_remove(name);
            }
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(self.zig.clone()).chain(std::env::split_paths(&path));
        command
            .arg("zigbuild")
            .env("PATH", std::env::join_paths(path).context("PATH")?)
            .env("RUSTC", &self.rust.rustc)
            .env("CARGO", &self.rust.cargo);
        if self.rust.stable {
            // Building the standard library asks for it; the pair of compiler and source matches.
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        Ok(command)
    }
}

/// `cargo xtask` itself runs under cargo, which tells its children about the host's build.
fn is_of_another_build(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    let kept = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR"];
    let others = [
        "CARGO",
        "RUSTC",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "RUST_RECURSION_COUNT",
    ];
    others.iter().any(|start| name.starts_with(start))
        && !kept.iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_hosts_build_do_not_reach_the_cross_build() {
        for name in [
            "CARGO",
            "CARGO_MANIFEST_DIR",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "RUSTC_WRAPPER",
        ] {
            assert!(is_of_another_build(&name.into()), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "CARGO_HTTP_CAINFO",
            "PATH",
            "HOME",
            "RUSTUP_HOME",
        ] {
            assert!(!is_of_another_build(&name.into()), "{name}");
        }
    }
}

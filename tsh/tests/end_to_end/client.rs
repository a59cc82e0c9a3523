//! `tsh` as a user runs it, with a profile directory of its own.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use crate::cluster::Cluster;

pub(crate) struct User {
    pub(crate) home: TempDir,
    pub(crate) proxy: String,
    pub(crate) pin: String,
}

impl User {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            proxy: cluster.address.to_string(),
            pin: cluster.pin.clone(),
        }
    }

    /// A user who has logged in.
    pub(crate) fn logged_in(cluster: &Cluster) -> Self {
        let user = Self::of(cluster);
        let done = user.login("correct horse", &["--ca-pin", &user.pin]);
        assert!(done.status.success(), "{done:?}");
        user
    }

    pub(crate) fn login(&self, password: &str, more: &[&str]) -> Output {
        let mut args = vec!["login", "--proxy", &self.proxy, "--user", "ann"];
        args.extend(["--password-file", "-"]);
        args.extend(more);
        self.run_with(&args, password.as_bytes())
    }

    /// The command, without a terminal and without the environment of whoever runs the test.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tsh"));
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TSH_HOME", self.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub(crate) fn run_with(&self, args: &[&str], input: &[u8]) -> Output {
        let mut child: Child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().unwrap();
        let _ = writer.join().unwrap();
        output
    }

    /// The directory of the proxy.
    pub(crate) fn entry(&self) -> std::path::PathBuf {
        self.home
            .path()
            .join("keys")
            .join(self.proxy.replace(':', "_"))
    }

    pub(crate) fn file(&self, path: impl AsRef<Path>) -> String {
        std::fs::read_to_string(self.entry().join(path)).unwrap()
    }
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

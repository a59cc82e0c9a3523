//! The agent's program on disk, which may be a newer one by now, and how this process becomes it.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::unistd::execve;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::{ANSWER, QUESTION, VARIABLE};

/// A check reads a few files; a slow board needs a second to load the program.
const CHECK_LIMIT: Duration = Duration::from_secs(20);
/// What is read of its complaint, and of its answer.
const MAX_SAID: u64 = 2048;

/// How this process was started.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// To be called at the start: later the file may be another one, or gone.
    pub(crate) fn of_this_process() -> Self {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_default();
        Self {
            path: path(&name, std::env::current_exe().ok()),
            arguments: arguments.collect(),
        }
    }

    /// Whether the program would start now and take over: that it is there and runs here, that
    /// configuration and state are fine, and that it knows what is handed to it.
    ///
    /// # Errors
    /// What to tell the operator.
    pub(crate) async fn check(&self) -> Result<(), String> {
        let shown = self.path.display();
        let cannot = |error| format!("{shown} cannot be run: {error}");
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).arg("--check");
        command.env(VARIABLE, QUESTION);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(cannot)?;
        let (mut complaint, mut answer) = (Vec::new(), Vec::new());
        let (stderr, stdout) = (child.stderr.take(), child.stdout.take());
        let ended = async {
            // Neither fills its pipe while the other is read.
            if let (Some(stderr), Some(stdout)) = (stderr, stdout) {
                stderr.take(MAX_SAID).read_to_end(&mut complaint).await?;
                stdout.take(MAX_SAID).read_to_end(&mut answer).await?;
            }
            child.wait().await
        };
        match timeout(CHECK_LIMIT, ended).await {
            Ok(Ok(status)) if status.success() => {
                let answer = String::from_utf8_lossy(&answer);
                let takes_over = answer.lines().any(|line| line == ANSWER);
                takes_over.then_some(()).ok_or_else(|| {
                    format!("{shown} cannot take over, it is too old for that; stop the agent and start it")
                })
            }
            Ok(Ok(status)) => {
                let said = String::from_utf8_lossy(&complaint);
                Err(format!(
                    "{shown} would not start ({status}): {}",
                    said.trim()
                ))
            }
            Ok(Err(error)) => Err(cannot(error)),
            Err(_) => Err(format!("{shown} start --check does not end")),
        }
    }

    /// Goes on as the program, with a word for it. Only comes back if that fails.
    pub(super) fn become_it(&self, word: &str) -> io::Error {
        match self.exec(word) {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    /// Unlike that of the standard library, a failure changes nothing.
    fn exec(&self, word: &str) -> io::Result<Infallible> {
        let path = c_string(self.path.as_os_str())?;
        let mut arguments = vec![path.clone()];
        for argument in &self.arguments {
            arguments.push(c_string(argument)?);
        }
        let mut environment = Vec::new();
        for (name, value) in std::env::vars_os().filter(|(name, _)| *name != *VARIABLE) {
            environment.push(c_string(&joined(name, &value))?);
        }
        environment.push(c_string(&joined(VARIABLE.into(), OsStr::new(word)))?);
        execve(&path, &arguments, &environment).map_err(io::Error::from)
    }
}

fn joined(mut name: OsString, value: &OsStr) -> OsString {
    name.push("=");
    name.push(value);
    name
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes().to_vec())?)
}

/// A name with a folder is a path, and may be a link to the newest release. Another one was looked
/// up by a shell, and the kernel knows where it was.
fn path(name: &OsStr, known: Option<PathBuf>) -> PathBuf {
    let named = Path::new(name);
    if named.components().count() > 1
        && let Ok(path) = std::path::absolute(named)
    {
        return path;
    }
    known.unwrap_or_else(|| named.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(script: &str) -> (tempfile::TempDir, Program) {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let arguments = vec!["start".into()];
        (folder, Program { path, arguments })
    }

    #[tokio::test]
    async fn a_program_that_would_not_start_says_why() {
        let asked = r#"test "$* $TETHER_HANDOVER" = "start --check ?""#;
        let (_folder, program) = program(&format!("echo fine; {asked} && echo '{ANSWER}'"));
        assert_eq!(program.check().await, Ok(()));
        let (_folder, program) = self::program("echo fine");
        let error = program.check().await.unwrap_err();
        assert!(error.contains("stop the agent and start it"), "{error}");
        let (folder, program) = self::program("echo agent.toml:3: unknown key >&2; exit 2");
        let error = program.check().await.unwrap_err();
        assert!(
            error.ends_with("(exit status: 2): agent.toml:3: unknown key"),
            "{error}"
        );
        drop(folder);
        let error = program.check().await.unwrap_err();
        assert!(error.contains("cannot be run"), "{error}");
        assert!(program.become_it("x").to_string().contains("No such file"));
    }

    #[test]
    fn links_are_followed_anew_and_names_from_a_shell_are_known() {
        let known = Some(PathBuf::from("/usr/sbin/tether-agent"));
        let of = |name: &str| path(OsStr::new(name), known.clone());
        assert_eq!(of("/opt/agent"), Path::new("/opt/agent"));
        assert!(of("./agent").is_absolute());
        assert_eq!(of("tether-agent"), Path::new("/usr/sbin/tether-agent"));
    }
}

//! OS users that only agents see.
//!
//! Everybody of this machine has `/bin/sh` and an empty home there, so that sessions do not depend
//! on the start-up files of whoever runs this; and there may be users more than this machine has.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::unistd::{User, chown};

/// Files that an agent finds as `/etc/passwd` and `/etc/group`.
#[derive(Debug, Clone)]
pub struct Accounts {
    dir: PathBuf,
}

impl Accounts {
    /// Those of this machine.
    pub(super) fn plain(dir: &Path) -> Result<Self> {
        let accounts = Self {
            dir: dir.to_owned(),
        };
        let home = dir.join("os-home");
        std::fs::create_dir_all(&home)?;
        let users = std::fs::read_to_string("/etc/passwd")?;
        let plain =
            users.lines().map(
                |line| match line.splitn(6, ':').collect::<Vec<_>>().get(..5) {
                    Some(fields) => format!("{}:{}:/bin/sh\n", fields.join(":"), home.display()),
                    None => format!("{line}\n"),
                },
            );
        std::fs::write(accounts.passwd(), plain.collect::<String>())?;
        std::fs::copy("/etc/group", accounts.group())?;
        // Whoever an agent becomes must get to its home.
        std::fs::set_permissions(dir, Permissions::from_mode(0o711))?;
        Ok(accounts)
    }

    /// Adds a user, with a group of the same name and number, a home that is returned, and further
    /// groups.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn add(&self, name: &str, id: u32, groups: &[(&str, u32)]) -> Result<PathBuf> {
        let home = self.dir.join(format!("os-home-{name}"));
        std::fs::create_dir_all(&home)?;
        chown(&home, Some(id.into()), Some(id.into()))?;
        let shown = home.display();
        append(
            &self.passwd(),
            &format!("{name}:x:{id}:{id}::{shown}:/bin/sh\n"),
        )?;
        append(&self.group(), &format!("{name}:x:{id}:\n"))?;
        for (group, gid) in groups {
            append(&self.group(), &format!("{group}:x:{gid}:{name}\n"))?;
        }
        Ok(home)
    }

    /// The words before a program and its arguments that show it these users, in a mount of its own
    /// that goes away with it; `user` is whom it then runs as, instead of root.
    #[must_use]
    pub fn before(&self, user: Option<&User>) -> Vec<OsString> {
        let become_user = user.map_or(String::new(), |user| {
            let (uid, gid) = (user.uid, user.gid);
            format!("setpriv --reuid={uid} --regid={gid} --clear-groups ")
        });
        let script = format!(
            "mount --bind \"$0\" /etc/passwd && mount --bind \"$1\" /etc/group && shift && \
             exec {become_user}\"$@\""
        );
        let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c"];
        let words = words.iter().map(OsString::from);
        let files = [self.passwd(), self.group()].map(PathBuf::into_os_string);
        words.chain([script.into()]).chain(files).collect()
    }

    fn passwd(&self) -> PathBuf {
        self.dir.join("passwd")
    }

    fn group(&self) -> PathBuf {
        self.dir.join("group")
    }
}

fn append(path: &Path, line: &str) -> Result<()> {
    let file = File::options().append(true).open(path);
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .with_context(|| path.display().to_string())
}

/// The OS user that this runs as, and so the agents it starts.
#[must_use]
pub fn me() -> String {
    let user = User::from_uid(nix::unistd::geteuid()).ok().flatten();
    user.map_or_else(|| "root".into(), |user| user.name)
}

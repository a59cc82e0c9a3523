//! OS users, as the C library finds them.

use std::ffi::CString;
use std::path::PathBuf;

use nix::unistd::{Gid, User, getgrouplist};

/// An OS user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// Login name.
    pub(crate) name: String,
    /// User id.
    pub(crate) uid: u32,
    /// Primary group.
    pub(crate) gid: u32,
    /// All groups.
    pub(crate) groups: Vec<Gid>,
    /// Home directory.
    pub(crate) home: PathBuf,
    /// Login shell.
    pub(crate) shell: PathBuf,
}

impl Account {
    /// Finds a user by name (getpwnam(3)).
    pub(crate) fn find(name: &str) -> Option<Self> {
        let user = User::from_name(name).ok().flatten()?;
        let groups = getgrouplist(&CString::new(name).ok()?, user.gid);
        // passwd(5): an empty shell means /bin/sh.
        let shell = if user.shell.as_os_str().is_empty() {
            "/bin/sh".into()
        } else {
            user.shell
        };
        Some(Self {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: groups.unwrap_or_else(|_| vec![user.gid]),
            home: user.dir,
            shell,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_and_nobody_else_by_that_name() {
        let root = Account::find("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(Account::find("no such user").is_none());
        assert!(Account::find("root\0").is_none());
    }
}

//! The environment of a session: a clean one, with what clients may add.

use std::ffi::OsString;

use super::Dial;
use crate::sys::Account;

/// Variables a client may set, as distributions let sshd accept them; a trailing `*` stands for
/// any ending.
const ALLOWED: &[&str] = &["LANG", "LC_*", "COLORTERM", "NO_COLOR", "TERM"];
/// Variables one session may set, and the largest value.
const MOST: usize = 32;
const LONGEST: usize = 4096;

/// Variables a client has set for one channel.
#[derive(Debug, Default)]
pub(super) struct Wished(Vec<(String, String)>);

impl Wished {
    /// Takes a variable, or says that it is not allowed.
    pub(super) fn set(&mut self, name: &str, value: &str) -> bool {
        let allowed = ALLOWED
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => name == *pattern,
            });
        let plain = |text: &str| text.len() <= LONGEST && !text.contains('\0');
        let fits =
            allowed && self.0.len() < MOST && plain(name) && !name.contains('=') && plain(value);
        if fits {
            self.0.push((name.to_owned(), value.to_owned()));
        }
        fits
    }
}

/// All variables of a program's environment.
pub(super) fn complete(
    account: &Account,
    dial: &Dial,
    wished: &Wished,
) -> Vec<(OsString, OsString)> {
    let path = if account.uid == 0 {
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    } else {
        "/usr/local/bin:/usr/bin:/bin"
    };
    let mut all: Vec<(OsString, OsString)> = vec![
        ("HOME".into(), account.home.clone().into()),
        ("USER".into(), account.name.clone().into()),
        ("LOGNAME".into(), account.name.clone().into()),
        ("SHELL".into(), account.shell.clone().into()),
        ("PATH".into(), path.into()),
        // As sshd(8): address and port of the client, then of the server, which has none here.
        (
            "SSH_CLIENT".into(),
            format!("{} 0", dial.client_addr).into(),
        ),
        (
            "SSH_CONNECTION".into(),
            format!("{} 127.0.0.1 0", dial.client_addr).into(),
        ),
        ("TETHER_USER".into(), dial.user.clone().into()),
        ("TETHER_SESSION_ID".into(), session_id(dial).into()),
    ];
    all.extend(
        wished
            .0
            .iter()
            .map(|(name, value)| (name.into(), value.into())),
    );
    all
}

fn session_id(dial: &Dial) -> String {
    dial.session_id
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_variables_on_the_list_are_taken() {
        let mut wished = Wished::default();
        assert!(wished.set("LANG", "de_DE.UTF-8") && wished.set("LC_TIME", "C"));
        for name in ["LD_PRELOAD", "PATH", "LANGUAGE", "IFS", "LC_X=Y", "LC_\0"] {
            assert!(!wished.set(name, "x"), "{name}");
        }
        assert!(!wished.set("LANG", &"x".repeat(LONGEST + 1)));
        for number in 0..100 {
            wished.set(&format!("LC_{number}"), "x");
        }
        assert_eq!(wished.0.len(), MOST);
    }
}

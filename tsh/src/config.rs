//! `tsh config`: a configuration that lets OpenSSH, and all that builds on it, reach the nodes.
//!
//! Nodes are `<node>.<cluster>` there. They are reached through `tsh proxy ssh`; with `ssh -J` and
//! the proxy's host, without it.

use std::path::Path;

use anyhow::{Context, Result};

use crate::cli::Global;
use crate::error::{Exit, fail};
use crate::login::chosen_proxy;
use crate::output;
use crate::profile::{Entry, Home, Profile};

/// `tsh config`
pub(crate) fn run(global: &Global) -> Result<()> {
    let home = Home::from_env()?;
    let proxy = chosen_proxy(&home, global)?;
    let entry = home.entry(&proxy);
    let profile = entry.profile()?.ok_or_else(|| {
        let sentence = format!("You are not logged in to {proxy}. Run: tsh login --proxy {proxy}");
        fail(Exit::LoggedOut, sentence)
    })?;
    let tsh = std::env::current_exe().context("Cannot tell where tsh is")?;
    let other_home = std::env::var_os("TSH_HOME").is_some();
    let config = Config {
        profile: &profile,
        entry: &entry,
        tsh: &tsh,
        home: other_home.then(|| home.path()),
    };
    output::result(&config.render());
    Ok(())
}

/// What goes into the configuration.
struct Config<'a> {
    profile: &'a Profile,
    entry: &'a Entry,
    tsh: &'a Path,
    /// The profile directory, unless it is the usual one.
    home: Option<&'a Path>,
}

impl Config<'_> {
    fn render(&self) -> String {
        let Profile {
            proxy,
            cluster,
            user,
            ..
        } = self.profile;
        let identity = self.identity();
        let command = self.command();
        let host = &proxy.host;
        let port = proxy.port;
        format!(
            "# The nodes of cluster {cluster}, for {user}. Written by `tsh config`.\n\
             \n\
             Host *.{cluster}\n\
             {identity}\
             \x20   ProxyCommand {command}\n\
             \n\
             # For ssh -J {host}\n\
             Host {host}\n\
             {identity}\
             \x20   Port {port}\n\
             \x20   User {user}"
        )
    }

    /// Who the user is, and whom to trust.
    fn identity(&self) -> String {
        let file = |name| quoted(&self.entry.path(name));
        format!(
            "    UserKnownHostsFile {}\n    \
                 GlobalKnownHostsFile /dev/null\n    \
                 StrictHostKeyChecking yes\n    \
                 IdentityFile {}\n    \
                 CertificateFile {}\n    \
                 IdentitiesOnly yes\n",
            file("known_hosts"),
            file("key"),
            file("key-cert.pub"),
        )
    }

    /// A line for the user's shell, after OpenSSH has replaced what starts with %.
    fn command(&self) -> String {
        let home = self.home.map_or_else(String::new, |home| {
            format!("env TSH_HOME={} ", shell_quoted(home))
        });
        let tsh = shell_quoted(self.tsh);
        format!(
            "{home}{tsh} proxy ssh --proxy {} %r@%h:%p",
            self.profile.proxy
        )
    }
}

/// A path as an argument in `ssh_config`, where % introduces tokens.
fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy().replace('%', "%%");
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
}

fn shell_quoted(path: &Path) -> String {
    let mut quoted = String::from("\"");
    for c in path.to_string_lossy().chars() {
        match c {
            '%' => quoted.push('%'),
            '"' | '\\' | '$' | '`' => quoted.push('\\'),
            _ => {}
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn render(home: Option<&str>, tsh: &str) -> String {
        let profile = Profile {
            proxy: "tether.example.com:443".parse().unwrap(),
            cluster: "lab".into(),
            user: "ann".into(),
            trust_serial: 1,
            session: None,
        };
        let dir = Home::at(PathBuf::from(home.unwrap_or("/home/ann/.tsh")));
        let config = Config {
            profile: &profile,
            entry: &dir.entry(&profile.proxy),
            tsh: Path::new(tsh),
            home: home.map(|_| dir.path()),
        };
        config.render()
    }

    #[test]
    fn nodes_are_reached_through_tsh_and_the_jump_host_is_known() {
        let identity =
            "    UserKnownHostsFile \"/home/ann/.tsh/keys/tether.example.com_443/known_hosts\"
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    IdentityFile \"/home/ann/.tsh/keys/tether.example.com_443/key\"
    CertificateFile \"/home/ann/.tsh/keys/tether.example.com_443/key-cert.pub\"
    IdentitiesOnly yes
";
        let expected = format!(
            "# The nodes of cluster lab, for ann. Written by `tsh config`.

Host *.lab
{identity}    ProxyCommand \"/usr/bin/tsh\" proxy ssh --proxy tether.example.com:443 %r@%h:%p

# For ssh -J tether.example.com
Host tether.example.com
{identity}    Port 443
    User ann"
        );
        assert_eq!(render(None, "/usr/bin/tsh"), expected);
    }

    #[test]
    fn another_profile_directory_is_passed_along() {
        let text = render(Some("/tmp/x y"), "/usr/bin/tsh");
        assert!(text.contains("ProxyCommand env TSH_HOME=\"/tmp/x y\" \"/usr/bin/tsh\" proxy"));
        assert!(text.contains("IdentityFile \"/tmp/x y/keys/"));
    }

    #[test]
    fn odd_paths_survive_openssh_and_the_shell() {
        let text = render(Some("/tmp/50%"), "/opt/a$b/\"tsh\"");
        assert!(
            text.contains(r#"TSH_HOME="/tmp/50%%" "/opt/a\$b/\"tsh\"" proxy"#),
            "{text}"
        );
        assert!(text.contains("IdentityFile \"/tmp/50%%/keys/"));
    }
}

//! What `tether start` is told: a file, outweighed by flags.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// Port that everything is served on unless told otherwise.
pub const DEFAULT_PORT: u16 = 3080;

/// The file's keys; all are optional, unknown ones are errors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Where the store, the audit log and the admin socket live.
    pub data_dir: Option<PathBuf>,
    /// The address agents and people use: `host` or `host:port`.
    pub public_addr: Option<String>,
    /// The address to listen on, TCP and UDP.
    pub listen_addr: Option<String>,
    /// The cluster's name; the host of the public address if absent.
    pub cluster_name: Option<String>,
    /// Where health and metrics are served; nowhere if absent.
    pub diag_addr: Option<String>,
    /// Certificate chain for browsers, PEM.
    pub public_cert: Option<PathBuf>,
    /// Its key, PEM.
    pub public_key: Option<PathBuf>,
}

/// A checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// See [`File::data_dir`].
    pub data_dir: PathBuf,
    /// Host part of the public address.
    pub public_host: String,
    /// Port part of the public address.
    pub public_port: u16,
    /// See [`File::listen_addr`].
    pub listen: SocketAddr,
    /// See [`File::cluster_name`].
    pub cluster_name: Option<String>,
    /// See [`File::diag_addr`].
    pub diag: Option<SocketAddr>,
    /// Public certificate chain and key.
    pub public_certificate: Option<(PathBuf, PathBuf)>,
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    /// File, line, key and what was expected.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Puts `self` over `other`.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        Self {
            data_dir: self.data_dir.or(other.data_dir),
            public_addr: self.public_addr.or(other.public_addr),
            listen_addr: self.listen_addr.or(other.listen_addr),
            cluster_name: self.cluster_name.or(other.cluster_name),
            diag_addr: self.diag_addr.or(other.diag_addr),
            public_cert: self.public_cert.or(other.public_cert),
            public_key: self.public_key.or(other.public_key),
        }
    }

    /// Checks everything.
    ///
    /// # Errors
    /// All that is wrong, a line each.
    pub fn check(self) -> Result<Config> {
        let mut wrong = Vec::new();
        let public = self.public_addr.as_deref().unwrap_or_default();
        let (public_host, public_port) = host_and_port(public).unwrap_or_else(|e| {
            wrong.push(format!("public_addr: {e}"));
            (String::new(), DEFAULT_PORT)
        });
        let listen = self
            .listen_addr
            .clone()
            .unwrap_or_else(|| format!("0.0.0.0:{public_port}"));
        let listen = address("listen_addr", Some(listen), &mut wrong);
        let diag = address("diag_addr", self.diag_addr, &mut wrong);
        if let Some(name) = &self.cluster_name
            && let Err(e) = check_cluster_name(name)
        {
            wrong.push(format!("cluster_name: {e}"));
        }
        let public_certificate = match (self.public_cert, self.public_key) {
            (Some(chain), Some(key)) => Some((chain, key)),
            (None, None) => None,
            _ => {
                wrong.push("public_cert and public_key: one needs the other".into());
                None
            }
        };
        match listen {
            Some(listen) if wrong.is_empty() => Ok(Config {
                data_dir: self.data_dir.unwrap_or_else(|| "/var/lib/tether".into()),
                public_host,
                public_port,
                listen,
                cluster_name: self.cluster_name,
                diag,
                public_certificate,
            }),
            _ => bail!("{}", wrong.join("\n")),
        }
    }
}

/// A cluster's name goes into host names, URIs and file names.
///
/// # Errors
/// A sentence that says what was expected.
pub fn check_cluster_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
    if name.is_empty()
        || name.len() > 63
        || name.starts_with(['.', '-'])
        || !name.chars().all(allowed)
    {
        return Err(format!(
            "{name:?} is no cluster name: expected 1 to 63 letters, digits, . or -"
        ));
    }
    Ok(())
}

fn address(key: &str, text: Option<String>, wrong: &mut Vec<String>) -> Option<SocketAddr> {
    let text = text?;
    match text.parse() {
        Ok(address) => Some(address),
        Err(_) => {
            wrong.push(format!(
                "{key}: {text:?} is no address: expected for example 0.0.0.0:3080"
            ));
            None
        }
    }
}

fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let expected = || format!("{text:?}: expected for example gw.example.net:3080");
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') => (host, port.parse().map_err(|_| expected())?),
        _ => (text, DEFAULT_PORT),
    };
    let host = host.trim_matches(['[', ']']);
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-:".contains(c);
    if host.is_empty() || !host.chars().all(plain) {
        return Err(expected());
    }
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_address_is_enough() {
        let file = File {
            public_addr: Some("gw.example.net".into()),
            ..File::default()
        };
        let config = file.check().unwrap();
        assert_eq!(
            (config.public_host.as_str(), config.public_port),
            ("gw.example.net", 3080)
        );
        assert_eq!(config.listen, "0.0.0.0:3080".parse().unwrap());
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let file = File {
            listen_addr: Some("nowhere".into()),
            diag_addr: Some("x:1:2".into()),
            cluster_name: Some("-".into()),
            public_key: Some("k".into()),
            ..File::default()
        };
        let text = file.check().unwrap_err().to_string();
        for key in [
            "public_addr:",
            "listen_addr:",
            "diag_addr:",
            "cluster_name:",
            "public_cert",
        ] {
            assert!(text.contains(key), "{key} in {text}");
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tether.toml");
        std::fs::write(&path, "public_addr = \"gw\"\nlisten = \":1\"\n").unwrap();
        let text = format!("{:#}", File::read(&path).unwrap_err());
        assert!(text.contains("line 2") && text.contains("listen"), "{text}");
    }
}

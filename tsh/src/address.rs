//! Where a proxy is: `host[:port]`, as users write it and as files are named after it.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};

/// The port a proxy listens on unless told otherwise.
pub(crate) const DEFAULT_PORT: u16 = 3080;

/// Host (without brackets, in lower case) and port of a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct ProxyAddr {
    /// Name or IP address.
    pub(crate) host: String,
    /// TCP and UDP port.
    pub(crate) port: u16,
}

/// A text that is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAnAddress;

impl fmt::Display for NotAnAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected HOST or HOST:PORT, such as tether.example.com:3080")
    }
}

impl std::error::Error for NotAnAddress {}

impl ProxyAddr {
    /// The host as TLS names it.
    pub(crate) fn server_name(&self) -> Result<ServerName<'static>, NotAnAddress> {
        ServerName::try_from(self.host.clone()).map_err(|_| NotAnAddress)
    }

    /// A file name for this proxy: host and port, with what file names dislike replaced.
    pub(crate) fn file_name(&self) -> String {
        format!("{}_{}", self.host.replace(':', "-"), self.port)
    }
}

impl FromStr for ProxyAddr {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        // People paste the address of the web page.
        let text = text.strip_prefix("https://").unwrap_or(text);
        let text = text.strip_suffix('/').unwrap_or(text);
        let (host, port) = split(text)?;
        let address = Self {
            host: host.to_ascii_lowercase(),
            port: port.map_or(Ok(DEFAULT_PORT), parse_port)?,
        };
        address.server_name()?;
        Ok(address)
    }
}

fn parse_port(text: &str) -> Result<u16, NotAnAddress> {
    match text.parse() {
        Ok(port @ 1..) => Ok(port),
        _ => Err(NotAnAddress),
    }
}

fn split(text: &str) -> Result<(&str, Option<&str>), NotAnAddress> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok((text, None));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(NotAnAddress)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(NotAnAddress),
        };
    }
    Ok(match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    })
}

impl fmt::Display for ProxyAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl TryFrom<String> for ProxyAddr {
    type Error = NotAnAddress;

    fn try_from(text: String) -> Result<Self, NotAnAddress> {
        text.parse()
    }
}

impl From<ProxyAddr> for String {
    fn from(address: ProxyAddr) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, shown) in [
            ("tether.example.com", "tether.example.com:3080"),
            ("Tether.Example.com:443", "tether.example.com:443"),
            ("https://tether.example.com:443/", "tether.example.com:443"),
            ("10.0.0.1:3080", "10.0.0.1:3080"),
            ("::1", "[::1]:3080"),
            ("[fe80::1]:443", "[fe80::1]:443"),
        ] {
            assert_eq!(text.parse::<ProxyAddr>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            ":3080",
            "a b",
            "host:",
            "host:0",
            "host:99999",
            "../etc",
            "[::1",
            "a/b",
        ] {
            assert!(text.parse::<ProxyAddr>().is_err(), "{text}");
        }
    }

    #[test]
    fn file_names_hold_no_separators() {
        let address: ProxyAddr = "[fe80::1]:443".parse().unwrap();
        assert_eq!(address.file_name(), "fe80--1_443");
    }
}

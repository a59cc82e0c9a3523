//! The cluster's address: `HOST:PORT`, where HOST is a name, an IPv4 or a bracketed IPv6 address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The port a cluster listens on unless told otherwise.
const DEFAULT_PORT: u16 = 3080;

/// Longest host name (RFC 1035 §2.3.4).
const MAX_HOST: usize = 253;

/// Where to find the cluster. The name is resolved anew for each connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    /// The address, if it is no name.
    pub(crate) fn literal(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

/// A text that is no address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoAddress;

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected HOST:PORT, for example tether.example.com:3080 or [2001:db8::1]:3080")
    }
}

impl std::error::Error for NoAddress {}

impl FromStr for Address {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        Self::with_default_port(text, DEFAULT_PORT)
    }
}

impl Address {
    /// Reads an address that may leave out the port.
    pub(crate) fn with_default_port(text: &str, default: u16) -> Result<Self, NoAddress> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => bracketed(rest, default)?,
            None => plain(text, default)?,
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

fn bracketed(rest: &str, default: u16) -> Result<(&str, u16), NoAddress> {
    let (host, tail) = rest.split_once(']').ok_or(NoAddress)?;
    host.parse::<std::net::Ipv6Addr>().map_err(|_| NoAddress)?;
    match tail.strip_prefix(':') {
        Some(digits) => Ok((host, port(digits)?)),
        None if tail.is_empty() => Ok((host, default)),
        None => Err(NoAddress),
    }
}

fn plain(text: &str, default: u16) -> Result<(&str, u16), NoAddress> {
    let (host, port) = match text.split_once(':') {
        Some((host, digits)) => (host, port(digits)?),
        None => (text, default),
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if host.is_empty() || host.len() > MAX_HOST || !host.chars().all(allowed) {
        return Err(NoAddress);
    }
    Ok((host, port))
}

fn port(digits: &str) -> Result<u16, NoAddress> {
    match digits.parse() {
        Ok(port @ 1..) if digits.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(NoAddress),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_what_they_write() {
        for text in [
            "lab.example.com:3080",
            "192.0.2.1:443",
            "[2001:db8::1]:3080",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_missing_port_is_the_default_one() {
        assert_eq!("lab".parse::<Address>().unwrap().to_string(), "lab:3080");
        assert_eq!(
            "[::1]".parse::<Address>().unwrap().to_string(),
            "[::1]:3080"
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            ":3080",
            "lab:",
            "lab:0",
            "lab:65536",
            "lab:+1",
            "::1",
            "[::1",
            "[lab]:1",
            "[::1]x",
            "https://lab",
            "a b:1",
        ] {
            assert_eq!(text.parse::<Address>(), Err(NoAddress), "{text}");
        }
    }
}

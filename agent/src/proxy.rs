//! The HTTP proxy on the way to the cluster, as the configuration or the environment name it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::address::Address;
use crate::settings::Env;

/// Port of an HTTP proxy whose address names none.
const DEFAULT_PORT: u16 = 80;
/// Environment variables that name a proxy, in order of precedence.
const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// A proxy that opens TCP connections for us (RFC 9110 §9.3.6).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct HttpProxy {
    pub(crate) address: Address,
    /// User name and password as RFC 7617 encodes them.
    authorization: Option<Zeroizing<String>>,
}

/// What is set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Setting {
    /// Nothing.
    #[default]
    Unset,
    /// No proxy, whatever the environment says.
    None,
    /// This one.
    Through(HttpProxy),
}

/// A text that names no proxy. It may hold a password, so it is not shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoProxy;

impl fmt::Display for NoProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected http://HOST:PORT, http://USER:PASSWORD@HOST:PORT, or none")
    }
}

impl std::error::Error for NoProxy {}

impl fmt::Debug for HttpProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            authorization,
        } = self;
        let secret = if authorization.is_some() { "***@" } else { "" };
        write!(f, "http://{secret}{address}")
    }
}

impl FromStr for Setting {
    type Err = NoProxy;

    fn from_str(text: &str) -> Result<Self, NoProxy> {
        match text {
            "none" => Ok(Self::None),
            _ => text.parse().map(Self::Through),
        }
    }
}

impl FromStr for HttpProxy {
    type Err = NoProxy;

    fn from_str(text: &str) -> Result<Self, NoProxy> {
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(NoProxy),
            None => text,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, host) = match rest.rsplit_once('@') {
            Some((credentials, host)) => (Some(credentials), host),
            None => (None, rest),
        };
        let address = Address::with_default_port(host, DEFAULT_PORT).map_err(|_| NoProxy)?;
        let authorization = credentials.map(encode).transpose()?;
        Ok(Self {
            address,
            authorization,
        })
    }
}

impl HttpProxy {
    /// What to show to the proxy, if it wants to see anything.
    pub(crate) fn authorization(&self) -> Option<&str> {
        self.authorization.as_ref().map(|encoded| encoded.as_str())
    }
}

/// The proxy on the way to a host: what the environment says, if the configuration says nothing.
pub(crate) fn settle(configured: &Setting, env: Env<'_>, host: &Address) -> Option<HttpProxy> {
    match configured {
        Setting::Unset => {}
        Setting::None => return None,
        Setting::Through(proxy) => return Some(proxy.clone()),
    }
    let get = |name: &&str| env(name).map(|text| text.to_string_lossy().into_owned());
    let (name, text) = VARIABLES.iter().find_map(|n| Some((n, get(n)?)))?;
    let except = ["NO_PROXY", "no_proxy"].iter().find_map(get);
    if is_excepted(host, &except.unwrap_or_default()) {
        return None;
    }
    text.parse()
        .inspect_err(|error: &NoProxy| log::warn!("{name}: {error}; going without"))
        .ok()
}

/// Whether `NO_PROXY` names a host: `*`, a name or a domain above it, an address, or a network.
fn is_excepted(host: &Address, list: &str) -> bool {
    list.split(',').map(str::trim).any(|entry| {
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, digits)) if !name.contains(':') || name.ends_with(']') => {
                (name, digits.parse().ok())
            }
            _ => (entry, None),
        };
        port.is_none_or(|port: u16| port == host.port) && covers(name, &host.host)
    })
}

fn covers(entry: &str, host: &str) -> bool {
    let entry = entry.trim_start_matches('[').trim_end_matches(']');
    if entry == "*" {
        return true;
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return match entry.split_once('/') {
            Some((network, bits)) => match (network.parse(), bits.parse()) {
                (Ok(network), Ok(bits)) => contains(network, bits, ip),
                _ => false,
            },
            None => entry.parse() == Ok(ip),
        };
    }
    let domain = entry.trim_start_matches("*.").trim_start_matches('.');
    let tail = host.len().checked_sub(domain.len());
    let Some((before, end)) = tail.and_then(|at| host.split_at_checked(at)) else {
        return false;
    };
    !domain.is_empty()
        && end.eq_ignore_ascii_case(domain)
        && (before.is_empty() || before.ends_with('.'))
}

/// Whether a network of so many bits has an address.
fn contains(network: IpAddr, bits: u32, ip: IpAddr) -> bool {
    let (network, ip, width) = match (network, ip) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u32::from(a).into(), u32::from(b).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a), u128::from(b), 128),
        _ => return false,
    };
    let ignored = width - bits.min(width);
    network.checked_shr(ignored) == ip.checked_shr(ignored)
}

/// `user:password`, both with `%` escapes, as `Proxy-Authorization` wants them.
fn encode(credentials: &str) -> Result<Zeroizing<String>, NoProxy> {
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let mut plain = unescape(user)?;
    plain.push(b':');
    plain.extend_from_slice(&unescape(password)?);
    Ok(Zeroizing::new(base64(&plain)))
}

fn unescape(text: &str) -> Result<Zeroizing<Vec<u8>>, NoProxy> {
    let mut plain = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit().ok_or(NoProxy)?, digit().ok_or(NoProxy)?);
                u8::try_from(high * 16 + low).map_err(|_| NoProxy)?
            }
            b'!'..=b'~' => byte,
            _ => return Err(NoProxy),
        });
    }
    Ok(plain)
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: u32| DIGITS.get((bits & 63) as usize).map_or('=', |&d| d.into());
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| chunk.get(at).map_or(0, |&b| u32::from(b));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        text.push(digit(bits >> 18));
        text.push(digit(bits >> 12));
        text.push(if chunk.len() > 1 {
            digit(bits >> 6)
        } else {
            '='
        });
        text.push(if chunk.len() > 2 { digit(bits) } else { '=' });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn parsed(text: &str) -> HttpProxy {
        text.parse().unwrap()
    }

    #[test]
    fn proxies_are_read_with_and_without_a_password() {
        let plain = parsed("http://proxy.example.com:3128");
        assert_eq!(plain.address.to_string(), "proxy.example.com:3128");
        assert_eq!(plain.authorization(), None);
        // The example of RFC 7617 §2.
        let with = parsed("HTTP://Aladdin:open%20sesame@192.0.2.1/");
        assert_eq!(with.address.to_string(), "192.0.2.1:80");
        assert_eq!(with.authorization(), Some("QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
        assert_eq!(parsed("u:p@ss@h:1").authorization(), Some("dTpwQHNz"));
        assert_eq!(parsed("u@h:1").authorization(), Some("dTo="));
        assert_eq!(parsed("[2001:db8::1]:8080").address.port, 8080);
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_a_word_about_its_password() {
        for text in [
            "",
            "socks5://h:1",
            "https://h:1",
            "http://",
            "http://u:secret%zz@h:1",
            "http://u:sec ret@h:1",
            "http://h:1/path",
        ] {
            let error = text.parse::<HttpProxy>().unwrap_err();
            assert!(!error.to_string().contains("sec"));
        }
        assert_eq!("none".parse(), Ok(Setting::None));
    }

    #[test]
    fn a_password_never_shows() {
        let setting: Setting = "http://user:s3cret@h:1".parse().unwrap();
        let shown = format!("{setting:?}");
        assert_eq!(shown, "Through(http://***@h:1)");
    }

    #[test]
    fn the_environment_names_a_proxy_and_exceptions() {
        let cluster: Address = "tether.example.com:3080".parse().unwrap();
        let settled = |vars: &[(&str, &str)]| {
            let env = |name: &str| {
                let found = vars.iter().find(|(n, _)| *n == name);
                found.map(|(_, text)| OsString::from(text))
            };
            settle(&Setting::Unset, &env, &cluster)
        };
        let through = |text: &str| Some(parsed(text));
        assert_eq!(settled(&[]), None);
        let vars = [("ALL_PROXY", "http://a:1"), ("https_proxy", "http://b:2")];
        assert_eq!(settled(&vars), through("http://b:2"));
        let vars = [("ALL_PROXY", "http://a:1"), ("NO_PROXY", "x, .example.com")];
        assert_eq!(settled(&vars), None);
        assert_eq!(settled(&[("ALL_PROXY", "socks5://a:1")]), None);
        let env = |_: &str| Some("http://b:2".into());
        assert_eq!(settle(&Setting::None, &env, &cluster), None);
        let configured = Setting::Through(parsed("http://c:3"));
        assert_eq!(settle(&configured, &env, &cluster), through("http://c:3"));
    }

    #[test]
    fn exceptions_name_hosts_domains_addresses_and_networks() {
        for (list, host, excepted) in [
            ("*", "h:1", true),
            ("", "h:1", false),
            ("example.com", "example.com:1", true),
            ("example.com", "a.EXAMPLE.com:1", true),
            ("*.example.com", "a.example.com:1", true),
            ("example.com", "badexample.com:1", false),
            ("example.com:443", "example.com:1", false),
            ("example.com:443", "example.com:443", true),
            ("192.0.2.1", "192.0.2.1:1", true),
            ("192.0.2.1", "192.0.2.10:1", false),
            ("192.0.2.0/24", "192.0.2.77:1", true),
            ("192.0.2.0/24", "192.0.3.77:1", false),
            ("0.0.0.0/0", "192.0.3.77:1", true),
            ("2001:db8::/32", "[2001:db8:7::1]:1", true),
            ("[2001:db8::1]", "[2001:db8::1]:1", true),
            ("2001:db8::/32", "192.0.2.1:1", false),
        ] {
            let host: Address = host.parse().unwrap();
            assert_eq!(is_excepted(&host, list), excepted, "{list} / {host}");
        }
    }
}

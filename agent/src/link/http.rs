//! The CONNECT method (RFC 9110 §9.3.6): asks an HTTP proxy for a connection to the cluster, and
//! says in plain words why there is none.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::fault;
use super::transport::{Fault, FaultKind};
use crate::address::Address;
use crate::proxy::HttpProxy;
use crate::text::plain;

/// The proxy resolves a name and connects; it may try several addresses.
const ANSWER_LIMIT: Duration = Duration::from_secs(8);
/// The longest header that is read.
const MAX_HEADER: usize = 8 * 1024;
/// What is shown of a proxy's own words.
const MAX_REASON: usize = 60;

/// Asks for a connection; what comes back is the cluster's.
pub(super) async fn ask(
    mut tcp: TcpStream,
    proxy: &HttpProxy,
    to: &Address,
) -> Result<TcpStream, Fault> {
    let asked = timeout(ANSWER_LIMIT, exchange(&mut tcp, proxy, to)).await;
    let header = asked.unwrap_or_else(|_| Err(refused("does not answer")))?;
    judge(&header, proxy)?;
    Ok(tcp)
}

async fn exchange(tcp: &mut TcpStream, proxy: &HttpProxy, to: &Address) -> Result<Vec<u8>, Fault> {
    let broken = |error| refused(&format!("breaks the connection: {}", fault::of_io(&error)));
    let request = request(proxy, to);
    tcp.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut header = Vec::new();
    // Byte by byte, since what follows the header is for somebody else.
    while !header.ends_with(b"\r\n\r\n") && !header.ends_with(b"\n\n") {
        if header.len() >= MAX_HEADER {
            return Err(refused("answers without an end"));
        }
        header.push(tcp.read_u8().await.map_err(broken)?);
    }
    Ok(header)
}

fn request(proxy: &HttpProxy, to: &Address) -> Zeroizing<String> {
    let mut request = Zeroizing::new(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n"));
    if let Some(authorization) = proxy.authorization() {
        request.push_str("Proxy-Authorization: Basic ");
        request.push_str(authorization);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    request
}

/// What the answer means.
fn judge(header: &[u8], proxy: &HttpProxy) -> Result<(), Fault> {
    let header = String::from_utf8_lossy(header);
    let mut lines = header.lines();
    let mut words = lines.next().unwrap_or_default().splitn(3, ' ');
    let version = words.next().unwrap_or_default();
    let code = words.next().and_then(|code| code.parse::<u16>().ok());
    let reason = plain(words.next().unwrap_or_default());
    let said = crate::text::cut(&reason, MAX_REASON);
    let (true, Some(code)) = (version.starts_with("HTTP/1."), code) else {
        return Err(refused("does not speak HTTP"));
    };
    let is_page = lines.any(|line| {
        let line = line.to_ascii_lowercase();
        line.starts_with("content-type:") && line.contains("html")
    });
    match code {
        200..=299 if is_page => Err(captive(code)),
        200..=299 => Ok(()),
        300..=399 | 511 => Err(captive(code)),
        407 if proxy.authorization().is_some() => Err(refused(
            "does not accept the user name and password that it was given (407)",
        )),
        407 => Err(refused(
            "asks for a user name and password (407); set them in the configuration: \
             proxy = \"http://USER:PASSWORD@HOST:PORT\"",
        )),
        403 | 405 => Err(refused(&format!(
            "does not allow connections to the cluster ({code} {said})"
        ))),
        502..=504 => Err(refused(&format!(
            "cannot reach the cluster ({code} {said})"
        ))),
        _ => Err(refused(&format!("refuses ({code} {said})"))),
    }
}

fn refused(what: &str) -> Fault {
    Fault::new(FaultKind::Unreachable, format!("the HTTP proxy {what}"))
}

fn captive(code: u16) -> Fault {
    Fault::new(
        FaultKind::Unreachable,
        format!(
            "what should be the HTTP proxy answers with a web page ({code}), as captive portals \
             do: somebody must log in to this network"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(text: &str) -> HttpProxy {
        text.parse().unwrap()
    }

    fn said(header: &str, proxy_text: &str) -> String {
        judge(header.as_bytes(), &proxy(proxy_text))
            .err()
            .map(|fault| fault.text)
            .unwrap_or_default()
    }

    #[test]
    fn the_cluster_is_asked_for_by_name() {
        let to = "tether.example.com:3080".parse().unwrap();
        let plain = request(&proxy("http://h:1"), &to);
        let lines = "CONNECT tether.example.com:3080 HTTP/1.1\r\nHost: tether.example.com:3080\r\n";
        assert_eq!(*plain, format!("{lines}\r\n"));
        let with = request(&proxy("http://u:p@h:1"), &to);
        let shown = "Proxy-Authorization: Basic dTpw\r\n";
        assert_eq!(*with, format!("{lines}{shown}\r\n"));
        let to = "[2001:db8::1]:443".parse().unwrap();
        assert!(request(&proxy("h:1"), &to).starts_with("CONNECT [2001:db8::1]:443 HTTP/1.1\r\n"));
    }

    #[test]
    fn every_refusal_has_its_sentence() {
        for (answer, sentence) in [
            ("HTTP/1.1 200 Connection established", ""),
            ("HTTP/1.0 200 OK", ""),
            (
                "HTTP/1.1 407 Proxy Authentication Required",
                "asks for a user name and password",
            ),
            (
                "HTTP/1.1 403 Forbidden",
                "does not allow connections to the cluster (403 Forbidden)",
            ),
            (
                "HTTP/1.1 502 Bad Gateway",
                "cannot reach the cluster (502 Bad Gateway)",
            ),
            ("HTTP/1.1 429", "refuses (429 )"),
            (
                "HTTP/1.1 302 Found",
                "captive portals do: somebody must log in",
            ),
            (
                "HTTP/1.1 511 Network Authentication Required",
                "captive portals",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Type: text/html",
                "answers with a web page (200)",
            ),
            ("SSH-2.0-x", "does not speak HTTP"),
            ("HTTP/2 200", "does not speak HTTP"),
            ("HTTP/1.1 2e2 x", "does not speak HTTP"),
        ] {
            let found = said(&format!("{answer}\r\n\r\n"), "h:1");
            assert_eq!(found.is_empty(), sentence.is_empty(), "{answer}: {found}");
            assert!(found.contains(sentence), "{answer}: {found}");
        }
        let found = said("HTTP/1.1 407 x\r\n\r\n", "u:s3cret@h:1");
        assert!(found.contains("does not accept the user name and password"));
        assert!(!found.contains("s3cret"));
        let long = format!("HTTP/1.1 418 \x1b[31m{}\r\n\r\n", "x".repeat(500));
        let found = said(&long, "h:1");
        assert!(found.len() < 120 && !found.contains('\x1b'), "{found}");
    }
}

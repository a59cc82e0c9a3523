//! The proxy's API, as much of HTTP as it takes.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use crate::ca::Ca;
use crate::cluster::Options;

pub(crate) struct Api {
    host: Arc<Ca>,
    user: Arc<Ca>,
    ttl: Duration,
    logins: Vec<String>,
}

impl Api {
    pub(crate) fn new(host: Arc<Ca>, user: Arc<Ca>, options: &Options) -> Self {
        Self {
            host,
            user,
            ttl: options.ttl,
            logins: options
                .logins
                .iter()
                .map(|&login| login.to_owned())
                .collect(),
        }
    }

    pub(crate) async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin, known: bool) {
        let mut stream = BufReader::new(stream);
        let Some((request, body)) = read(&mut stream).await else {
            return;
        };
        let (status, answer) = self.answer(&request, &body, known);
        let answer = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n",
            answer.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        let _ = stream.shutdown().await;
    }

    fn answer(&self, request: &str, body: &[u8], known: bool) -> (u16, Value) {
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        match request {
            "GET /v1/ping" => {
                let pin = self.host.pin();
                (
                    200,
                    json!({"cluster": "lab", "version": "0.1.0", "ca_pin": pin}),
                )
            }
            "POST /v1/login" => match asked["password"].as_str() {
                Some("correct horse") => (200, self.login(&asked)),
                Some("locked") => error(429, "locked_out", "Too many failures."),
                _ => error(401, "bad_credentials", "Wrong user or password."),
            },
            "POST /v1/invite" if asked["invite"] == "tinv-good" => {
                assert_eq!(asked["password"], "brand new one");
                (200, self.login(&asked))
            }
            "POST /v1/invite" => error(401, "bad_invite", "That invite is not good."),
            "GET /v1/nodes" if known => (200, nodes()),
            "GET /v1/nodes" => error(401, "unauthenticated", "Log in first."),
            _ => error(404, "invalid", "No such path."),
        }
    }

    fn login(&self, asked: &Value) -> Value {
        let public = STANDARD
            .decode(asked["public_key"].as_str().unwrap())
            .unwrap();
        let ttl = asked["ttl_s"]
            .as_u64()
            .map_or(self.ttl, Duration::from_secs);
        let expires = (OffsetDateTime::now_utc() + ttl).format(&Rfc3339).unwrap();
        json!({
            "cluster": "lab", "user": asked["user"], "roles": ["access"], "logins": self.logins,
            "ssh_certificate": self.user.user(&public, &self.logins, ttl),
            "x509_certificate": self.user.client(&public, ttl),
            "expires": expires,
            "trust": {"serial": 1, "host_ca_x509": self.host.x509.pem(),
                "host_ca_ssh": self.host.ssh_line(), "user_ca_ssh": self.user.ssh_line()},
        })
    }
}

async fn read(stream: &mut (impl AsyncBufReadExt + Unpin)) -> Option<(String, Vec<u8>)> {
    let mut first = String::new();
    stream.read_line(&mut first).await.ok()?;
    let request = first.rsplit_once(" HTTP/1.1")?.0.to_owned();
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((request, body))
}

fn error(status: u16, code: &str, message: &str) -> (u16, Value) {
    (status, json!({"error": {"code": code, "message": message}}))
}

fn nodes() -> Value {
    json!({"nodes": [
        {"id": "2", "name": "router", "labels": {"env": "prod"}, "online": false,
         "last_seen": "2020-01-01T00:00:00Z", "reason": "link timed out", "link": null,
         "addr": null, "agent_version": "0.1.0", "os": "Linux", "arch": "mips", "kernel": "5.4",
         "only_login": null, "rtt_ms": null},
        {"id": "1", "name": "gateway-1", "labels": {"env": "lab"}, "online": true,
         "last_seen": null, "reason": null, "link": "quic", "addr": "192.0.2.1:5000",
         "agent_version": "0.1.0", "os": "Linux", "arch": "x86_64", "kernel": "6.1",
         "only_login": null, "rtt_ms": 12},
    ]})
}

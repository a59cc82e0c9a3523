//! The proxy's HTTPS API: JSON over HTTP/1.1, one request per connection.
//!
//! A [`Client`] never sends a request before its [`Verifier`] has accepted the server.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use crate::address::ProxyAddr;
use crate::dial::tcp;
use crate::error::{Exit, Failure, fail};
use crate::output;
use crate::profile::Identity;
use crate::trust::{Verifier, crypto};

pub(crate) mod refusal;
pub(crate) mod types;

/// Largest answer taken: a list of a hundred thousand nodes has about 40 MB.
const MAX_ANSWER: usize = 64 << 20;
/// The whole exchange behind the TCP connection. A login may wait for others, since hashing
/// passwords costs the cluster a good part of a second each.
const DEADLINE: Duration = Duration::from_secs(30);
/// Requests are small; a buffer that need not grow leaves no copy of a password behind.
const REQUEST_SIZE: usize = 16 << 10;

/// One proxy's API.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    proxy: ProxyAddr,
    verifier: Arc<Verifier>,
    tls: Arc<rustls::ClientConfig>,
}

impl Client {
    /// A client that shows a certificate if it is given one.
    pub(crate) fn new(
        proxy: ProxyAddr,
        verifier: Arc<Verifier>,
        identity: Option<&Identity>,
    ) -> Result<Self> {
        let builder = rustls::ClientConfig::builder_with_provider(crypto::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _);
        let mut tls = match identity {
            Some(identity) => {
                builder.with_client_auth_cert(identity.chain()?, identity.tls_key()?)?
            }
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        tls.resumption = Resumption::disabled();
        Ok(Self {
            proxy,
            verifier,
            tls: Arc::new(tls),
        })
    }

    /// `GET` a path.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.exchange(Method::GET, path, Bytes::new()).await
    }

    /// `POST` a request that may hold secrets.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T> {
        let mut text = Zeroizing::new(Vec::with_capacity(REQUEST_SIZE));
        serde_json::to_writer(&mut *text, body)?;
        self.exchange(Method::POST, path, Bytes::from_owner(text))
            .await
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T> {
        let socket = tcp::connect(&self.proxy).await?;
        let answered = timeout(DEADLINE, async {
            let stream = self.secure(socket).await?;
            self.converse(stream, method, path, body).await
        });
        answered
            .await
            .map_err(|_| self.unreachable("it does not answer"))?
    }

    async fn secure(&self, socket: TcpStream) -> Result<TlsStream<TcpStream>> {
        let host = self.proxy.server_name()?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        connector.connect(host, socket).await.map_err(|error| {
            let complaint = self.verifier.complaint();
            complaint.unwrap_or_else(|| refusal::of_tls(error, &self.proxy))
        })
    }

    async fn converse<T: DeserializeOwned>(
        &self,
        stream: TlsStream<TcpStream>,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T> {
        output::debug(|| format!("{method} {path} at {}", self.proxy));
        let request = self.request(method, path, body)?;
        let broken = |error: hyper::Error| refusal::of_http(error, &self.proxy);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            self.read(response).await
        };
        tokio::pin!(answer);
        tokio::select! {
            answered = &mut answer => answered,
            // The connection may end before the answer has been looked at.
            ended = connection => {
                ended.map_err(broken)?;
                answer.await
            }
        }
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.proxy.to_string())
            .header(USER_AGENT, concat!("tsh/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json");
        Ok(request.body(Full::new(body))?)
    }

    async fn read<T: DeserializeOwned>(
        &self,
        response: Response<hyper::body::Incoming>,
    ) -> Result<T> {
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await;
        let body = body
            .map_err(|error| self.unreachable(&error.to_string()))?
            .to_bytes();
        if status != StatusCode::OK {
            return Err(refusal::of_status(status, &body, &self.proxy));
        }
        serde_json::from_slice(&body).context(Failure::new(
            Exit::Other,
            format!(
                "{} gives an answer that this version of tsh does not know",
                self.proxy
            ),
        ))
    }

    fn unreachable(&self, why: &str) -> anyhow::Error {
        fail(
            Exit::Unreachable,
            format!("Cannot talk to {}: {why}.", self.proxy),
        )
    }
}

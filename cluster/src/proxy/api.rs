//! The HTTPS API: log in, redeem an invite, list nodes and one's own sessions.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::Proxy;
use super::dial::made_anew;
use super::directory::Node;
use crate::audit::rfc3339;
use crate::auth::Secret;
use crate::auth::access::{Decision, decide};
use crate::auth::ca::peer::{Peer, UserPeer};
use crate::auth::login::{Attempt, LoggedIn, LoginError, roles_of};
use crate::resource::Resource;
use crate::resource::labels::Labels;
use crate::resource::user::UserSpec;
use crate::tunnel::serve::TRUST_SERIAL;

mod sessions;

/// Largest request body: a login has about 500 bytes.
const BODY_LIMIT: usize = 16 * 1024;
/// A connection ends after this time, whatever it does.
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);
/// Request headers must be there within this time.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);
/// What HTTP/2 may send before it is read: the least there is for a connection (RFC 9113 §6.9.2).
const WINDOW: u32 = 65_535;
/// Largest request head.
const HEAD_LIMIT: usize = 16 * 1024;

/// The API's routes.
#[derive(Clone)]
pub struct Api {
    router: Router,
}

/// Who is at the other end of this connection.
#[derive(Clone)]
struct Remote {
    addr: SocketAddr,
    user: Option<UserPeer>,
}

impl Api {
    /// The API of `proxy`.
    #[must_use]
    pub fn new(proxy: Proxy) -> Self {
        let router = Router::new()
            .route("/v1/ping", get(ping))
            .route("/v1/login", post(login))
            .route("/v1/invite", post(invite))
            .route("/v1/nodes", get(nodes))
            .route("/v1/sessions", get(sessions::list))
            .fallback(|| {
                std::future::ready(failure(StatusCode::NOT_FOUND, "invalid", "no such path"))
            })
            .layer(DefaultBodyLimit::max(BODY_LIMIT))
            .with_state(proxy);
        Self { router }
    }

    /// Serves one connection until it ends.
    pub async fn serve(&self, tls: TlsStream<TcpStream>, addr: SocketAddr, peer: Option<Peer>) {
        let user = match peer {
            Some(Peer::User(user)) => Some(user),
            _ => None,
        };
        let router = self.router.clone().layer(Extension(Remote { addr, user }));
        let service = TowerToHyperService::new(router);
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_DEADLINE)
            .max_buf_size(HEAD_LIMIT);
        builder
            .http2()
            .max_header_list_size(HEAD_LIMIT as u32)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_concurrent_streams(8);
        let connection = builder.serve_connection(TokioIo::new(tls), service);
        if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_LIMIT, connection).await {
            tracing::debug!(%addr, %error, "http connection ended");
        }
    }
}

async fn ping(State(proxy): State<Proxy>) -> Response {
    std::future::ready(()).await;
    Json(json!({
        "cluster": proxy.authorities.cluster,
        "version": env!("CARGO_PKG_VERSION"),
        "ca_pin": proxy.authorities.pin().to_string(),
    }))
    .into_response()
}

#[derive(Deserialize)]
struct LoginRequest {
    user: String,
    password: Secret,
    #[serde(default)]
    invite: Option<Secret>,
    public_key: String,
    #[serde(default)]
    ttl_s: Option<u64>,
}

async fn login(
    State(proxy): State<Proxy>,
    Extension(remote): Extension<Remote>,
    Json(mut request): Json<LoginRequest>,
) -> Response {
    request.invite = None;
    log_in(&proxy, remote, request).await
}

async fn invite(
    State(proxy): State<Proxy>,
    Extension(remote): Extension<Remote>,
    Json(request): Json<LoginRequest>,
) -> Response {
    if request.invite.is_none() {
        return failure(
            StatusCode::BAD_REQUEST,
            "invalid",
            "the field invite is missing",
        );
    }
    log_in(&proxy, remote, request).await
}

async fn log_in(proxy: &Proxy, remote: Remote, request: LoginRequest) -> Response {
    let Some(_place) = proxy.limits.logins.enter(remote.addr.ip()) else {
        let text = "too many people log in at this moment; try again in a moment";
        return failure(StatusCode::SERVICE_UNAVAILABLE, "busy", text);
    };
    let key = STANDARD
        .decode(&request.public_key)
        .ok()
        .and_then(|k| k.try_into().ok());
    let Some(public_key) = key else {
        let text = "public_key must be 32 bytes of Ed25519 in base64";
        return failure(StatusCode::BAD_REQUEST, "invalid", text);
    };
    let attempt = Attempt {
        user: request.user.clone(),
        password: request.password,
        invite: request.invite,
        public_key,
        ttl: request.ttl_s.map(Duration::from_secs),
        addr: remote.addr.to_string(),
    };
    let replied = proxy.login.log_in(attempt).await;
    match replied.map(|logged_in| certificates(proxy, &request.user, &logged_in)) {
        Ok(Ok(reply)) => Json(reply).into_response(),
        Ok(Err(error)) => login_failure(&LoginError::Internal(error)),
        Err(error) => login_failure(&error),
    }
}

fn certificates(
    proxy: &Proxy,
    user: &str,
    logged_in: &LoggedIn,
) -> anyhow::Result<serde_json::Value> {
    let authorities = &proxy.authorities;
    let issued = &logged_in.issued;
    Ok(json!({
        "cluster": authorities.cluster,
        "user": user,
        "roles": logged_in.roles,
        "logins": logged_in.logins,
        "ssh_certificate": issued.ssh.to_openssh()?,
        "x509_certificate": pem(&issued.x509),
        "expires": rfc3339(OffsetDateTime::from(issued.not_after)),
        "trust": {
            "serial": TRUST_SERIAL,
            "host_ca_x509": pem(&authorities.host.certificate),
            "host_ca_ssh": authorities.host.ssh.public_key().to_openssh()?,
            "user_ca_ssh": authorities.user.ssh.public_key().to_openssh()?,
        },
    }))
}

/// A certificate in textual encoding (RFC 7468 §5).
#[must_use]
pub fn pem(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines = body
        .as_bytes()
        .chunks(64)
        .map(|l| String::from_utf8_lossy(l).into_owned() + "\n");
    format!(
        "-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n",
        lines.collect::<String>()
    )
}

fn login_failure(error: &LoginError) -> Response {
    let (status, code) = match error {
        LoginError::BadCredentials => (StatusCode::UNAUTHORIZED, "bad_credentials"),
        LoginError::BadInvite => (StatusCode::UNAUTHORIZED, "bad_invite"),
        LoginError::LockedOut => (StatusCode::TOO_MANY_REQUESTS, "locked_out"),
        LoginError::Locked(_) => (StatusCode::FORBIDDEN, "locked"),
        LoginError::WeakPassword(_) => (StatusCode::BAD_REQUEST, "weak_password"),
        LoginError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid"),
        LoginError::NoLogins => (StatusCode::FORBIDDEN, "denied"),
        LoginError::Internal(cause) => {
            tracing::error!(error = format!("{cause:#}"), "login failed");
            (StatusCode::INTERNAL_SERVER_ERROR, "internal")
        }
    };
    failure(status, code, &error.to_string())
}

#[derive(Serialize)]
struct NodeView {
    id: String,
    name: String,
    labels: Labels,
    online: bool,
    last_seen: Option<String>,
    reason: Option<String>,
    link: Option<String>,
    addr: Option<String>,
    agent_version: Option<String>,
    os: Option<String>,
    arch: Option<String>,
    kernel: Option<String>,
    only_login: Option<String>,
    rtt_ms: Option<u64>,
    link_bytes: Option<u64>,
    problems: Vec<String>,
}

async fn nodes(State(proxy): State<Proxy>, Extension(remote): Extension<Remote>) -> Response {
    match reachable(&proxy, remote).await {
        Ok((_, nodes)) => {
            let nodes: Vec<_> = nodes.iter().map(view).collect();
            Json(json!({ "nodes": nodes })).into_response()
        }
        Err(refusal) => *refusal,
    }
}

/// Who asks, and the nodes that they may reach.
///
/// # Errors
/// The answer to whoever may not ask.
async fn reachable(proxy: &Proxy, remote: Remote) -> Result<(UserPeer, Vec<Node>), Box<Response>> {
    let now = OffsetDateTime::now_utc();
    let Some(peer) = remote.user.filter(|user| user.not_after > now) else {
        let text = "a valid user certificate is required; run `tsh login`";
        return Err(failure(StatusCode::UNAUTHORIZED, "unauthenticated", text).into());
    };
    if let Some(text) = proxy.user_locked(&peer.name) {
        return Err(failure(StatusCode::FORBIDDEN, "locked", &text).into());
    }
    match proxy.resources.find::<UserSpec>(&peer.name).await {
        Ok(Some(user)) if !peer.is(&user) => {
            let text = made_anew(&peer.name);
            Err(failure(StatusCode::UNAUTHORIZED, "unauthenticated", &text).into())
        }
        Ok(Some(user)) => match visible(proxy, &user).await {
            Ok(nodes) => Ok((peer, nodes)),
            Err(error) => Err(login_failure(&LoginError::Internal(error)).into()),
        },
        Ok(None) => {
            let text = format!("the user {} no longer exists", peer.name);
            Err(failure(StatusCode::FORBIDDEN, "locked", &text).into())
        }
        Err(error) => Err(login_failure(&LoginError::Internal(error.into())).into()),
    }
}

async fn visible(proxy: &Proxy, user: &Resource<UserSpec>) -> anyhow::Result<Vec<Node>> {
    let roles = roles_of(&proxy.resources, user).await?;
    let reachable = |node: &Node| {
        let decision = decide(&roles, &user.spec.traits, &node.labels(), None);
        matches!(decision, Decision::Allowed { .. })
    };
    let all = proxy.directory.all().into_iter();
    Ok(all.filter(reachable).collect())
}

fn view(node: &Node) -> NodeView {
    let seen = node.presence.as_ref();
    let live = node.live.as_ref();
    let last_seen = live
        .map(|l| OffsetDateTime::from(l.last_seen()))
        .or(seen.map(|s| s.last_seen));
    NodeView {
        id: node.id.to_string(),
        name: node.spec.hostname.clone(),
        labels: node.labels(),
        online: node.is_online(),
        last_seen: last_seen.map(rfc3339),
        reason: seen.and_then(|s| s.reason.clone().or_else(|| s.last_loss.clone())),
        link: seen.map(|s| s.link.clone()),
        addr: seen.map(|s| s.addr.clone()),
        agent_version: seen.map(|s| s.agent_version.clone()),
        os: seen.map(|s| s.os.clone()),
        arch: seen.map(|s| s.arch.clone()),
        kernel: seen.map(|s| s.kernel.clone()),
        only_login: seen.and_then(|s| s.only_login.clone()),
        rtt_ms: live
            .filter(|_| node.is_online())
            .and_then(|l| l.transport.round_trip().as_millis().try_into().ok()),
        link_bytes: live.map(|live| live.transport.wire_bytes()),
        problems: node.problems(),
    }
}

fn failure(status: StatusCode, code: &str, text: &str) -> Response {
    (
        status,
        Json(json!({ "error": { "code": code, "message": text } })),
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_guesses_too_much_at_once_is_told_to_wait_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let proxy = crate::proxy::tests::proxy(dir.path()).await;
        let status = async |host: u8| {
            let addr = SocketAddr::from(([192, 0, 2, host], 7));
            let request = LoginRequest {
                user: "ann".into(),
                password: Secret::new("a guess".into()),
                invite: None,
                public_key: STANDARD.encode([7; 32]),
                ttl_s: None,
            };
            let remote = Remote { addr, user: None };
            log_in(&proxy, remote, request).await.status()
        };
        let enter = || proxy.limits.logins.enter([192, 0, 2, 7].into());
        let waiting: Vec<_> = std::iter::from_fn(enter).collect();
        assert_eq!(status(7).await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(8).await, StatusCode::UNAUTHORIZED);
        drop(waiting);
        assert_eq!(status(7).await, StatusCode::UNAUTHORIZED);
    }
}

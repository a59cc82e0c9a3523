//! Health and metrics, on an address that should be local: `/healthz`, `/readyz`, `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

/// Counters and gauges of one process.
pub struct Metrics {
    registry: Registry,
    /// Nodes with a live link.
    pub nodes_online: Gauge,
    /// Open sessions.
    pub sessions: Gauge,
    /// Bytes carried by ended sessions.
    pub bytes: Counter,
    /// Dials turned down.
    pub dials_refused: Counter,
    /// Handshakes that failed.
    pub handshakes_failed: Counter,
    /// Connections turned away for lack of room.
    pub connections_shed: Counter,
    /// Strangers that had to show first that their address is their own.
    pub addresses_checked: Counter,
    /// Whether the listeners are open and nothing is draining.
    pub ready: AtomicBool,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("tether");
        let (nodes_online, sessions) = (Gauge::default(), Gauge::default());
        registry.register(
            "nodes_online",
            "Nodes with a live link",
            nodes_online.clone(),
        );
        registry.register("sessions", "Open sessions", sessions.clone());
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        Self {
            nodes_online,
            sessions,
            bytes: counter("session_bytes", "Bytes carried by ended sessions"),
            dials_refused: counter("dials_refused", "Dials turned down"),
            handshakes_failed: counter("handshakes_failed", "Handshakes that failed"),
            connections_shed: counter(
                "connections_shed",
                "Connections turned away for lack of room",
            ),
            addresses_checked: counter(
                "addresses_checked",
                "Connections sent a QUIC Retry because many handshakes are under way",
            ),
            ready: AtomicBool::new(false),
            registry,
        }
    }
}

/// Serves until the listener fails.
///
/// # Errors
/// What the socket says.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    links: crate::tunnel::registry::Registry,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| std::future::ready("ok\n")))
        .route("/readyz", get(ready))
        .route("/metrics", get(show))
        .with_state((metrics, links));
    axum::serve(listener, router).await
}

type Shared = State<(Arc<Metrics>, crate::tunnel::registry::Registry)>;

async fn ready(State((metrics, _)): Shared) -> impl IntoResponse {
    std::future::ready(()).await;
    match metrics.ready.load(Ordering::Relaxed) {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}

async fn show(State((metrics, links)): Shared) -> impl IntoResponse {
    std::future::ready(()).await;
    metrics
        .nodes_online
        .set(i64::try_from(links.len()).unwrap_or(i64::MAX));
    let mut text = String::new();
    match encode(&mut text, &metrics.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

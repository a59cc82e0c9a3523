//! Starting, running and draining a cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use protocol::error::CloseCode;
use protocol::message::control::ToAgent;
use quinn::{Endpoint, TokioRuntime, VarInt};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;

use crate::admin::{Admin, SOCKET};
use crate::audit::Audit;
use crate::auth::ca::{Authorities, record};
use crate::auth::credential::Credentials;
use crate::auth::join::Join;
use crate::auth::locks::Locks;
use crate::auth::login::Login;
use crate::auth::nodes::Nodes;
use crate::config::{Config, check_cluster_name};
use crate::files::create_private_dir;
use crate::proxy::api::Api;
use crate::proxy::diagnostics::{self, Metrics};
use crate::proxy::dial;
use crate::proxy::directory::Directory;
use crate::proxy::limits::Limits;
use crate::proxy::listener::Front;
use crate::proxy::sessions::{Sessions, Stored};
use crate::proxy::ssh::SshProxy;
use crate::proxy::tls::Tls;
use crate::proxy::{Proxy, quic};
use crate::resource::{ResourceError, Resources, role};
use crate::store::sqlite::{Options, Sqlite};
use crate::store::{Backend, Key, StoreError};
use crate::tunnel::presence::Presence;
use crate::tunnel::quic::{endpoint_config, server_config, socket};
use crate::tunnel::recall::Recall;
use crate::tunnel::registry::Registry;
use crate::tunnel::serve::Links;

/// Open sessions get this long to end when the cluster stops.
const DRAIN: Duration = Duration::from_secs(10);
/// Agents come back no sooner than this after a stop, so that a restarted cluster is ready,...
const RETURN_AFTER: Duration = Duration::from_millis(500);
/// ...and later by the time it takes to let go of all, so many in a second.
const LEAVE_RATE: u32 = 2000;
/// They spread their return over this at least,...
const RETURN_SPREAD: Duration = Duration::from_secs(3);
/// ...and so that about this many come in a second: half of what two processors welcome.
const RETURN_RATE: u32 = 600;
/// How often it is looked whether all is over.
const POLL: Duration = Duration::from_millis(50);
/// Last frames get this long to leave.
const FLUSH: Duration = Duration::from_secs(2);

/// A cluster that is ready to be run.
pub struct Cluster {
    proxy: Proxy,
    endpoint: Endpoint,
    recall: Recall,
    tcp: TcpListener,
    front: Front,
    admin: (Admin, UnixListener),
    diag: Option<TcpListener>,
}

impl Cluster {
    /// Opens the store, then every port: what is wrong with the configuration or the data shows
    /// before anything can be reached.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn open(config: &Config) -> Result<Self> {
        let dir = &config.data_dir;
        create_private_dir(dir).with_context(|| format!("{}: cannot be made", dir.display()))?;
        let store: Arc<dyn Backend> =
            Arc::new(Sqlite::open(&dir.join("tether.db"), Options::default())?);
        let audit = Audit::open(&dir.join("audit.db"))?;
        let authorities = Arc::new(authorities(&store, config).await?);
        let proxy = assemble(store, audit, Arc::clone(&authorities), &config.public_host).await?;
        let chain = config
            .public_certificate
            .as_ref()
            .map(|(c, k)| (c.as_path(), k.as_path()));
        let tls = Tls::new(&authorities, &config.public_host, chain)?;
        let listen = config.listen;
        let tcp = bind(listen).await?;
        let reset_key = reset_key(&**proxy.resources.backend()).await?;
        let (endpoint, recall) = endpoint(&tls, tcp.local_addr()?, &reset_key)
            .with_context(|| format!("cannot listen on UDP {listen}"))?;
        let diag = match config.diag {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let front = Front {
            proxy: proxy.clone(),
            tls: TlsAcceptor::from(Arc::new(tls.tcp()?)),
            api: Api::new(proxy.clone()),
            ssh: Arc::new(SshProxy::open(proxy.clone(), &config.public_host).await?),
        };
        let port = match config.public_port {
            0 => tcp.local_addr()?.port(),
            port => port,
        };
        let public_addr = join_host_port(&config.public_host, port);
        let admin = Admin {
            proxy: proxy.clone(),
            public_addr,
        };
        let admin = (admin, Admin::bind(dir)?);
        Ok(Self {
            proxy,
            endpoint,
            recall,
            tcp,
            front,
            admin,
            diag,
        })
    }

    /// Runs until SIGTERM or SIGINT, then drains.
    ///
    /// # Errors
    /// If signals cannot be handled.
    pub async fn run(self, config: &Config) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let proxy = self.proxy;
        tracing::info!(
            cluster = proxy.authorities.cluster,
            addr = %self.tcp.local_addr()?,
            public_addr = self.admin.0.public_addr,
            ca_pin = %proxy.authorities.pin(),
            admin = %config.data_dir.join(SOCKET).display(),
            "listening on TCP and UDP"
        );
        let links = proxy.links.clone();
        let writer = links
            .presence
            .write_forever(proxy.resources.clone(), links.registry.clone());
        // Sessions end while the cluster drains.
        let (sessions, resources) = (proxy.sessions.clone(), proxy.resources.clone());
        tokio::spawn(async move { sessions.write_forever(&resources).await });
        if let Some(diag) = self.diag {
            tracing::info!(addr = %diag.local_addr()?, "serving health and metrics");
            let serve =
                diagnostics::serve(diag, Arc::clone(&proxy.metrics), links.registry.clone());
            tokio::spawn(serve);
        }
        proxy.metrics.ready.store(true, Ordering::Relaxed);
        tokio::spawn(self.admin.0.serve(self.admin.1));
        tokio::spawn(quic::accept(proxy.clone(), self.endpoint.clone()));
        tokio::spawn(proxy.clone().enforce());
        let lost = links.presence.take_lost();
        tokio::spawn(self.recall.tell(lost, links.registry.clone()));
        tokio::select! {
            () = self.front.accept(self.tcp) => {}
            () = writer => {}
            _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
            _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
        }
        proxy.metrics.ready.store(false, Ordering::Relaxed);
        tokio::select! {
            () = drain(&proxy) => {}
            _ = terminate.recv() => tracing::warn!("second signal: not waiting for sessions"),
            _ = interrupt.recv() => tracing::warn!("second signal: not waiting for sessions"),
        }
        let code = VarInt::from_u32(CloseCode::Draining.code());
        self.endpoint.close(code, b"the cluster stops");
        let flushed = async { tokio::join!(self.endpoint.wait_idle(), hang_up(&links.registry)) };
        tokio::time::timeout(FLUSH, flushed).await.ok();
        // What ended with the links is still being written down.
        tokio::time::timeout(FLUSH, left_alone(&proxy.sessions))
            .await
            .ok();
        links.presence.flush(&proxy.resources).await;
        proxy.sessions.write_all(&proxy.resources).await;
        proxy.audit.tell_left_out().await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// The services over a store and an audit log.
///
/// # Errors
/// If the store fails, or its records are damaged.
pub(crate) async fn assemble(
    store: Arc<dyn Backend>,
    audit: Audit,
    authorities: Arc<Authorities>,
    public_host: &str,
) -> Result<Proxy> {
    let resources = Resources::new(Arc::clone(&store));
    for preset in role::presets() {
        match resources.create(&preset).await {
            Ok(_) | Err(ResourceError::Exists { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let nodes = Nodes::open(&resources).await?;
    let locks = Locks::open(&resources).await?;
    let login = Login {
        authorities: Arc::clone(&authorities),
        resources: resources.clone(),
        credentials: Credentials::new(store)?,
        locks: locks.clone(),
        audit: audit.clone(),
    };
    let join = Join {
        authorities: Arc::clone(&authorities),
        public_host: public_host.into(),
        resources: resources.clone(),
        nodes: nodes.clone(),
        locks: locks.clone(),
        audit: audit.clone(),
    };
    let registry = Registry::default();
    let presence = Presence::load(&resources).await?;
    let directory = Directory::new(
        nodes,
        locks,
        &authorities.cluster,
        registry.clone(),
        presence.clone(),
    );
    let Stored {
        sessions,
        detached,
        over,
    } = Sessions::load(&resources).await?;
    let detached = detached.iter().map(dial::detached);
    let told = detached.chain(over.iter().map(dial::ended));
    // All at once: the audit log groups what is queued into one transaction. It is told once, also
    // if the process does not get any further.
    futures::future::join_all(told.map(|event| audit.record(event))).await;
    sessions.write(&resources).await;
    let links = Links {
        registry,
        join: join.clone(),
        presence,
        sessions: sessions.clone(),
        audit: audit.clone(),
    };
    Ok(Proxy {
        authorities,
        resources,
        login,
        join,
        links,
        directory,
        sessions,
        audit,
        limits: Limits::default(),
        metrics: Arc::new(Metrics::default()),
    })
}

async fn authorities(store: &Arc<dyn Backend>, config: &Config) -> Result<Authorities> {
    let known = record::cluster_name(store).await?;
    let name = config
        .cluster_name
        .clone()
        .or(known)
        .unwrap_or_else(|| config.public_host.clone());
    check_cluster_name(&name)
        .map_err(|e| anyhow::anyhow!("{e}; choose one with --cluster-name"))?;
    Authorities::open(store, &name).await
}

/// Asks agents to come back later, waits for sessions to end, and lets agents go that carry none.
async fn drain(proxy: &Proxy) {
    let registry = &proxy.links.registry;
    let links = registry.all();
    let millis = |d: Duration| u32::try_from(d.as_millis()).unwrap_or(u32::MAX);
    let drain = ToAgent::Drain {
        after_ms: millis(RETURN_AFTER + at_rate(links.len(), LEAVE_RATE)),
        spread_ms: millis(RETURN_SPREAD.max(at_rate(links.len(), RETURN_RATE))),
    };
    if let Ok(frame) = crate::tunnel::stream::frame_bytes(&drain) {
        for live in links {
            // A full queue means a link that is stuck; closing it says enough.
            live.control.try_send(frame.clone()).ok();
        }
    }
    proxy.sessions.leave_all();
    let deadline = tokio::time::sleep(DRAIN);
    tokio::pin!(deadline);
    let mut poll = tokio::time::interval(POLL);
    loop {
        tokio::select! {
            () = &mut deadline => {
                tracing::warn!(sessions = proxy.sessions.carried(), "drain deadline: ending sessions");
                return;
            }
            _ = poll.tick() => {}
        }
        let links = registry.all();
        // Who is not heard will not hear either.
        if proxy.sessions.carried() == 0 && !links.iter().any(|live| live.is_heard()) {
            return;
        }
        let idle = links.iter().filter(|live| live.streams() == 0);
        idle.for_each(|live| live.leave());
    }
}

/// Closes the links that do not end with the UDP socket, and waits until all are gone.
async fn hang_up(registry: &Registry) {
    for live in registry.all() {
        live.close(CloseCode::Draining, "the cluster was stopped");
    }
    while !registry.is_empty() {
        tokio::time::sleep(POLL).await;
    }
}

/// Returns when nothing is carried any more, and the audit log knows.
async fn left_alone(sessions: &Sessions) {
    while sessions.carried() > 0 {
        tokio::time::sleep(POLL).await;
    }
}

/// How long so many links take, with so many in a second.
fn at_rate(links: usize, rate: u32) -> Duration {
    let links = u32::try_from(links).unwrap_or(u32::MAX);
    Duration::from_secs(1).saturating_mul(links) / rate
}

/// The key behind stateless resets (RFC 9000 §10.3). It outlives the process, so that agents of a
/// cluster that was killed learn from the first answer of the next one that their link is gone.
async fn reset_key(store: &dyn Backend) -> Result<Vec<u8>> {
    let key = Key::new(&["proxy", "quic_reset_key"])?;
    let made = rand::random::<[u8; 32]>().to_vec();
    match store.create(&key, made.clone(), None).await {
        Ok(_) => Ok(made),
        Err(StoreError::Exists { .. }) => Ok(store
            .get(&key)
            .await?
            .context("the reset key vanished")?
            .value),
        Err(e) => Err(e.into()),
    }
}

fn endpoint(tls: &Tls, address: SocketAddr, reset_key: &[u8]) -> Result<(Endpoint, Recall)> {
    let config = endpoint_config(reset_key);
    let socket = socket(address)?;
    let recall = Recall::new(&socket, reset_key)?;
    let server = server_config(tls.quic()?)?;
    let runtime = Arc::new(TokioRuntime);
    let endpoint = Endpoint::new(config, Some(server), socket, runtime)?;
    Ok((endpoint, recall))
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on TCP {address}"))
}

fn join_host_port(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_for_a_fleet_grows_with_the_fleet() {
        for (links, seconds) in [(0, 0), (1200, 2), (12_000, 20), (120_000, 200)] {
            assert_eq!(at_rate(links, RETURN_RATE).as_secs(), seconds, "{links}");
        }
    }
}

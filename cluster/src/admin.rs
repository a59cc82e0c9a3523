//! The admin socket: how `tctl` steers a running cluster.
//!
//! A Unix socket in the data directory, readable by its owner alone: whoever can open it could read
//! the store too, so there is no further authentication. One JSON line asks, one JSON line answers.

mod locks;
pub mod request;
mod resources;
mod tokens;
mod users;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::audit::{Event, code, rfc3339};
use crate::auth::ca::record::Authority;
use crate::proxy::Proxy;
use crate::proxy::api::pem;
use crate::proxy::directory::Node;
use crate::resource::ResourceError;
use crate::resource::node::{NodeSpec, PresenceSpec};

pub use request::Request;

/// File name of the socket in the data directory.
pub const SOCKET: &str = "admin.sock";
/// Longest request or answer line.
pub const LINE_LIMIT: u64 = 16 << 20;
/// A request must come within this time.
const DEADLINE: Duration = Duration::from_secs(10);
/// Wait after an accept that failed for lack of files or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a request failed: a word for exit codes and a sentence for people.
#[derive(Debug)]
pub struct Failure {
    /// `not_found`, `exists`, `conflict`, `invalid` or `internal`.
    pub code: &'static str,
    /// What happened.
    pub text: String,
}

impl From<ResourceError> for Failure {
    fn from(error: ResourceError) -> Self {
        let code = match error {
            ResourceError::NotFound { .. } => "not_found",
            ResourceError::Exists { .. } => "exists",
            ResourceError::Conflict { .. } => "conflict",
            ResourceError::Invalid(_) => "invalid",
            ResourceError::Damaged { .. } | ResourceError::Store(_) => "internal",
        };
        Self {
            code,
            text: error.to_string(),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self {
            code: "internal",
            text: format!("{error:#}"),
        }
    }
}

fn invalid(text: impl Into<String>) -> Failure {
    Failure {
        code: "invalid",
        text: text.into(),
    }
}

/// The admin side of a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    /// All that can be steered.
    pub proxy: Proxy,
    /// The address people and agents are told.
    pub public_addr: String,
}

impl Admin {
    /// Opens the socket; the store's lock guarantees that a file left there is stale.
    ///
    /// # Errors
    /// What the file system says.
    pub fn bind(data_dir: &Path) -> Result<UnixListener> {
        let path = data_dir.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("{}: cannot listen", path.display()))?;
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, private)?;
        Ok(listener)
    }

    /// Serves requests for as long as it is polled.
    pub async fn serve(self, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(self.clone().serve_one(stream))),
                // The last who can help must not be shut out for good.
                Err(error) => {
                    tracing::warn!(%error, "the admin socket cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve_one(self, stream: UnixStream) {
        if let Err(error) = self.answer(stream).await {
            tracing::debug!(error = format!("{error:#}"), "admin request failed");
        }
    }

    async fn answer(&self, stream: UnixStream) -> Result<()> {
        let (read, mut write) = stream.into_split();
        let mut line = String::new();
        let mut read = BufReader::new(read).take(LINE_LIMIT);
        tokio::time::timeout(DEADLINE, read.read_line(&mut line)).await??;
        let result = match serde_json::from_str(&line) {
            Ok(request) => self.handle(request).await,
            Err(e) => Err(invalid(format!("tctl and tether do not fit: {e}"))),
        };
        let answer = match result {
            Ok(value) => json!({ "ok": value }),
            Err(Failure { code, text }) => json!({ "error": { "code": code, "message": text } }),
        };
        write.write_all(format!("{answer}\n").as_bytes()).await?;
        Ok(())
    }

    async fn handle(&self, request: Request) -> Result<Value, Failure> {
        match request {
            Request::Status => Ok(self.status().await?),
            Request::UserAdd(user) => self.user_add(user).await,
            Request::UserUpdate(user) => self.user_update(user).await,
            Request::UserReset { name, ttl_s } => self.user_reset(&name, ttl_s).await,
            Request::UserRemove { name } => self.user_remove(&name).await,
            Request::UserList => self.user_list().await,
            Request::TokenAdd(token) => self.token_add(token).await,
            Request::TokenList => self.token_list().await,
            Request::TokenRemove { name } => self.token_remove(&name).await,
            Request::NodeList => Ok(self.node_list()),
            Request::NodeRemove { target } => self.node_remove(&target).await,
            Request::LockAdd(lock) => self.lock_add(lock).await,
            Request::LockList => self.lock_list().await,
            Request::LockRemove { name } => self.lock_remove(&name).await,
            Request::Unlock(target) => self.unlock(&target).await,
            Request::Get { kind, name } => self.get(&kind, name.as_deref()).await,
            Request::Create { resource, force } => self.create(resource, force).await,
            Request::Remove { kind, name } => self.remove(&kind, &name).await,
            Request::AuthExport => Ok(self.export()?),
            Request::AuditList { limit } => Ok(self
                .proxy
                .audit
                .newest(limit)
                .await
                .map_err(anyhow::Error::msg)?
                .into()),
        }
    }

    async fn status(&self) -> Result<Value> {
        let proxy = &self.proxy;
        let nodes = proxy.directory.all();
        Ok(json!({
            "cluster": proxy.authorities.cluster,
            "version": env!("CARGO_PKG_VERSION"),
            "public_addr": self.public_addr,
            "ca_pin": proxy.authorities.pin().to_string(),
            "nodes": nodes.len(),
            "nodes_online": nodes.iter().filter(|n| n.live.is_some()).count(),
            "sessions": proxy.sessions.len(),
            "users": proxy.resources.list::<crate::resource::user::UserSpec>().await?.len(),
        }))
    }

    fn export(&self) -> Result<Value> {
        let authorities = &self.proxy.authorities;
        let ssh = |authority: &Authority| authority.ssh.public_key().to_openssh();
        let form = |authority: &Authority| {
            anyhow::Ok(json!({
                "ssh": ssh(authority)?,
                "x509": pem(&authority.certificate),
            }))
        };
        let ca = ssh(&authorities.host)?;
        Ok(json!({
            "cluster": authorities.cluster,
            "ca_pin": authorities.pin().to_string(),
            "known_hosts": known_hosts(&ca, &authorities.cluster, &self.public_addr),
            "host": form(&authorities.host)?,
            "user": form(&authorities.user)?,
        }))
    }

    fn node_list(&self) -> Value {
        let mut nodes = self.proxy.directory.all();
        nodes.sort_by(|a, b| a.spec.hostname.cmp(&b.spec.hostname));
        nodes.iter().map(node_row).collect()
    }

    fn one_node(&self, target: &str) -> Result<Node, Failure> {
        let mut found = self.proxy.directory.find(target);
        let Some(node) = found.pop() else {
            let text = format!("there is no node {target:?}; see `tctl nodes ls`");
            return Err(Failure {
                code: "not_found",
                text,
            });
        };
        if !found.is_empty() {
            return Err(invalid(format!(
                "several nodes are called {target:?}; give an id"
            )));
        }
        Ok(node)
    }

    async fn node_remove(&self, target: &str) -> Result<Value, Failure> {
        let node = self.one_node(target)?;
        let resources = &self.proxy.resources;
        let key = &node.spec.public_key;
        self.proxy.join.forget_key(key, node.id).await?;
        resources.remove::<NodeSpec>(&node.id.to_string()).await?;
        match resources.remove::<PresenceSpec>(&node.id.to_string()).await {
            Ok(()) | Err(ResourceError::NotFound { .. }) => {}
            Err(e) => return Err(e.into()),
        }
        self.proxy.forget_node(node.id);
        let event =
            Event::new(code::NODE_REMOVED).server(&node.id.to_string(), &node.spec.hostname);
        self.proxy.audit.record(event).await;
        Ok(node_row(&node))
    }
}

fn node_row(node: &Node) -> Value {
    let seen = node.live.as_ref().map(|l| l.last_seen().into());
    let seen = seen.or(node.presence.as_ref().map(|p| p.last_seen));
    json!({
        "id": node.id.to_string(),
        "name": node.spec.hostname,
        "labels": node.labels(),
        "online": node.is_online(),
        "last_seen": seen.map(rfc3339),
        "joined": rfc3339(node.spec.joined),
        "locked": node.lock.is_some(),
        "problems": node.problems(),
        "agent_version": node.presence.as_ref().map(|p| p.agent_version.clone()),
    })
}

/// Lines for OpenSSH: for which hosts the host CA may vouch. That is the cluster, nodes by their full
/// names, and names without a dot, as people call nodes; but no host elsewhere, whatever a device
/// calls itself.
fn known_hosts(ca: &str, cluster: &str, public_addr: &str) -> String {
    let host = public_addr
        .rsplit_once(':')
        .map_or(public_addr, |(host, _)| host);
    let host = host.trim_matches(['[', ']']);
    let port = public_addr.rsplit(':').next().unwrap_or_default();
    let proxy = format!("{host},[{host}]:{port}");
    format!(
        "@cert-authority *.{cluster},{cluster},{proxy} {ca}\n\
         @cert-authority *,!*.* {ca}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_ca_vouches_for_the_cluster_and_names_without_a_dot() {
        let lines = known_hosts("ssh-ed25519 AAAA", "lab", "gw.example.net:3080");
        let mut lines = lines.lines();
        let cluster = "*.lab,lab,gw.example.net,[gw.example.net]:3080";
        let line = |hosts: &str| format!("@cert-authority {hosts} ssh-ed25519 AAAA");
        assert_eq!(lines.next().unwrap(), line(cluster));
        assert_eq!(lines.next().unwrap(), line("*,!*.*"));
        assert_eq!(lines.next(), None);
        let six = known_hosts("ssh-ed25519 AAAA", "lab", "[2001:db8::1]:3080");
        let hosts = " *.lab,lab,2001:db8::1,[2001:db8::1]:3080 ";
        assert!(six.contains(hosts), "{six}");
    }
}

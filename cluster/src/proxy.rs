//! The proxy service: the cluster's only public address.
//!
//! One TCP port and the same UDP port carry everything; [`listener`] sorts by first bytes and ALPN.
//!
//! | module | holds |
//! | --- | --- |
//! | [`listener`] | both sockets, first bytes, deadlines before authentication |
//! | [`limits`] | how much room strangers may take |
//! | [`queue`] | whose handshake is next |
//! | [`tls`] | certificates presented and accepted, by ALPN |
//! | [`quic`] | QUIC connections: agents, clients, joins |
//! | [`join`] | one join request |
//! | [`directory`] | all nodes by id and name, kept in memory |
//! | [`dial`] | from a user's request to a stream on a node |
//! | [`splice`] | moving bytes between two streams |
//! | [`enforce`] | ending what is not allowed any more |
//! | [`sessions`] | what is open, so that it can be ended |
//! | [`ssh`] | the SSH server for `ssh -J` |
//! | [`api`] | HTTPS: log in, list |
//! | [`diagnostics`] | health and metrics, on a local address |

pub mod api;
pub mod diagnostics;
pub mod dial;
pub mod directory;
pub mod enforce;
pub mod join;
pub mod limits;
pub mod listener;
pub mod queue;
pub mod quic;
pub mod sessions;
pub mod splice;
pub mod ssh;
pub mod tls;

use std::sync::Arc;

use crate::audit::Audit;
use crate::auth::ca::Authorities;
use crate::auth::join::Join;
use crate::auth::login::Login;
use crate::resource::Resources;
use crate::tunnel::serve::Links;

use diagnostics::Metrics;
use directory::Directory;
use limits::Limits;
use sessions::Sessions;

/// Everything a connection may need. Cheap to clone.
#[derive(Clone)]
pub struct Proxy {
    /// Keys and pins.
    pub authorities: Arc<Authorities>,
    /// Users and roles.
    pub resources: Resources,
    /// Logging in.
    pub login: Login,
    /// Joining.
    pub join: Join,
    /// Links of agents.
    pub links: Links,
    /// Nodes.
    pub directory: Directory,
    /// Open sessions.
    pub sessions: Sessions,
    /// The audit log.
    pub audit: Audit,
    /// Room for strangers.
    pub limits: Limits,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::store::Backend;
    use crate::store::sqlite::{Options, Sqlite};

    /// A proxy of its own, over what is in a folder.
    pub(super) async fn proxy(dir: &Path) -> Proxy {
        let store = Sqlite::open(&dir.join("tether.db"), Options::default()).unwrap();
        let store: Arc<dyn Backend> = Arc::new(store);
        let audit = Audit::open(&dir.join("audit.db")).unwrap();
        let authorities = Arc::new(Authorities::open(&store, "lab").await.unwrap());
        crate::start::assemble(store, audit, authorities, "gw.example.net")
            .await
            .unwrap()
    }
}

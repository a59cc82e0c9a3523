//! Finds the cluster and opens a transport to it: by QUIC, by SSH over TCP, or both at once. The
//! name is resolved for each connection, since a cluster may move while a device sleeps.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use protocol::link::CONNECT_TIMEOUT;
use protocol::transport::{Kind, Plan, Policy};
use protocol::{ALPN_AGENT_SSH, ALPN_JOIN};
use rustls::ClientConfig;
use tokio::time::{Instant, timeout_at};

use super::addresses::{in_turn, resolve};
use super::fault::{is_final, telling, tells_little};
use super::quic::{self, Offload};
use super::race::race;
use super::ssh::{self, Around, Identity};
use super::transport::{Fault, FaultKind, Pending, Transport};
use super::{dial, tcp, tls};
use crate::address::Address;
use crate::config::{Config, resume};
use crate::proxy::{self, HttpProxy};
use crate::settings::Env;

/// A little less than the supervisor allows, so that its reason is not a mere time-out.
const LIMIT: Duration = CONNECT_TIMEOUT.saturating_sub(Duration::from_secs(1));
/// Between addresses over UDP: twice what RFC 8305 asks for, since a handshake costs 3 kB.
const STAGGER: Duration = Duration::from_millis(500);

/// Where to and how.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) address: Address,
    pub(crate) offload: Offload,
    /// Sessions that are served at once.
    pub(crate) places: usize,
    pub(crate) policy: Policy,
    /// For TCP; UDP goes straight.
    pub(crate) proxy: Option<HttpProxy>,
    /// Where the cluster was when it was last seen, for a time without names.
    pub(crate) last: Option<IpAddr>,
}

/// What the cluster is shown.
#[derive(Clone)]
pub(crate) enum Shown {
    /// The node's certificates, for a link.
    Certificates {
        tls: Box<ClientConfig>,
        ssh: Box<Identity>,
    },
    /// Nothing yet: the device is about to prove its key.
    Nothing(Box<ClientConfig>),
}

impl Route {
    /// To this address, as the configuration and the environment say.
    pub(crate) fn new(address: Address, config: &Config, env: Env<'_>) -> Self {
        Self {
            proxy: proxy::settle(&config.proxy, env, &address),
            address,
            offload: config.udp_offload.unwrap_or_default(),
            places: dial::places(config.resume.unwrap_or(resume::DEFAULT).streams),
            policy: config.transport.unwrap_or_default(),
            last: None,
        }
    }

    /// To this address, in the usual way.
    #[cfg(test)]
    pub(crate) fn to(address: Address) -> Self {
        Self {
            address,
            offload: Offload::default(),
            places: dial::places(0),
            policy: Policy::default(),
            proxy: None,
            last: None,
        }
    }
}

/// Opens a transport. `failures` turns the list of addresses, so that those that never answer do
/// not hide the others for good.
pub(crate) async fn connect(
    route: &Route,
    shown: &Shown,
    plan: Plan,
    failures: u32,
) -> Result<Arc<dyn Transport>, Fault> {
    let deadline = Instant::now() + LIMIT;
    let (addresses, nameless) = addresses(route).await;
    let way = Way {
        addresses,
        nameless,
        route: route.clone(),
        shown: shown.clone(),
        failures,
        deadline,
    };
    let way = Arc::new(way);
    let attempts = [Some(plan.first), plan.second]
        .into_iter()
        .flatten()
        .map(|kind| -> Pending<'static, Result<_, (Kind, Fault)>> {
            let way = Arc::clone(&way);
            Box::pin(async move {
                let tried = timeout_at(deadline, way.by(kind)).await;
                tried
                    .unwrap_or_else(|_| Err(silent(kind)))
                    .map_err(|fault| {
                        log::debug!("{kind:?}: {fault}");
                        (kind, fault)
                    })
            })
        })
        .collect();
    race(attempts, plan.stagger, |(_, fault)| way.decides(fault))
        .await
        .map_err(|faults| summary(&way, faults))
}

/// The cluster's addresses; without a resolver, the one it had last. Whoever answers there must
/// prove to be the cluster, as anywhere.
async fn addresses(route: &Route) -> (Result<Vec<SocketAddr>, Fault>, Option<Fault>) {
    match (resolve(&route.address, "the cluster's").await, route.last) {
        (Err(fault), Some(last)) => {
            let last = SocketAddr::new(last, route.address.port);
            (Ok(vec![last]), Some(fault))
        }
        (found, _) => (found, None),
    }
}

/// Both ways failed: why.
fn summary(way: &Way, faults: Vec<(Kind, Fault)>) -> Fault {
    let fault = of_all(way, faults);
    match &way.nameless {
        Some(nameless) => {
            let text = format!("{nameless}; at the address it had last: {fault}");
            Fault { text, ..fault }
        }
        None => fault,
    }
}

fn of_all(way: &Way, faults: Vec<(Kind, Fault)>) -> Fault {
    let all_equal = faults.len() > 1
        && way.addresses.is_ok()
        && faults.iter().all(|(_, fault)| tells_little(fault));
    if all_equal {
        let text: Vec<_> = faults
            .iter()
            .map(|(kind, fault)| match carrier(*kind) {
                carrier if fault.text.contains(carrier) => fault.text.clone(),
                carrier => format!("over {carrier}: {fault}"),
            })
            .collect();
        return Fault::new(FaultKind::Unreachable, text.join("; "));
    }
    telling(faults.into_iter().map(|(_, fault)| fault))
        .unwrap_or_else(|| Fault::local("nothing was tried"))
}

const fn carrier(kind: Kind) -> &'static str {
    match kind {
        Kind::Quic => "UDP",
        Kind::Ssh => "TCP",
    }
}

fn silent(kind: Kind) -> Fault {
    let text = format!("no answer over {}", carrier(kind));
    Fault::new(FaultKind::Unreachable, text)
}

/// All that an attempt needs.
struct Way {
    addresses: Result<Vec<SocketAddr>, Fault>,
    /// Why these are not the addresses of its name.
    nameless: Option<Fault>,
    route: Route,
    shown: Shown,
    failures: u32,
    deadline: Instant,
}

impl Way {
    /// Whether trying the other transport would only lead to the same answer.
    fn decides(&self, fault: &Fault) -> bool {
        // A proxy may lead elsewhere.
        let same_place = self.route.proxy.is_none();
        is_final(fault) || (same_place && fault.kind == FaultKind::Untrusted)
    }

    async fn by(&self, kind: Kind) -> Result<Arc<dyn Transport>, Fault> {
        match kind {
            Kind::Quic => self.by_quic().await,
            Kind::Ssh => self.by_tcp().await,
        }
    }

    async fn by_quic(&self) -> Result<Arc<dyn Transport>, Fault> {
        let addresses = self.addresses.as_deref().map_err(Clone::clone)?;
        let (Shown::Certificates { tls, .. } | Shown::Nothing(tls)) = &self.shown;
        let attempts = in_turn(addresses, self.failures)
            .into_iter()
            .map(|to| -> Pending<'static, Result<_, Fault>> {
                let (tls, offload) = (ClientConfig::clone(tls), self.route.offload);
                let places = self.route.places;
                Box::pin(async move {
                    log::debug!("connecting to {to} over UDP");
                    quic::connect(to, tls, offload, places).await
                })
            })
            .collect();
        match race(attempts, STAGGER, is_final).await {
            Ok(transport) => Ok(Arc::new(transport)),
            Err(faults) => Err(telling(faults).unwrap_or_else(|| silent(Kind::Quic))),
        }
    }

    async fn by_tcp(&self) -> Result<Arc<dyn Transport>, Fault> {
        match &self.shown {
            Shown::Nothing(config) => {
                let tcp = self.dial().await?;
                let tls = tls::secure(tcp, ClientConfig::clone(config), ALPN_JOIN).await;
                let tls = tls.map_err(|failed| failed.fault)?;
                Ok(Arc::new(tls::Joining::new(tls)?))
            }
            Shown::Certificates { tls, ssh } => self.by_ssh(tls, ssh).await,
        }
    }

    async fn by_ssh(
        &self,
        config: &ClientConfig,
        identity: &Identity,
    ) -> Result<Arc<dyn Transport>, Fault> {
        let tcp = self.dial().await?;
        let counter = tcp.counter();
        let failed = match tls::secure(tcp, config.clone(), ALPN_AGENT_SSH).await {
            Ok(tls) => {
                let ssh = ssh::connect(tls, Around::Tls, counter, identity).await?;
                return Ok(Arc::new(ssh));
            }
            Err(failed) if failed.meddled => failed.fault,
            Err(failed) => return Err(failed.fault),
        };
        log::debug!("TLS does not get through ({failed}); trying SSH alone");
        let tcp = self.dial().await?;
        let counter = tcp.counter();
        let bare = ssh::connect(tcp, Around::Nothing, counter, identity);
        match timeout_at(self.deadline, bare).await {
            Ok(Ok(ssh)) => Ok(Arc::new(ssh)),
            Ok(Err(fault)) => {
                log::debug!("SSH alone: {fault}");
                Err(telling([fault, failed]).unwrap_or_else(|| silent(Kind::Ssh)))
            }
            // Why TLS failed says more than that there was no time left.
            Err(_) => Err(failed),
        }
    }

    async fn dial(&self) -> Result<tcp::Counted, Fault> {
        tcp::dial(&self.route, &self.addresses, self.failures).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(proxy: Option<&str>) -> Way {
        Way {
            addresses: Ok(Vec::new()),
            nameless: None,
            route: Route {
                proxy: proxy.map(|text| text.parse().unwrap()),
                ..Route::to("lab:1".parse().unwrap())
            },
            shown: Shown::Nothing(Box::new(
                crate::trust::by_pin(protocol::identity::CaPin([1; 32]), Duration::ZERO).unwrap(),
            )),
            failures: 0,
            deadline: Instant::now(),
        }
    }

    #[tokio::test]
    async fn without_names_the_last_address_is_tried() {
        let mut route = Route::to("no-such-host.invalid:7".parse().unwrap());
        let (found, nameless) = addresses(&route).await;
        assert!(found.is_err() && nameless.is_none());
        route.last = Some([192, 0, 2, 1].into());
        let (found, nameless) = addresses(&route).await;
        assert_eq!(found.unwrap(), ["192.0.2.1:7".parse().unwrap()]);
        assert_eq!(nameless.unwrap().kind, FaultKind::Unreachable);
    }

    #[test]
    fn what_the_cluster_says_ends_the_search_and_what_others_say_only_without_a_proxy() {
        let fault = |kind| Fault::new(kind, "x");
        for (kind, alone, behind_proxy) in [
            (FaultKind::Unreachable, false, false),
            (FaultKind::Local, false, false),
            (FaultKind::Closed(None), false, false),
            (FaultKind::Untrusted, true, false),
            (FaultKind::CertificateRefused, true, true),
        ] {
            assert_eq!(way(None).decides(&fault(kind)), alone, "{kind:?}");
            let through = way(Some("http://h:1"));
            assert_eq!(through.decides(&fault(kind)), behind_proxy, "{kind:?}");
        }
    }

    #[test]
    fn when_nothing_works_all_is_told_unless_one_thing_says_more() {
        let faults = |kind| {
            vec![
                (Kind::Quic, Fault::new(FaultKind::Unreachable, "silence")),
                (Kind::Ssh, Fault::new(kind, "no")),
            ]
        };
        let way = way(None);
        let fault = summary(&way, faults(FaultKind::Unreachable));
        assert_eq!(fault.text, "over UDP: silence; over TCP: no");
        let fault = summary(
            &way,
            vec![
                (Kind::Quic, silent(Kind::Quic)),
                (Kind::Ssh, silent(Kind::Ssh)),
            ],
        );
        assert_eq!(fault.text, "no answer over UDP; no answer over TCP");
        let fault = summary(&way, faults(FaultKind::Untrusted));
        assert_eq!(
            (fault.kind, fault.text.as_str()),
            (FaultKind::Untrusted, "no")
        );
        let nameless = Way {
            nameless: Some(Fault::new(FaultKind::Unreachable, "no name")),
            ..way
        };
        let fault = summary(&nameless, faults(FaultKind::Untrusted));
        let text = "no name; at the address it had last: no";
        assert_eq!((fault.kind, &*fault.text), (FaultKind::Untrusted, text));
        let way = self::way(None);
        let mut one = faults(FaultKind::Unreachable);
        one.truncate(1);
        assert_eq!(summary(&way, one).text, "silence");
    }
}

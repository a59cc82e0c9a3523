//! TLS over TCP: what SSH runs in, and what a device joins through.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use protocol::error::CloseCode;
use protocol::message::join::EXPORTED;
use protocol::{JOIN_EXPORTER_LABEL, SERVER_NAME};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::fault;
use super::tcp::{Counted, Counter};
use super::transport::{Fault, FaultKind, Pending, Stream, Traffic, Transport};

/// One round trip and a few signatures. Whoever lets TCP through and TLS not is to be noticed soon
/// enough for something else.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// A connection whose peer is the cluster.
pub(super) type Secured = TlsStream<Counted>;

/// Why there is none.
pub(super) struct Failed {
    pub(super) fault: Fault,
    /// Whether something on the way may have refused TLS.
    pub(super) meddled: bool,
}

/// Makes sure that the peer is the cluster. Its verdict on the node's certificate comes later, with
/// the first bytes.
pub(super) async fn secure(
    tcp: Counted,
    mut config: ClientConfig,
    alpn: &[u8],
) -> Result<Secured, Failed> {
    config.alpn_protocols = vec![alpn.to_vec()];
    let counter = tcp.counter();
    let name = ServerName::try_from(SERVER_NAME).map_err(|error| Failed {
        fault: Fault::local(error),
        meddled: false,
    })?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    match timeout(HANDSHAKE_LIMIT, connecting).await {
        Ok(Ok(tls)) if tls.get_ref().1.alpn_protocol() == Some(alpn) => Ok(tls),
        Ok(Ok(_)) => Err(Failed {
            fault: fault::no_cluster(),
            meddled: false,
        }),
        Ok(Err(error)) => Err(failed(&error, &counter)),
        Err(_) => Err(Failed {
            fault: Fault::new(FaultKind::Unreachable, "no answer to the TLS handshake"),
            meddled: true,
        }),
    }
}

fn failed(error: &std::io::Error, counter: &Counter) -> Failed {
    if counter.get().is_web() {
        let text = "what answers speaks HTTP, as captive portals do: somebody must log in to this \
                    network";
        return Failed {
            fault: Fault::new(FaultKind::Unreachable, text),
            meddled: true,
        };
    }
    let fault = fault::of_stranger(fault::of_io(error));
    // A cluster that is too old says so.
    let meddled = fault != fault::no_cluster();
    Failed { fault, meddled }
}

/// One exchange over TLS: a join.
pub(super) struct Joining {
    exported: [u8; EXPORTED],
    stream: Mutex<Option<Secured>>,
    counter: Counter,
}

impl Joining {
    pub(super) fn new(tls: Secured) -> Result<Self, Fault> {
        let (tcp, session) = tls.get_ref();
        let counter = tcp.counter();
        let exported = session
            .export_keying_material([0; EXPORTED], JOIN_EXPORTER_LABEL, Some(&[]))
            .map_err(Fault::local)?;
        Ok(Self {
            exported,
            stream: Mutex::new(Some(tls)),
            counter,
        })
    }

    fn take(&self) -> Result<Stream, Fault> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let tls = stream
            .take()
            .ok_or_else(|| Fault::local("one exchange only"))?;
        let (reader, writer) = tokio::io::split(tls);
        Ok(Stream {
            reader: Box::new(reader),
            writer: Box::new(writer),
            delivered: Box::pin(std::future::ready(())),
        })
    }
}

impl Transport for Joining {
    fn kind(&self) -> &'static str {
        "tls"
    }

    fn open(&self) -> Pending<'_, Result<Stream, Fault>> {
        Box::pin(std::future::ready(self.take()))
    }

    fn accept(&self) -> Pending<'_, Result<Stream, Fault>> {
        Box::pin(std::future::pending())
    }

    fn ended(&self) -> Option<Fault> {
        None
    }

    fn exported(&self) -> Result<[u8; EXPORTED], Fault> {
        Ok(self.exported)
    }

    fn close(&self, _code: CloseCode) {}

    fn closed(&self) -> Pending<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn traffic(&self) -> Traffic {
        let [sent, received] = self.counter.on_the_wire();
        Traffic {
            sent,
            received,
            heard: self.counter.get().received,
            asked: 0,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use protocol::ALPN_AGENT_SSH;
    use protocol::identity::CaPin;
    use rustls::ServerConfig;
    use rustls::server::{ClientHello, ResolvesServerCert};
    use rustls::sign::CertifiedKey;
    use tokio::net::TcpListener;

    use super::super::connect::Route;
    use super::super::tcp::dial;

    /// Has no certificate to show.
    #[derive(Debug)]
    struct Nobody;

    impl ResolvesServerCert for Nobody {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            None
        }
    }

    /// A server that answers with the alert `access_denied`, and need not be the cluster for it.
    pub(in super::super) fn stranger(alpn: &[u8]) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Nobody));
        config.alpn_protocols = vec![alpn.to_vec()];
        config
    }

    pub(in super::super) fn client() -> ClientConfig {
        crate::trust::by_pin(CaPin([1; 32]), Duration::ZERO).unwrap()
    }

    #[tokio::test]
    async fn an_alert_in_the_handshake_is_nobodys_verdict() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(stranger(ALPN_AGENT_SSH)));
        let serving = async {
            let (tcp, _) = listener.accept().await.unwrap();
            acceptor.accept(tcp).await.unwrap_err()
        };
        let route = Route::to(to.to_string().parse().unwrap());
        let tcp = dial(&route, &Ok(vec![to]), 0).await.ok().unwrap();
        let (ended, _) = tokio::join!(secure(tcp, client(), ALPN_AGENT_SSH), serving);
        let fault = ended.err().unwrap().fault;
        assert_eq!(fault.kind, FaultKind::Unreachable, "{fault}");
    }
}

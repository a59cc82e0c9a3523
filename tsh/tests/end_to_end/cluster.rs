//! A cluster in a thread: API, dials over QUIC and TLS, one node.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use protocol::message::dial::{ClientRequest, DialRefusal, DialReply};
use protocol::message::frame::{HEADER, MAX_FRAME, body_length};
use protocol::message::{Text, decode, encode};
use protocol::{ALPN_CLIENT, SERVER_NAME};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::api::Api;
use crate::ca::{Ca, ssh_key};
use crate::node::Node;

/// What differs between tests.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) udp: bool,
    /// Lifetime of the certificates.
    pub(crate) ttl: Duration,
    /// Names in the node's certificate.
    pub(crate) host_names: Vec<&'static str>,
    pub(crate) logins: Vec<&'static str>,
    /// Sign the host certificate of the node with a foreign CA.
    pub(crate) foreign_host_ca: bool,
    pub(crate) trust_clients: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            udp: true,
            ttl: Duration::from_secs(600),
            host_names: vec!["gateway-1", "gateway-1.lab"],
            logins: vec!["root"],
            foreign_host_ca: false,
            trust_clients: true,
        }
    }
}

/// A running cluster. It runs until the test's process ends.
pub(crate) struct Cluster {
    pub(crate) address: SocketAddr,
    pub(crate) pin: String,
}

impl Cluster {
    pub(crate) fn start(options: Options) -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let address = listener.local_addr().unwrap();
                let shared = Arc::new(Shared::new(&options));
                sender.send((address, shared.host.pin())).unwrap();
                serve(listener, shared, &options).await;
            });
        });
        let (address, pin) = receiver.recv().unwrap();
        Self { address, pin }
    }
}

struct Shared {
    host: Arc<Ca>,
    user: Arc<Ca>,
    api: Api,
    node: Node,
    options: Options,
}

impl Shared {
    fn new(options: &Options) -> Self {
        let (host, user) = (Arc::new(Ca::new()), Arc::new(Ca::new()));
        let key = ssh_key(b"node");
        let signer = if options.foreign_host_ca {
            Arc::new(Ca::new())
        } else {
            host.clone()
        };
        Self {
            node: Node {
                certificate: signer.host(key.public_key(), &options.host_names),
                key,
                logins: vec!["root".into(), "ann".into()],
            },
            api: Api::new(host.clone(), user.clone(), options),
            host,
            user,
            options: options.clone(),
        }
    }

    fn tls(&self, alpn: &[&[u8]]) -> rustls::ServerConfig {
        let roots = if self.options.trust_clients {
            self.user.roots()
        } else {
            Ca::new().roots()
        };
        let (chain, key) = self.host.server(&[SERVER_NAME, "127.0.0.1", "localhost"]);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier(roots, provider))
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|alpn| alpn.to_vec()).collect();
        config
    }
}

fn verifier(
    roots: RootCertStore,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Arc<dyn rustls::server::danger::ClientCertVerifier> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .unwrap()
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, options: &Options) {
    if options.udp {
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve_quic(address, shared.clone()));
    }
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let tls = TlsAcceptor::from(Arc::new(shared.tls(&[b"http/1.1", ALPN_CLIENT])));
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(serve_tcp(socket, tls.clone(), shared.clone()));
    }
}

async fn serve_tcp(socket: TcpStream, tls: TlsAcceptor, shared: Arc<Shared>) {
    socket.set_nodelay(true).unwrap();
    let Ok(stream) = tls.accept(socket).await else {
        return;
    };
    let session = stream.get_ref().1;
    let known = session.peer_certificates().is_some();
    if session.alpn_protocol() == Some(ALPN_CLIENT) {
        assert!(known, "a dial without a certificate");
        dial(stream, &shared).await;
    } else {
        shared.api.serve(stream, known).await;
    }
}

async fn serve_quic(address: SocketAddr, shared: Arc<Shared>) {
    let crypto = QuicServerConfig::try_from(shared.tls(&[ALPN_CLIENT])).unwrap();
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window((16u32 << 20).into())
        .send_window(16 << 20);
    config.transport_config(Arc::new(transport));
    let socket = UdpSocket::bind(address).unwrap();
    let endpoint = Endpoint::new(
        EndpointConfig::default(),
        Some(config),
        socket,
        Arc::new(TokioRuntime),
    );
    let endpoint = endpoint.unwrap();
    while let Some(incoming) = endpoint.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else {
                return;
            };
            while let Ok((send, receive)) = connection.accept_bi().await {
                dial(tokio::io::join(receive, send), &shared).await;
            }
        });
    }
}

async fn dial(mut stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, shared: &Shared) {
    let mut header = [0; HEADER];
    if stream.read_exact(&mut header).await.is_err() {
        return;
    }
    let mut body = vec![0; body_length(header).unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    let ClientRequest::Ssh { target, login } = decode(&body).unwrap();
    let reply = answer(target.as_str(), login.map(Text::as_str));
    let mut buffer = [0; HEADER + MAX_FRAME];
    stream
        .write_all(encode(&reply, &mut buffer).unwrap())
        .await
        .unwrap();
    stream.flush().await.unwrap();
    if reply == DialReply::Accepted {
        shared.node.clone().serve(stream).await;
    } else {
        // The client closes.
        let _ = stream.read_u8().await;
    }
}

fn answer<'a>(target: &'a str, login: Option<&'a str>) -> DialReply<'a> {
    let refused = |reason, text| DialReply::Refused {
        reason,
        text: Text::cut(text),
    };
    match (target, login) {
        (_, Some("toor")) => refused(DialRefusal::Denied, "You may not log in as toor."),
        ("offline", _) => refused(
            DialRefusal::Offline,
            "offline is offline, last seen 3 h ago.",
        ),
        ("twins", _) => refused(
            DialRefusal::AmbiguousName,
            "There are two nodes named twins.",
        ),
        ("gateway-1" | "gateway-1.lab" | "other", _) => DialReply::Accepted,
        _ => refused(
            DialRefusal::UnknownNode,
            "There is no such node. Run: tsh ls",
        ),
    }
}

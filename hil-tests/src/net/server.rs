//! Small servers that scenarios put into the world.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::{Builder, Runtime};

/// A running server, which ends with this, and its connections with it.
pub(super) struct Server {
    addr: SocketAddr,
    runtime: Option<Runtime>,
}

impl Server {
    /// Serves each connection at an address such as `10.213.1.1:0`.
    pub(super) fn tcp<F, S>(addr: &str, serve: S) -> Result<Self>
    where
        S: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let runtime = runtime()?;
        let listener = runtime.block_on(TcpListener::bind(addr));
        let listener = listener.with_context(|| addr.to_owned())?;
        let addr = listener.local_addr()?;
        runtime.spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                // What a client does wrong is its own affair.
                let served = serve(connection);
                tokio::spawn(async { served.await.ok() });
            }
        });
        Ok(Self::new(addr, runtime))
    }

    /// Answers each datagram, or does not.
    pub(super) fn udp<A>(addr: &str, answer: A) -> Result<Self>
    where
        A: Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static,
    {
        let runtime = runtime()?;
        let socket = runtime.block_on(UdpSocket::bind(addr));
        let socket = Arc::new(socket.with_context(|| addr.to_owned())?);
        let addr = socket.local_addr()?;
        runtime.spawn(async move {
            let mut buffer = [0; 2048];
            loop {
                // An error is about an answer before, to somebody who is gone.
                let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                    continue;
                };
                if let Some(said) = buffer.get(..length).and_then(&answer) {
                    socket.send_to(&said, from).await.ok();
                }
            }
        });
        Ok(Self::new(addr, runtime))
    }

    fn new(addr: SocketAddr, runtime: Runtime) -> Self {
        Self {
            addr,
            runtime: Some(runtime),
        }
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?)
}

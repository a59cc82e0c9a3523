//! How a link's sockets are tuned.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

/// What is sent must be acknowledged within this time. Left alone, Linux tries for 15 minutes and
/// more; a heartbeat is given 10 s after 25 s of silence.
const USER_TIMEOUT: Duration = Duration::from_secs(35);

/// Makes a socket send at once, and notice in time that nobody takes what it sends.
///
/// # Errors
/// What the kernel says.
pub fn tune(tcp: &impl AsFd) -> io::Result<()> {
    // Nagle's algorithm makes two small writes wait for the peer's delayed acknowledgement.
    setsockopt(tcp, sockopt::TcpNoDelay, &true)?;
    let timeout = u32::try_from(USER_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
    setsockopt(tcp, sockopt::TcpUserTimeout, &timeout)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::getsockopt;
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn a_socket_takes_what_it_is_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        tune(&tcp).unwrap();
        assert!(tcp.nodelay().unwrap());
        assert_eq!(getsockopt(&tcp, sockopt::TcpUserTimeout).unwrap(), 35_000);
    }
}

//! How sockets are tuned.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

/// What is sent must be acknowledged within this time. Left alone, Linux tries for 15 minutes and
/// more; a heartbeat is given 10 s after 25 s of silence.
const USER_TIMEOUT: Duration = Duration::from_secs(35);

/// Seconds of silence before the kernel asks whether the other end is still there, between two such
/// questions, and how many may go unanswered: a dead line is noticed within a minute.
const KEEPALIVE: (u32, u32, u32) = (30, 10, 3);

/// Makes a socket notice that the other end is gone, although nothing is to be sent. For people's
/// connections: a link has heartbeats of its own, as far apart as its network allows.
///
/// # Errors
/// What the kernel says.
pub fn keep_alive(tcp: &impl AsFd) -> io::Result<()> {
    let (idle, interval, count) = KEEPALIVE;
    setsockopt(tcp, sockopt::KeepAlive, &true)?;
    setsockopt(tcp, sockopt::TcpKeepIdle, &idle)?;
    setsockopt(tcp, sockopt::TcpKeepInterval, &interval)?;
    setsockopt(tcp, sockopt::TcpKeepCount, &count)?;
    Ok(())
}

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
        assert!(!getsockopt(&tcp, sockopt::KeepAlive).unwrap());
        keep_alive(&tcp).unwrap();
        assert!(getsockopt(&tcp, sockopt::KeepAlive).unwrap());
        let asked = (
            getsockopt(&tcp, sockopt::TcpKeepIdle).unwrap(),
            getsockopt(&tcp, sockopt::TcpKeepInterval).unwrap(),
            getsockopt(&tcp, sockopt::TcpKeepCount).unwrap(),
        );
        assert_eq!(asked, KEEPALIVE);
    }
}

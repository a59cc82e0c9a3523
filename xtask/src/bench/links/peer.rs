//! The peer: autossh and sshd on the device, a gateway's sshd in the world, reached by `ssh -J`.

use std::ffi::OsString;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use hil_tests::cluster::{Accounts, READY};
use hil_tests::net::emulator::Emulator;
use hil_tests::process::Daemon;

use super::Side;
use crate::bench::openssh::{Server, free_port, prepare, sshd, write_client_config};

pub(in crate::bench) struct Peer {
    dir: PathBuf,
    links: Arc<Emulator>,
    gateway_port: u16,
    tunnel: Tunnel,
    config: PathBuf,
    // Dropped in this order: the tunnel before the servers it connects.
    autossh: Mutex<Option<Daemon>>,
    _device: Daemon,
    _gateway: Daemon,
}

/// What `ssh -R` is told.
struct Tunnel {
    config: PathBuf,
    forward: String,
    port: u16,
}

impl Peer {
    pub(in crate::bench) fn start(
        dir: &Path,
        links: &Arc<Emulator>,
        accounts: Option<&Accounts>,
    ) -> Result<Self> {
        prepare(dir)?;
        let [gateway_port, device_port, port] = [free_port()?, free_port()?, free_port()?];
        let host = links.host_addr();
        let gateway = sshd(dir, "gateway", &format!("0.0.0.0:{gateway_port}"), None)?;
        let device = sshd(dir, "device", &format!("127.0.0.1:{device_port}"), accounts)?;
        let (program, gateway) = split(gateway)?;
        let mut command = Command::new(program);
        let mut gateway = Daemon::start(command.args(gateway.words), &gateway.log)?;
        gateway.wait_until("a gateway", READY, || {
            TcpStream::connect((host.as_str(), gateway_port)).ok()
        })?;
        let (program, device) = split(device)?;
        let mut command = links.command(Path::new(&program));
        let mut device = Daemon::start(command.args(device.words), &device.log)?;
        let connect = || TcpStream::connect(("127.0.0.1", device_port)).ok();
        device.wait_until("sshd on the device", READY, || {
            links.on_device(connect).ok().flatten()
        })?;
        let peer = Self {
            dir: dir.to_owned(),
            links: Arc::clone(links),
            gateway_port,
            tunnel: Tunnel {
                config: write_client_config(dir, &host, gateway_port, port)?,
                forward: format!("127.0.0.1:{port}:127.0.0.1:{device_port}"),
                port,
            },
            config: write_client_config(dir, "127.0.0.1", gateway_port, port)?,
            autossh: Mutex::new(None),
            _device: device,
            _gateway: gateway,
        };
        peer.reconnect()?;
        Ok(peer)
    }

    /// Makes the tunnel anew, with what is TCP on the device by now.
    pub(super) fn reconnect(&self) -> Result<()> {
        let mut autossh = self.autossh.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = autossh.take() {
            running.stop()?;
        }
        let mut command = self.links.command(Path::new("autossh"));
        command
            // Without its own probes, and from the first failure on: as its manual advises.
            .args(["-M", "0"])
            .env("AUTOSSH_GATETIME", "0")
            .arg("-F")
            .arg(&self.tunnel.config)
            .args(["-N", "-o", "ExitOnForwardFailure=yes"])
            .args([
                "-o",
                "ServerAliveInterval=30",
                "-o",
                "ServerAliveCountMax=3",
            ])
            .args(["-R", &self.tunnel.forward, "gateway"]);
        let mut daemon = Daemon::start(&mut command, &self.dir.join("autossh.log"))?;
        daemon.wait_until("a tunnel", READY, || {
            TcpStream::connect(("127.0.0.1", self.tunnel.port)).ok()
        })?;
        *autossh = Some(daemon);
        Ok(())
    }
}

impl Side for Peer {
    fn name(&self) -> &'static str {
        "autossh"
    }

    fn client_with(&self, options: &[&str], command: &str) -> Result<Command> {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(&self.config).args(options);
        ssh.args(["-J", "gateway", "device", command]);
        Ok(ssh)
    }

    fn port(&self) -> u16 {
        self.gateway_port
    }

    /// The socket that the gateway listens on for the device (proc(5), `/proc/net/tcp`).
    fn tunnel(&self) -> Option<String> {
        const LISTENS: &str = "0A";
        let sockets = std::fs::read_to_string("/proc/net/tcp").ok()?;
        let local = format!("0100007F:{:04X}", self.tunnel.port);
        let mut sockets = sockets.lines().map(|line| line.split_whitespace());
        sockets.find_map(|mut fields| {
            let of_ours = fields.nth(1)? == local && fields.nth(1)? == LISTENS;
            of_ours.then(|| fields.nth(5).map(str::to_owned))?
        })
    }
}

fn split(mut server: Server) -> Result<(OsString, Server)> {
    let program = server.words.first().context("nothing to start")?.clone();
    server.words.remove(0);
    Ok((program, server))
}

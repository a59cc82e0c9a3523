//! The peer: a device's sshd behind `ssh -R` to a gateway's sshd, reached by `ssh -J`.

use std::any::Any;
use std::ffi::OsString;
use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use hil_tests::cluster::{Accounts, READY};
use hil_tests::process::{Daemon, run};

use super::Side;

const SSHD: &str = "/usr/sbin/sshd";

pub(super) struct OpenSsh {
    config: PathBuf,
    dir: PathBuf,
    // Dropped in this order: the tunnel before the servers it connects.
    tunnel: Daemon,
    device: Daemon,
    gateway: Daemon,
}

impl OpenSsh {
    pub(super) fn start(dir: &Path, accounts: Option<&Accounts>) -> Result<Self> {
        prepare(dir)?;
        let ports = [free_port()?, free_port()?, free_port()?];
        let [gateway_port, device_port, tunnel_port] = ports;
        let config = write_client_config(dir, "127.0.0.1", gateway_port, tunnel_port)?;
        let here = |port| format!("127.0.0.1:{port}");
        let mut gateway = start(sshd(dir, "gateway", &here(gateway_port), None)?)?;
        let mut device = start(sshd(dir, "device", &here(device_port), accounts)?)?;
        for (daemon, port) in [(&mut gateway, gateway_port), (&mut device, device_port)] {
            daemon.wait_until("sshd", READY, || {
                TcpStream::connect(("127.0.0.1", port)).ok()
            })?;
        }
        let mut command = Command::new("ssh");
        command
            .arg("-F")
            .arg(&config)
            .args(["-N", "-o", "ExitOnForwardFailure=yes", "-R"]);
        command
            .arg(format!("127.0.0.1:{tunnel_port}:127.0.0.1:{device_port}"))
            .arg("gateway");
        let mut tunnel = Daemon::start(&mut command, &dir.join("tunnel.log"))?;
        tunnel.wait_until("the tunnel", READY, || {
            TcpStream::connect(("127.0.0.1", tunnel_port)).ok()
        })?;
        Ok(Self {
            config,
            dir: dir.to_owned(),
            tunnel,
            device,
            gateway,
        })
    }

    fn ssh(&self, command: &str) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F")
            .arg(&self.config)
            .args(["-J", "gateway", "device", command]);
        ssh
    }
}

impl Side for OpenSsh {
    fn exec(&self, command: &str, stdin: &str, stdout: &str) -> Result<()> {
        to_end(&mut self.ssh(command), stdin, stdout)
    }

    fn daemons(&self) -> Vec<u32> {
        vec![self.gateway.id(), self.device.id(), self.tunnel.id()]
    }

    fn device(&self) -> Vec<u32> {
        vec![self.device.id(), self.tunnel.id()]
    }

    fn hold_session(&self) -> Result<Box<dyn Any>> {
        let log = self.dir.join("held.log");
        let mut daemon = Daemon::start(&mut self.ssh("echo up; exec sleep 600"), &log)?;
        daemon.wait_until("a session", READY, || {
            std::fs::read_to_string(&log)
                .unwrap_or_default()
                .contains("up")
                .then_some(())
        })?;
        Ok(Box::new(daemon))
    }

    fn size(&self) -> Result<u64> {
        let ssh = run(Command::new("sh").args(["-c", "command -v ssh"]), b"")?.ok()?;
        Ok(std::fs::metadata(SSHD)?.len() + std::fs::metadata(ssh.trim())?.len())
    }
}

/// Runs a client to its end between two files.
pub(super) fn to_end(command: &mut Command, stdin: &str, stdout: &str) -> Result<()> {
    command
        .stdin(File::open(stdin)?)
        .stdout(File::options().write(true).open(stdout)?);
    let status = command.stderr(Stdio::inherit()).status()?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// Makes the keys that everybody uses.
pub(super) fn prepare(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    // sshd's own folder for privilege separation, which its service unit would make.
    std::fs::create_dir_all("/run/sshd").ok();
    for key in ["client", "host"] {
        let mut make = Command::new("ssh-keygen");
        make.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
        run(make.arg(dir.join(key)), b"")?.ok()?;
    }
    std::fs::copy(dir.join("client.pub"), dir.join("authorized_keys"))?;
    Ok(())
}

/// A program with its arguments, and where its output goes.
pub(super) struct Server {
    pub(super) words: Vec<OsString>,
    pub(super) log: PathBuf,
}

/// A server at this address, such as `127.0.0.1:22`.
pub(super) fn sshd(
    dir: &Path,
    name: &str,
    addr: &str,
    accounts: Option<&Accounts>,
) -> Result<Server> {
    let path = dir.join(format!("{name}.conf"));
    let dir_shown = dir.display();
    let lines = format!(
        "ListenAddress {addr}\nHostKey {dir_shown}/host\nAuthorizedKeysFile {dir_shown}/authorized_keys\n\
         PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nMaxStartups 100\nUseDNS no\n\
         ClientAliveInterval 30\nClientAliveCountMax 3\n"
    );
    std::fs::write(&path, lines)?;
    let mut words = accounts.map_or_else(Vec::new, |accounts| accounts.before(None));
    words.extend([SSHD, "-D", "-e", "-f"].map(OsString::from));
    words.push(path.into());
    Ok(Server {
        words,
        log: dir.join(format!("{name}.log")),
    })
}

fn start(server: Server) -> Result<Daemon> {
    let (program, arguments) = server.words.split_first().context("nothing to start")?;
    Daemon::start(Command::new(program).args(arguments), &server.log)
}

/// Writes how to get to a gateway, and through its end of the tunnel to the device.
pub(super) fn write_client_config(
    dir: &Path,
    gateway: &str,
    gateway_port: u16,
    tunnel_port: u16,
) -> Result<PathBuf> {
    let host = std::fs::read_to_string(dir.join("host.pub"))?;
    std::fs::write(dir.join("known_hosts"), format!("* {host}"))?;
    let path = dir.join(format!("{gateway}.conf"));
    let shown = dir.display();
    let me = hil_tests::cluster::me();
    let lines = format!(
        "Host gateway\n  HostName {gateway}\n  Port {gateway_port}\n\
         Host device\n  HostName 127.0.0.1\n  Port {tunnel_port}\nHost *\n  User {me}\n\
         \x20 IdentityFile {shown}/client\n  IdentitiesOnly yes\n  UserKnownHostsFile {shown}/known_hosts\n\
         \x20 GlobalKnownHostsFile /dev/null\n  BatchMode yes\n  LogLevel ERROR\n"
    );
    std::fs::write(&path, lines)?;
    Ok(path)
}

pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

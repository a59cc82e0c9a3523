//! A board in QEMU: its serial line and its control socket are Unix sockets, its network is QEMU's
//! own, in which this machine's loopback is [`GATEWAY`], and its data partition is a [`Disk`].

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cross::target::Target;
use cross::target::board::Board;
use images::Rootfs;
use serde_json::json;

use super::console::Console;
use super::disk::Disk;
use super::qmp::Qmp;
use super::{Device, Link, Storage};
use crate::process::{Daemon, poll};
use crate::time::shown;

/// This machine's loopback, TCP and UDP, as QEMU's own network shows it to the board.
pub const GATEWAY: &str = "10.0.2.2";
/// QEMU opens its sockets first of all; a busy machine may take a while to start it.
const START_LIMIT: Duration = Duration::from_secs(60);
/// A file system that is written to at all is written to within this time.
const WRITE_LIMIT: Duration = Duration::from_secs(120);
/// What every kernel is told.
const FIXED_ARGS: &[&str] = &[
    "root=/dev/vda",
    "rootfstype=squashfs",
    "ro",
    "quiet",
    "loglevel=3",
    "printk.time=1",
];
/// What chance starts from, where a scenario does not choose.
const SEED: u64 = 0x7e7e;

/// How the board's network card is connected.
#[derive(Debug, Clone, Default)]
pub enum Network {
    /// Through QEMU, which plays router, NAT and DHCP server.
    #[default]
    User,
    /// To a tap device that somebody has made.
    Tap {
        /// Its name.
        interface: String,
        /// This machine's address behind it.
        host: String,
    },
}

/// An emulated board.
pub struct Emulated {
    target: Target,
    board: Board,
    images: Rootfs,
    dir: PathBuf,
    network: Network,
    disk: Disk,
    clock: Option<u64>,
    starts: u32,
    running: Option<Running>,
}

/// With power.
struct Running {
    console: Console,
    qmp: Qmp,
    daemon: Daemon,
    disk: JoinHandle<()>,
}

impl Emulated {
    /// A board of this target, without power. Images and logs are in the folder `dir`.
    ///
    /// # Errors
    /// If the target has no board, the emulator is missing or the images cannot be made.
    pub fn new(target: &Target, agent: &Path, dir: &Path) -> Result<Self> {
        let name = &target.name;
        let board = target
            .board
            .clone()
            .with_context(|| format!("{name} has no board"))?;
        if !cross::tools::exists(&board.qemu.program) {
            let (program, package) = (&board.qemu.program, &board.qemu.package);
            bail!(
                "{program} is missing (package {package}): the board with {name} runs in it; \
                 `cargo xtask test` installs it"
            );
        }
        let images = images::rootfs(target, agent, dir)?;
        let disk = Disk::new(std::fs::read(&images.data)?, SEED)?;
        Ok(Self {
            target: target.clone(),
            board,
            images,
            dir: dir.to_owned(),
            network: Network::default(),
            disk,
            clock: None,
            starts: 0,
            running: None,
        })
    }

    /// Connects it otherwise than through QEMU; from the next start on.
    #[must_use]
    pub fn with_network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Its data partition.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Process id of the emulator, if it has power.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.daemon.id())
    }

    /// What its console has said since it was made.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.dir.join("serial.log")
    }

    fn command(&self, sockets: &Sockets) -> Command {
        let board = &self.board;
        // If we are killed, the emulator goes, too.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", &board.qemu.program]);
        command.args(&board.qemu.args);
        command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        command.args(["-m", &format!("{}k", board.memory.bytes() >> 10)]);
        command.arg("-kernel").arg(&self.images.kernel);
        if let Some(dtb) = &self.images.dtb {
            command.arg("-dtb").arg(dtb);
        }
        if let Some(initramfs) = &self.images.initramfs {
            command.arg("-initrd").arg(initramfs);
        }
        let mut kernel = format!("console={}", board.console);
        for word in FIXED_ARGS
            .iter()
            .copied()
            .chain(board.kernel_args.iter().map(String::as_str))
        {
            kernel.push(' ');
            kernel += word;
        }
        command.args(["-append", &kernel]);
        if let Some(seconds) = self.clock {
            // QEMU takes the letter for UTC amiss.
            let base = shown(seconds);
            let base = base.trim_end_matches('Z');
            command.args(["-rtc", &format!("base={base},clock=host")]);
        }
        let chardev = |id: &str, path: &Path| format!("socket,id={id},path={}", path.display());
        command.args(["-chardev", &chardev("serial", &sockets.serial)]);
        command.args(["-serial", "chardev:serial"]);
        command.args(["-chardev", &chardev("control", &sockets.control)]);
        command.args(["-mon", "chardev=control,mode=control"]);
        let root = self.images.root.display();
        let root = format!("driver=file,node-name=root,read-only=on,filename={root}");
        let data = sockets.data.display();
        let read_only = if self.disk.is_read_only() {
            "on"
        } else {
            "off"
        };
        let data = format!(
            "driver=nbd,node-name=data,read-only={read_only},server.type=unix,server.path={data}"
        );
        for (drive, name) in [(root, "root"), (data, "data")] {
            command.args(["-blockdev", &drive]);
            command.args(["-device", &format!("{},drive={name}", board.disk)]);
        }
        let netdev = match &self.network {
            Network::User => "user,id=net".into(),
            Network::Tap { interface, .. } => {
                format!("tap,id=net,ifname={interface},script=no,downscript=no")
            }
        };
        command.args(["-netdev", &netdev]);
        command.args(["-device", &format!("{},netdev=net,id=nic", board.nic)]);
        command
    }

    /// Gives how many sectors were lost.
    fn cut(&mut self) -> Result<u32> {
        let name = &self.target.name;
        let running = self
            .running
            .take()
            .with_context(|| format!("{name} has no power"))?;
        running.daemon.kill();
        // The disk has then seen all that the board has sent it.
        let ended = running.disk.join();
        ended.map_err(|_| anyhow::anyhow!("the disk of {name} has failed"))?;
        Ok(self.disk.cut().1)
    }

    fn running(&mut self) -> Result<&mut Running> {
        let name = &self.target.name;
        self.running
            .as_mut()
            .with_context(|| format!("{name} has no power"))
    }
}

impl Device for Emulated {
    fn name(&self) -> &str {
        &self.target.name
    }

    fn target(&self) -> &Target {
        &self.target
    }

    fn host(&self) -> &str {
        match &self.network {
            Network::User => GATEWAY,
            Network::Tap { host, .. } => host,
        }
    }

    fn install(&mut self, files: &[(&str, &str)]) -> Result<()> {
        anyhow::ensure!(self.running.is_none(), "{} has power", self.target.name);
        images::disk::data(&self.images.data, files)?;
        self.disk = Disk::new(std::fs::read(&self.images.data)?, SEED)?;
        Ok(())
    }

    fn power_on(&mut self) -> Result<()> {
        anyhow::ensure!(
            self.running.is_none(),
            "{} has power already",
            self.target.name
        );
        self.starts += 1;
        let sockets = Sockets::new(&self.dir, self.starts);
        let serial = listen(&sockets.serial)?;
        let control = listen(&sockets.control)?;
        let disk = self.disk.serve(&sockets.data)?;
        let log = self.dir.join("qemu.log");
        let mut daemon = Daemon::start(&mut self.command(&sockets), &log)?;
        let serial = connection(&mut daemon, &serial)?;
        let control = connection(&mut daemon, &control)?;
        let qmp = Qmp::new(control).with_context(|| daemon.log())?;
        self.running = Some(Running {
            console: Console::new(OwnedFd::from(serial), &self.log_file())?,
            qmp,
            daemon,
            disk,
        });
        Ok(())
    }

    fn cut_power(&mut self) -> Result<()> {
        self.cut().map(drop)
    }

    fn cut_power_at_write(&mut self, n: u32) -> Result<Option<u32>> {
        self.disk.fail_at_write(u64::from(n));
        let failed = poll(WRITE_LIMIT, || self.disk.has_failed().then_some(()));
        let lost = self.cut()?;
        let name = &self.target.name;
        failed
            .with_context(|| format!("{name} has not written {n} times within {WRITE_LIMIT:?}"))?;
        Ok(Some(lost))
    }

    fn console(&mut self) -> Result<&mut Console> {
        Ok(&mut self.running()?.console)
    }

    fn set_link(&mut self, link: Link) -> Result<()> {
        let up = link == Link::Up;
        self.running()?
            .qmp
            .execute("set_link", &json!({"name": "nic", "up": up}))
    }

    fn set_storage(&mut self, storage: Storage) -> Result<()> {
        self.disk.set_read_only(storage == Storage::ReadOnly);
        Ok(())
    }

    fn set_clock(&mut self, seconds: u64) -> Result<()> {
        self.clock = Some(seconds);
        Ok(())
    }
}

/// Where QEMU finds its ends.
struct Sockets {
    serial: PathBuf,
    control: PathBuf,
    data: PathBuf,
}

impl Sockets {
    fn new(dir: &Path, start: u32) -> Self {
        let path = |name: &str| dir.join(format!("{name}-{start}.sock"));
        Self {
            serial: path("serial"),
            control: path("control"),
            data: path("data"),
        }
    }
}

/// We listen and QEMU connects, so that nothing is said to nobody.
fn listen(path: &Path) -> Result<UnixListener> {
    let listener = UnixListener::bind(path).with_context(|| path.display().to_string())?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn connection(daemon: &mut Daemon, listener: &UnixListener) -> Result<UnixStream> {
    let stream = daemon.wait_until("QEMU is there", START_LIMIT, || {
        listener.accept().ok().map(|(stream, _)| stream)
    })?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

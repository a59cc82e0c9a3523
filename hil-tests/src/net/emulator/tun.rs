//! TUN devices: network interfaces whose packets a program reads and writes. The only unsafe code
//! of this crate.
#![allow(
    unsafe_code,
    reason = "naming a TUN device is an ioctl, which has no safe form; it says why it is sound"
)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, Result, ensure};
use nix::libc;

const DEVICE: &str = "/dev/net/tun";

nix::ioctl_write_ptr_bad!(
    tunsetiff,
    nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()),
    libc::ifreq
);

/// A TUN device, which goes away with this, in whatever namespace it is by then.
pub(super) struct Tun {
    file: File,
}

impl Tun {
    /// Makes one of this name in this namespace.
    ///
    /// # Errors
    /// If the kernel or missing rights do not allow it, or the name is taken.
    pub(super) fn new(name: &str) -> Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(DEVICE)
            .context(DEVICE)?;
        let mut request = request(name)?;
        // SAFETY: the descriptor is open for as long as `file` is, and TUNSETIFF reads and writes
        // one `ifreq` behind a pointer that is valid for both during the call.
        unsafe { tunsetiff(file.as_raw_fd(), &raw mut request) }
            .with_context(|| format!("making the TUN device {name}"))?;
        Ok(Self { file })
    }

    /// Reads one packet; nothing if there is none.
    ///
    /// # Errors
    /// If the device is gone.
    pub(super) fn read(&self, buffer: &mut [u8]) -> std::io::Result<Option<Vec<u8>>> {
        match (&self.file).read(buffer) {
            Ok(length) => Ok(buffer.get(..length).map(<[u8]>::to_vec)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes one packet, which is lost if the interface is down.
    pub(super) fn write(&self, packet: &[u8]) {
        (&self.file).write_all(packet).ok();
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn request(name: &str) -> Result<libc::ifreq> {
    let mut bytes = [0; libc::IFNAMSIZ];
    ensure!(name.len() < bytes.len(), "too long for a device: {name}");
    for (place, byte) in bytes.iter_mut().zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
    Ok(libc::ifreq {
        ifr_name: bytes,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: flags as libc::c_short,
        },
    })
}

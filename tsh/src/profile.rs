//! What `tsh` remembers: one directory, `$TSH_HOME` or `~/.tsh`.
//!
//! ```text
//! profile.json                      the proxy last logged in to
//! keys/<host>_<port>/profile.json   user, cluster, what the login allows, until when
//!                   /ca.pem         the host CA: whom to trust at this address
//!                   /known_hosts    the same for OpenSSH
//!                   /key  key.pub  key-cert.pub      SSH key and certificate
//!                   /x509.pem  x509.key              the same key for TLS
//! ```
//!
//! Directories are 0700, files 0600 and replaced in one step. `profile.json` is written last, so a
//! login that was interrupted leaves no profile that promises more than there is. Logging out
//! removes keys and certificates but keeps user and CA: whom to trust is not forgotten.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::address::ProxyAddr;
use crate::error::{Exit, fail};

pub(crate) mod files;
pub(crate) mod identity;
pub(crate) mod trusted;

pub(crate) use identity::Identity;
pub(crate) use trusted::Trusted;

/// Certificates are taken as expired this long before they are, so that none expires on its way.
const EXPIRY_MARGIN: std::time::Duration = std::time::Duration::from_secs(1);

/// The whole directory.
#[derive(Debug, Clone)]
pub(crate) struct Home(PathBuf);

/// The file that names the current proxy.
#[derive(Debug, Serialize, Deserialize)]
struct Current {
    proxy: ProxyAddr,
}

impl Home {
    /// The directory that the environment names.
    pub(crate) fn from_env() -> Result<Self> {
        if let Some(path) = std::env::var_os("TSH_HOME").filter(|path| !path.is_empty()) {
            return Ok(Self(std::path::absolute(path)?));
        }
        let home = std::env::home_dir()
            .filter(|path| !path.as_os_str().is_empty())
            .ok_or_else(|| fail(Exit::Usage, "There is no home directory. Set TSH_HOME."))?;
        Ok(Self(home.join(".tsh")))
    }

    /// A directory anywhere.
    #[cfg(test)]
    pub(crate) const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The proxy last logged in to.
    pub(crate) fn current(&self) -> Result<Option<ProxyAddr>> {
        let current: Option<Current> = files::read_json(&self.0.join("profile.json"))?;
        Ok(current.map(|current| current.proxy))
    }

    /// Makes a proxy the current one.
    pub(crate) fn set_current(&self, proxy: &ProxyAddr) -> Result<()> {
        files::make_dir(&self.0)?;
        let current = Current {
            proxy: proxy.clone(),
        };
        files::write_json(&self.0.join("profile.json"), &current)
    }

    /// What is remembered of one proxy.
    pub(crate) fn entry(&self, proxy: &ProxyAddr) -> Entry {
        Entry {
            home: self.0.clone(),
            dir: self.0.join("keys").join(proxy.file_name()),
        }
    }
}

/// The directory of one proxy.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    home: PathBuf,
    dir: PathBuf,
}

/// Who the user is at one proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Profile {
    /// Where the cluster is.
    pub(crate) proxy: ProxyAddr,
    /// What it is called.
    pub(crate) cluster: String,
    /// The Tether user.
    pub(crate) user: String,
    /// Counts the changes of the cluster's CAs.
    pub(crate) trust_serial: u64,
    /// The last login, until a logout.
    pub(crate) session: Option<Session>,
}

/// What a login allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// The user's roles.
    pub(crate) roles: Vec<String>,
    /// OS users the user may become.
    pub(crate) logins: Vec<String>,
    /// End of the certificates.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) expires: OffsetDateTime,
}

impl Session {
    /// Whether the certificates are still good.
    pub(crate) fn is_valid(&self, now: OffsetDateTime) -> bool {
        now + EXPIRY_MARGIN < self.expires
    }
}

impl Entry {
    /// A file of this entry.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The profile, if there ever was a login.
    pub(crate) fn profile(&self) -> Result<Option<Profile>> {
        files::read_json(&self.path("profile.json"))
    }

    /// The CA of the cluster behind this address, if there ever was a login.
    pub(crate) fn trusted(&self) -> Result<Option<Trusted>> {
        Trusted::load(self)
    }

    /// Key and certificates, as used by TLS and SSH.
    pub(crate) fn identity(&self) -> Result<Identity> {
        Identity::load(self).with_context(|| {
            format!(
                "The login stored in {} is damaged; run `tsh login`",
                self.dir.display()
            )
        })
    }

    /// Stores a login.
    pub(crate) fn store(
        &self,
        profile: &Profile,
        trusted: &Trusted,
        identity: &Identity,
    ) -> Result<()> {
        self.make()?;
        trusted.store(self, &profile.cluster)?;
        identity.store(self)?;
        self.store_profile(profile)
    }

    /// Forgets the login, but not the user and the CA. Says whether there was one.
    pub(crate) fn forget_login(&self) -> Result<bool> {
        let mut had_key = false;
        for name in identity::FILES {
            had_key |= files::remove(&self.path(name))?;
        }
        if let Some(mut profile) = self.profile()? {
            profile.session = None;
            self.store_profile(&profile)?;
        }
        Ok(had_key)
    }

    fn make(&self) -> Result<()> {
        files::make_dir(&self.home)?;
        files::make_dir(&self.home.join("keys"))?;
        files::make_dir(&self.dir)
    }

    fn store_profile(&self, profile: &Profile) -> Result<()> {
        files::write_json(&self.path("profile.json"), profile)
    }
}

#[cfg(test)]
pub(crate) mod tests;

//! Packages of other architectures, through an apt root of their own: nothing of the host's is
//! touched, and no right is needed. What was unpacked once is never asked for again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use cross::cache;

use crate::command::{output, run};

/// Names the archive, if not the one that the host's apt uses.
pub const MIRROR: &str = "TETHER_DEBIAN_MIRROR";
/// Signs Debian's archives.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Unpacks the newest release of a package, and gives the folder.
///
/// # Errors
/// If the package is not in the cache and cannot be had.
pub fn package(suite: &str, architecture: &str, name: &str) -> Result<PathBuf> {
    let place = Place::new(suite, architecture)?;
    let _lock = place.lock()?;
    let unpacked = place.dir.join("unpacked").join(name);
    if !unpacked.exists() {
        let wanted = format!("{name} of Debian {suite} for {architecture}");
        place
            .unpack(name, &unpacked)
            .with_context(|| format!("{wanted} cannot be had"))?;
    }
    Ok(unpacked)
}

/// As [`package`], for the package that a metapackage names today, such as a kernel's.
///
/// # Errors
/// If the package is not in the cache and cannot be had.
pub fn named_by(suite: &str, architecture: &str, metapackage: &str) -> Result<PathBuf> {
    let place = Place::new(suite, architecture)?;
    let lock = place.lock()?;
    let note = place.dir.join(format!("{metapackage}.names"));
    if !note.exists() {
        std::fs::write(&note, place.dependency(metapackage)?)?;
    }
    drop(lock);
    package(suite, architecture, &std::fs::read_to_string(&note)?)
}

/// Unpacks a source package, and gives the folder of its sources.
///
/// # Errors
/// If the package is not in the cache and cannot be had.
pub fn source(suite: &str, name: &str) -> Result<PathBuf> {
    let place = Place::new(suite, "amd64")?;
    let _lock = place.lock()?;
    let unpacked = place.dir.join("sources").join(name);
    if !unpacked.exists() {
        place
            .unpack_source(name, &unpacked)
            .with_context(|| format!("the source of {name} cannot be had"))?;
    }
    Ok(unpacked)
}

/// An apt root.
struct Place {
    suite: String,
    architecture: String,
    dir: PathBuf,
}

impl Place {
    fn new(suite: &str, architecture: &str) -> Result<Self> {
        let dir = cache::dir("apt")?.join(format!("{suite}-{architecture}"));
        std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        Ok(Self {
            suite: suite.into(),
            architecture: architecture.into(),
            dir,
        })
    }

    fn lock(&self) -> Result<File> {
        let lock = File::create(self.dir.join("lock"))?;
        lock.lock()?;
        Ok(lock)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", self.dir.join("apt.conf"))
            .env("LC_ALL", "C")
            .current_dir(&self.dir);
        command
    }

    /// Fetches the lists, unless they are there.
    fn update(&self) -> Result<()> {
        let done = self.dir.join("updated");
        if done.exists() {
            return Ok(());
        }
        ensure!(
            Path::new(KEYRING).exists(),
            "there is no {KEYRING}; install the package debian-archive-keyring"
        );
        let dir = self.dir.display();
        for folder in ["lists/partial", "archives/partial", "preferences.d"] {
            std::fs::create_dir_all(self.dir.join(folder))?;
        }
        std::fs::write(self.dir.join("status"), "")?;
        let (mirror, suite) = (mirror()?, &self.suite);
        let sources = format!(
            "deb [signed-by={KEYRING}] {mirror} {suite} main\n\
             deb-src [signed-by={KEYRING}] {mirror} {suite} main\n"
        );
        std::fs::write(self.dir.join("sources.list"), sources)?;
        let config = format!(
            "Dir::Etc::sourcelist \"{dir}/sources.list\";\n\
             Dir::Etc::sourceparts \"-\";\n\
             Dir::Etc::preferencesparts \"{dir}/preferences.d\";\n\
             Dir::State::lists \"{dir}/lists\";\n\
             Dir::State::status \"{dir}/status\";\n\
             Dir::Cache::archives \"{dir}/archives\";\n\
             Dir::Cache::pkgcache \"\";\n\
             Dir::Cache::srcpkgcache \"\";\n\
             APT::Architecture \"{0}\";\n\
             APT::Architectures \"{0}\";\n\
             APT::Sandbox::User \"root\";\n\
             Acquire::Languages \"none\";\n",
            self.architecture
        );
        std::fs::write(self.dir.join("apt.conf"), config)?;
        run(self.apt("apt-get").args(["-qq", "update"]))?;
        Ok(std::fs::write(done, "")?)
    }

    fn unpack(&self, name: &str, to: &Path) -> Result<()> {
        self.update()?;
        run(self.apt("apt-get").args(["-qq", "download", name]))?;
        let start = format!("{name}_");
        let archive = self.find(|file| file.starts_with(&start) && file.ends_with(".deb"))?;
        self.whole(to, |partial| {
            run(Command::new("dpkg-deb")
                .arg("--extract")
                .arg(&archive)
                .arg(partial))
        })?;
        Ok(std::fs::remove_file(archive)?)
    }

    fn unpack_source(&self, name: &str, to: &Path) -> Result<()> {
        self.update()?;
        let download = ["-qq", "source", "--download-only", name];
        run(self.apt("apt-get").args(download))?;
        let description = self.find(|file| file.ends_with(".dsc"))?;
        self.whole(to, |partial| {
            run(Command::new("dpkg-source")
                .args(["--no-check", "--extract"])
                .arg(description)
                .arg(partial.join("source")))
        })
    }

    /// Fills a folder that appears as a whole or not at all.
    fn whole(&self, to: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let partial = self.dir.join("partial");
        if partial.exists() {
            std::fs::remove_dir_all(&partial)?;
        }
        std::fs::create_dir_all(&partial)?;
        fill(&partial)?;
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent)?;
        }
        Ok(std::fs::rename(partial, to)?)
    }

    fn find(&self, fits: impl Fn(&str) -> bool) -> Result<PathBuf> {
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(&fits) {
                return Ok(entry.path());
            }
        }
        bail!("apt-get has fetched nothing into {}", self.dir.display())
    }

    /// The first package that a package depends on.
    fn dependency(&self, name: &str) -> Result<String> {
        self.update()?;
        let shown = output(
            self.apt("apt-cache")
                .args(["show", "--no-all-versions", name]),
        )?;
        depends(&shown).with_context(|| format!("{name} of {} depends on nothing", self.suite))
    }
}

fn depends(shown: &str) -> Option<String> {
    let line = shown
        .lines()
        .find_map(|line| line.strip_prefix("Depends:"))?;
    line.split_whitespace()
        .next()
        .map(|name| name.trim_end_matches(',').to_owned())
}

/// The archive that the host's apt uses for its own release.
pub(crate) fn mirror() -> Result<String> {
    if let Some(mirror) = std::env::var(MIRROR).ok().filter(|text| !text.is_empty()) {
        return Ok(mirror);
    }
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let format = "$(RELEASE) $(COMPONENT) $(REPO_URI)";
    let targets = output(Command::new("apt-get").args([
        "indextargets",
        "--format",
        format,
        "Created-By: Packages",
    ]))?;
    codename(&release)
        .and_then(|codename| archive(&targets, codename))
        .with_context(|| {
            format!("this machine's apt has no archive of Debian; set {MIRROR} to one's address")
        })
}

/// The host's release, if it is Debian.
pub(crate) fn codename(release: &str) -> Option<&str> {
    let field = |name: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim_matches('"'))
    };
    field("ID=").filter(|id| *id == "debian")?;
    field("VERSION_CODENAME=")
}

fn archive(targets: &str, codename: &str) -> Option<String> {
    let start = format!("{codename} main ");
    let uri = targets.lines().find_map(|line| line.strip_prefix(&start))?;
    Some(uri.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_that_of_the_hosts_own_release() {
        let targets = "nodistro main https://node.example.invalid/\n\
                       bookworm stable https://other.example.invalid/\n\
                       bookworm-updates main http://mirror.example.invalid/debian/\n\
                       bookworm main http://mirror.example.invalid/debian/\n";
        let release = "ID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(codename(release), Some("bookworm"));
        let found = archive(targets, "bookworm");
        assert_eq!(
            found.as_deref(),
            Some("http://mirror.example.invalid/debian/")
        );
        assert_eq!(archive(targets, "trixie"), None);
        assert_eq!(codename("ID=fedora\nVERSION_CODENAME=\"\"\n"), None);
    }

    #[test]
    fn a_metapackage_names_its_kernel_first() {
        let shown = "Package: linux-image-armmp\n\
                     Depends: linux-image-6.1.0-50-armmp (= 6.1.170-1), other\n";
        assert_eq!(
            depends(shown).as_deref(),
            Some("linux-image-6.1.0-50-armmp")
        );
        let shown = "Package: linux-image-x\nDepends: linux-image-7-x, other\n";
        assert_eq!(depends(shown).as_deref(), Some("linux-image-7-x"));
        assert_eq!(depends("Package: x\n"), None);
    }
}

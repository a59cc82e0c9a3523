//! This device as a node: its key, what its cluster gave it, and what time it is.
//!
//! What the cluster says is taken over at once and then written. A folder that is full or
//! read-only does not stop the agent: it goes on with what it has in memory, says so, and tries
//! again.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use protocol::clock::Clock;

use crate::clock;
use crate::ssh;
use crate::state::DataDir;
use crate::state::key::DeviceKey;
use crate::state::membership::{HostCertificates, Membership, Trusted};
use crate::trust::certificate;

/// The node.
pub(crate) struct Node {
    dir: DataDir,
    pub(crate) key: Arc<DeviceKey>,
    pub(crate) membership: Membership,
    clock: Clock,
    unsaved: Option<String>,
}

impl Node {
    pub(crate) fn new(dir: DataDir, key: DeviceKey, membership: Membership) -> Self {
        let clock = Clock::new(clock::BUILT.max(membership.time));
        Self {
            dir,
            key: Arc::new(key),
            membership,
            clock,
            unsaved: None,
        }
    }

    /// Time since the Unix epoch, by the clock rule.
    pub(crate) fn now(&self) -> Duration {
        self.clock.now(clock::system(), clock::since_boot())
    }

    /// The clock rule, for the process to follow.
    pub(crate) const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Takes the cluster's time. It is written at most once a day, to spare flash.
    pub(crate) fn learn_time(&mut self, seconds: u64) {
        let now = clock::since_boot();
        self.clock.learn(Duration::from_secs(seconds), now);
        if self.clock.is_outdated(self.membership.time, now) {
            self.save();
        }
    }

    /// Takes the names that the cluster uses.
    pub(crate) fn learn_names(&mut self, cluster: &str, node_name: &str) {
        let membership = &mut self.membership;
        if membership.cluster != cluster || membership.node_name != node_name {
            cluster.clone_into(&mut membership.cluster);
            node_name.clone_into(&mut membership.node_name);
            self.save();
        }
    }

    /// Takes new certificates, if they are this node's.
    pub(crate) fn renew(&mut self, certificates: HostCertificates) -> anyhow::Result<()> {
        certificate::check_certificates(&certificates, &self.key.public())?;
        self.membership.certificates = certificates;
        self.save();
        Ok(())
    }

    /// Takes new CAs.
    pub(crate) fn trust(&mut self, trust: Trusted) -> anyhow::Result<()> {
        certificate::check_trust(&trust)?;
        self.membership.trust = trust;
        self.save();
        Ok(())
    }

    /// Takes what the cluster gave when the node came back to it.
    pub(crate) fn come_back(&mut self, given: Membership) {
        self.clock.learn(given.time, clock::since_boot());
        self.membership = given;
        self.save();
    }

    /// Writes the state. Its time is the clock's floor after the next start.
    pub(crate) fn save(&mut self) {
        let told = self.clock.told(clock::since_boot());
        self.membership.time = told.unwrap_or(self.membership.time);
        let saved = self.dir.store_membership(&self.membership);
        let problem = saved.err().map(|error| format!("{error:#}"));
        match (&self.unsaved, &problem) {
            (None, Some(problem)) => log::warn!("{problem}; going on without"),
            (Some(_), None) => log::info!("state written again"),
            _ => {}
        }
        self.unsaved = problem;
    }

    /// Why the files lag behind, if they do.
    pub(crate) fn unsaved(&self) -> Option<&str> {
        self.unsaved.as_deref()
    }

    /// What the SSH server shows to clients.
    pub(crate) fn host(&self, only_login: Option<&str>) -> anyhow::Result<ssh::Host> {
        let Membership {
            certificates,
            trust,
            ..
        } = &self.membership;
        Ok(ssh::Host {
            key: self.key.ssh(),
            certificate: certificate::ssh(certificates).context("the host certificate")?,
            user_ca: certificate::ssh_key(&trust.user_ca_ssh),
            only_login: only_login.map(str::to_owned),
            accounts: crate::sys::Account::find,
        })
    }
}

/// What is stored in a folder; all that is wrong is said at once.
pub(crate) fn stored(dir: &DataDir) -> Result<Option<(DeviceKey, Membership)>, Vec<String>> {
    let mut problems = Vec::new();
    let key = dir
        .key()
        .unwrap_or_else(|error| note(&mut problems, &error));
    let membership = dir
        .membership()
        .unwrap_or_else(|error| note(&mut problems, &error));
    if !problems.is_empty() {
        return Err(problems);
    }
    match (key, membership) {
        (_, None) => Ok(None),
        (None, Some(_)) => Err(vec![format!(
            "{}: node.key is missing; join again",
            dir.path().display()
        )]),
        (Some(key), Some(membership)) => {
            certificate::check_membership(&membership, &key.public()).map_err(|error| {
                vec![format!("{}: node.state: {error:#}", dir.path().display())]
            })?;
            Ok(Some((key, membership)))
        }
    }
}

fn note<T>(problems: &mut Vec<String>, error: &anyhow::Error) -> Option<T> {
    problems.push(format!("{error:#}"));
    None
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::trust::certificate::tests::{Ca, given};

    /// A node with certificates of a CA of its own.
    pub(crate) fn node(folder: &tempfile::TempDir) -> Node {
        let key = DeviceKey::generate().unwrap();
        let membership = given(&Ca::new("lab"), &key);
        Node::new(DataDir::new(folder.path().into()), key, membership)
    }

    #[tokio::test]
    async fn what_the_cluster_says_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut node = node(&folder);
        node.learn_names("lab", "gateway-2");
        let mut certificates = node.membership.certificates.clone();
        certificates.generation += 1;
        node.renew(certificates).unwrap();
        let stored = DataDir::new(folder.path().into())
            .membership()
            .unwrap()
            .unwrap();
        assert_eq!(stored, node.membership);
        assert_eq!(stored.node_name, "gateway-2");
    }

    #[tokio::test]
    async fn what_is_not_for_this_node_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let mut node = node(&folder);
        let before = node.membership.clone();
        let other = given(&Ca::new("lab"), &DeviceKey::generate().unwrap());
        assert!(node.renew(other.certificates).is_err());
        assert!(
            node.trust(Trusted {
                host_ca_x509: vec![1],
                ..other.trust
            })
            .is_err()
        );
        assert_eq!(node.membership, before);
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_does_not_stop_the_node() {
        let folder = tempfile::tempdir().unwrap();
        let mut node = node(&folder);
        let blocker = folder.path().join(".node.state.new");
        std::fs::create_dir(&blocker).unwrap();
        node.learn_names("lab", "gateway-2");
        assert!(node.unsaved().unwrap().contains("node.state"));
        assert_eq!(node.membership.node_name, "gateway-2");
        std::fs::remove_dir(&blocker).unwrap();
        node.save();
        assert_eq!(node.unsaved(), None);
    }

    #[tokio::test]
    async fn the_clusters_time_is_the_floor_of_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let mut node = node(&folder);
        let future = (clock::system() + Duration::from_secs(30 * 86_400)).as_secs();
        node.learn_time(future);
        assert!(node.now().as_secs() >= future);
        let stored = DataDir::new(folder.path().into())
            .membership()
            .unwrap()
            .unwrap();
        let next = Node::new(
            DataDir::new(folder.path().into()),
            DeviceKey::generate().unwrap(),
            stored,
        );
        assert!(next.now().as_secs() >= future);
    }

    #[test]
    fn the_clusters_time_is_written_once_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let mut node = node(&folder);
        let state = folder.path().join("node.state");
        // Each write makes a new file.
        let written = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&state).unwrap());
        let told = clock::system().as_secs();
        node.learn_time(told);
        let first = written();
        let keep = std::fs::File::open(&state).unwrap();
        for later in [60, 3600, 86_000] {
            node.learn_time(told + later);
        }
        assert_eq!(written(), first);
        node.learn_time(told + 86_460);
        assert_ne!(written(), first);
        drop(keep);
    }

    #[test]
    fn new_certificates_and_their_time_are_one_write() {
        let folder = tempfile::tempdir().unwrap();
        let mut node = node(&folder);
        let mut given = node.membership.clone();
        given.time = clock::system() + Duration::from_secs(86_400 * 30);
        node.come_back(given.clone());
        let state = folder.path().join("node.state");
        std::fs::remove_file(&state).unwrap();
        node.learn_time(given.time.as_secs());
        assert!(!state.exists());
        assert!(node.now() >= given.time);
    }

    #[tokio::test]
    async fn a_node_shows_its_host_to_ssh() {
        let folder = tempfile::tempdir().unwrap();
        let host = node(&folder).host(Some("ann")).unwrap();
        assert_eq!(host.only_login.as_deref(), Some("ann"));
    }

    #[test]
    fn stored_state_is_checked_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::new(folder.path().into());
        assert!(stored(&dir).unwrap().is_none());
        let key = DeviceKey::generate().unwrap();
        dir.store_membership(&given(&Ca::new("lab"), &key)).unwrap();
        assert!(stored(&dir).unwrap_err()[0].contains("node.key is missing"));
        dir.store_key(&DeviceKey::generate().unwrap()).unwrap();
        assert!(stored(&dir).unwrap_err()[0].contains("not for this device's key"));
        dir.store_key(&key).unwrap();
        assert!(stored(&dir).unwrap().is_some());
        std::fs::write(folder.path().join("node.key"), b"x").unwrap();
        std::fs::write(folder.path().join("node.state"), b"x").unwrap();
        assert_eq!(stored(&dir).unwrap_err().len(), 2);
    }
}

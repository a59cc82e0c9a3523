use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;
use crate::testing::{self, Cas};

/// A login stored in a directory that did not exist.
fn stored() -> (tempfile::TempDir, Home, Entry, Profile) {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path().join("deep/tsh"));
    let cas = Cas::new();
    let profile = testing::profile(testing::now());
    let entry = home.entry(&profile.proxy);
    entry
        .store(&profile, &cas.trusted(), &cas.identity(&["root"]))
        .unwrap();
    home.set_current(&profile.proxy).unwrap();
    (dir, home, entry, profile)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn only_the_owner_may_look() {
    let (_dir, home, entry, _) = stored();
    for dir in [home.path(), &home.path().join("keys"), &entry.dir] {
        assert_eq!(mode(dir), 0o700, "{}", dir.display());
    }
    let mut files = 0;
    for file in std::fs::read_dir(&entry.dir).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        files += 1;
    }
    assert_eq!(files, 8);
    assert_eq!(mode(&home.path().join("profile.json")), 0o600);
}

#[test]
fn a_directory_that_was_open_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let home = Home::at(dir.path().to_owned());
    home.set_current(&"h".parse().unwrap()).unwrap();
    assert_eq!(mode(dir.path()), 0o700);
}

#[test]
fn what_is_stored_is_read_back() {
    let (_dir, home, entry, profile) = stored();
    assert_eq!(home.current().unwrap(), Some(profile.proxy.clone()));
    assert_eq!(entry.profile().unwrap(), Some(profile));
    let identity = entry.identity().unwrap();
    assert_eq!(identity.certificate.valid_principals(), ["root"]);
    assert_eq!(identity.chain().unwrap().len(), 1);
    let trusted = entry.trusted().unwrap().unwrap();
    assert_eq!(trusted.ssh().len(), 1);
    assert_eq!(trusted.pins().unwrap().len(), 1);
}

#[test]
fn the_tls_key_is_one_that_tls_takes() {
    let identity = Cas::new().identity(&["root"]);
    let key = identity.tls_key().unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let key = provider.key_provider.load_private_key(key).unwrap();
    assert_eq!(key.algorithm(), rustls::SignatureAlgorithm::ED25519);
}

#[test]
fn known_hosts_trust_the_ca_for_every_host() {
    let (_dir, _home, entry, _) = stored();
    let text = std::fs::read_to_string(entry.path("known_hosts")).unwrap();
    assert!(
        text.starts_with("@cert-authority * ssh-ed25519 AAAA"),
        "{text}"
    );
    assert!(text.ends_with(" host CA of lab\n"), "{text}");
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn nothing_stored_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path().to_owned());
    let entry = home.entry(&"h".parse().unwrap());
    assert!(home.current().unwrap().is_none());
    assert!(entry.profile().unwrap().is_none());
    assert!(entry.trusted().unwrap().is_none());
    assert!(!entry.forget_login().unwrap());
}

#[test]
fn logging_out_removes_the_secrets_and_keeps_the_trust() {
    let (_dir, _home, entry, profile) = stored();
    assert!(entry.forget_login().unwrap());
    for name in identity::FILES {
        assert!(!entry.path(name).exists(), "{name}");
    }
    let left = entry.profile().unwrap().unwrap();
    assert_eq!((left.user, left.session), (profile.user, None));
    assert!(entry.trusted().unwrap().is_some());
}

#[test]
fn a_certificate_of_another_key_is_noticed() {
    let (_dir, _home, entry, _) = stored();
    let other = Cas::new()
        .identity(&["root"])
        .certificate
        .to_openssh()
        .unwrap();
    files::write(&entry.path("key-cert.pub"), other.as_bytes()).unwrap();
    let error = format!("{:#}", entry.identity().unwrap_err());
    assert!(
        error.contains("belongs to another key") && error.contains("tsh login"),
        "{error}"
    );
}

#[test]
fn a_damaged_profile_says_which_file_and_what_to_do() {
    let (_dir, _home, entry, _) = stored();
    files::write(&entry.path("profile.json"), b"{").unwrap();
    let error = format!("{:#}", entry.profile().unwrap_err());
    assert!(
        error.contains("profile.json") && error.contains("tsh login"),
        "{error}"
    );
}

#[test]
fn a_session_is_valid_until_shortly_before_its_end() {
    let session = testing::profile(testing::now()).session.unwrap();
    assert!(session.is_valid(testing::now() - Duration::from_secs(2)));
    assert!(!session.is_valid(testing::now() - Duration::from_secs(1)));
    assert!(!session.is_valid(testing::now() + Duration::from_secs(1)));
}

#[test]
fn secrets_do_not_show_in_debug() {
    let identity = Cas::new().identity(&["root"]);
    let secret = identity
        .key
        .key_data()
        .ed25519()
        .unwrap()
        .private
        .to_bytes();
    let shown = format!("{identity:?}");
    assert!(!shown.contains(&format!("{secret:?}")), "{shown}");
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!shown.to_lowercase().contains(&hex), "{shown}");
}

//! The whole server against a real client, in one process: russh on both ends.

mod limits;
mod output;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protocol::identity::Fingerprint;
use protocol::message::dial::Permits;
use russh::client::{self, Handle};
use russh::keys::ssh_key::HashAlg;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{Certificate, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg};
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Dial, Host, serve};
use crate::sys::Account;

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A user CA.
pub(super) struct Ca(PrivateKey);

impl Ca {
    pub(super) fn new() -> Self {
        Self(key())
    }

    pub(super) fn public(&self) -> russh::keys::ssh_key::public::KeyData {
        self.0.public_key().key_data().clone()
    }
}

pub(super) fn key() -> PrivateKey {
    let mut seed = [0; 32];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut seed).unwrap();
    PrivateKey::from(Ed25519Keypair::from_seed(&seed))
}

pub(super) mod issue {
    use std::time::Duration;

    use russh::keys::ssh_key::certificate::{Builder, CertType};
    use russh::keys::{Certificate, PrivateKey};

    pub(in super::super) struct Wanted<'a> {
        pub(in super::super) key: &'a PrivateKey,
        pub(in super::super) principals: Vec<&'a str>,
        pub(in super::super) cert_type: CertType,
        pub(in super::super) valid: (u64, u64),
        pub(in super::super) critical: Option<&'a str>,
    }

    impl<'a> Wanted<'a> {
        pub(in super::super) fn new(
            key: &'a PrivateKey,
            principals: &[&'a str],
            now: Duration,
        ) -> Self {
            let valid = (0, now.as_secs() + 3600);
            let principals = principals.to_vec();
            Self {
                key,
                principals,
                cert_type: CertType::User,
                valid,
                critical: None,
            }
        }
    }

    pub(in super::super) fn certificate(ca: &super::Ca, wanted: &Wanted<'_>) -> Certificate {
        let (after, before) = wanted.valid;
        let mut builder = Builder::new([7; 16], wanted.key.public_key(), after, before).unwrap();
        builder
            .cert_type(wanted.cert_type)
            .unwrap()
            .key_id("operator")
            .unwrap();
        for principal in &wanted.principals {
            builder.valid_principal(*principal).unwrap();
        }
        if let Some(option) = wanted.critical {
            builder.critical_option(option, "x").unwrap();
        }
        builder.sign(&ca.0).unwrap()
    }
}

fn me() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid())
        .unwrap()
        .unwrap()
        .name
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// A user's real account, with a shell that reads no start-up files of whoever runs the tests.
fn plain_account(name: &str) -> Option<Account> {
    Some(Account {
        home: "/".into(),
        shell: "/bin/sh".into(),
        ..Account::find(name)?
    })
}

struct Anybody;

impl client::Handler for Anybody {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        Ok(key.certificate().is_some())
    }
}

async fn greet(near: DuplexStream, mut config: client::Config) -> Handle<Anybody> {
    config.preferred.host_key_certificates = vec![russh::keys::Algorithm::Ed25519].into();
    client::connect_stream(Arc::new(config), near, Anybody)
        .await
        .unwrap()
}

/// A device and a user with a certificate for it.
struct Scene {
    ca: Ca,
    user: PrivateKey,
    dial: Dial,
    now: Duration,
    stop: watch::Sender<bool>,
}

/// What a user needs to log in, and an agent to stop.
struct Guest {
    user: PrivateKey,
    certificate: Certificate,
    stop: watch::Sender<bool>,
}

impl Guest {
    async fn log_in(&self, near: DuplexStream, config: client::Config) -> Handle<Anybody> {
        let mut handle = greet(near, config).await;
        let (user, certificate) = (Arc::new(self.user.clone()), self.certificate.clone());
        let done = handle
            .authenticate_openssh_cert(me(), user, certificate)
            .await;
        assert!(done.unwrap().success());
        handle
    }
}

impl Scene {
    fn new() -> Self {
        let user = key();
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(user.public_key().fingerprint(HashAlg::Sha256).as_bytes());
        let dial = Dial {
            session_id: [7; 16],
            user: "operator".into(),
            fingerprint: Fingerprint(fingerprint),
            logins: vec![me()],
            permits: Permits::ALL,
            client_addr: "192.0.2.7 50000".into(),
            idle_timeout: None,
            max_session: None,
            logged_in: Arc::default(),
        };
        Self {
            ca: Ca::new(),
            user,
            dial,
            now: now(),
            stop: watch::Sender::new(false),
        }
    }

    fn certificate(&self) -> Certificate {
        let me = me();
        issue::certificate(&self.ca, &issue::Wanted::new(&self.user, &[&me], now()))
    }

    /// Serves in the background.
    fn serve(self, far: DuplexStream) -> (JoinHandle<anyhow::Result<()>>, Guest) {
        let host_key = key();
        let mut wanted = issue::Wanted::new(&host_key, &["gateway-1"], now());
        wanted.cert_type = russh::keys::ssh_key::certificate::CertType::Host;
        let host = Host {
            certificate: issue::certificate(&self.ca, &wanted),
            key: host_key.clone(),
            user_ca: self.ca.public(),
            only_login: None,
            accounts: plain_account,
        };
        let guest = Guest {
            certificate: self.certificate(),
            user: self.user,
            stop: self.stop,
        };
        let stop = guest.stop.clone();
        let serving = tokio::spawn(async move {
            let shutdown = stop.subscribe();
            serve(Arc::new(host), far, self.dial, self.now, shutdown).await
        });
        (serving, guest)
    }

    /// Connects, and serves in the background.
    async fn connect(self) -> (Handle<Anybody>, PrivateKey, Certificate) {
        let (near, guest) = self.in_background();
        let handle = greet(near, client::Config::default()).await;
        (handle, guest.user, guest.certificate)
    }

    async fn log_in(self) -> Handle<Anybody> {
        self.log_in_with(client::Config::default()).await
    }

    async fn log_in_with(self, config: client::Config) -> Handle<Anybody> {
        let (near, guest) = self.in_background();
        guest.log_in(near, config).await
    }

    fn in_background(self) -> (DuplexStream, Guest) {
        // More than both windows: russh's client stops reading while it writes, which `tsh` and
        // OpenSSH do not.
        let (near, far) = tokio::io::duplex(8 << 20);
        (near, self.serve(far).1)
    }
}

/// What a command printed, and how it ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ran {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    status: Option<u32>,
    signal: Option<String>,
}

async fn collect(channel: &mut Channel<client::Msg>) -> Ran {
    let mut ran = Ran::default();
    let all = async {
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => ran.stdout.extend(&data),
                ChannelMsg::ExtendedData { data, .. } => ran.stderr.extend(&data),
                ChannelMsg::ExitStatus { exit_status } => ran.status = Some(exit_status),
                ChannelMsg::ExitSignal { signal_name, .. } => {
                    ran.signal = Some(format!("{signal_name:?}"))
                }
                _ => {}
            }
        }
    };
    timeout(LIMIT, all).await.expect("the channel ends");
    ran
}

/// The first thing a program prints.
async fn first(channel: &mut Channel<client::Msg>) -> String {
    loop {
        if let Some(ChannelMsg::Data { data }) = timeout(LIMIT, channel.wait()).await.unwrap() {
            return String::from_utf8(data.to_vec()).unwrap();
        }
    }
}

/// A zombie is gone too: whoever reaps it is not ours to wait for.
async fn until_gone(pid: &str) {
    let gone = || {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |s| s.contains(") Z "))
    };
    timeout(LIMIT, async {
        while !gone() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{pid} is still there"));
}

async fn run(handle: &Handle<Anybody>, command: &str) -> Ran {
    let mut channel = handle.channel_open_session().await.unwrap();
    channel.exec(true, command).await.unwrap();
    channel.eof().await.unwrap();
    collect(&mut channel).await
}

#[tokio::test]
async fn a_command_runs_with_its_streams_apart_and_its_status_told() {
    let handle = Scene::new().log_in().await;
    let ran = run(&handle, "echo out; echo err >&2; exit 7").await;
    let expect = Ran {
        stdout: b"out\n".into(),
        stderr: b"err\n".into(),
        status: Some(7),
        signal: None,
    };
    assert_eq!(ran, expect);
    let killed = run(&handle, "kill -KILL $$").await;
    assert_eq!(
        (killed.status, killed.signal.as_deref()),
        (None, Some("KILL"))
    );
}

#[tokio::test]
async fn a_shell_on_a_terminal_knows_its_size_and_kind() {
    let handle = Scene::new().log_in().await;
    let mut channel = handle.channel_open_session().await.unwrap();
    channel
        .request_pty(true, "vt220", 97, 31, 0, 0, &[])
        .await
        .unwrap();
    channel
        .exec(true, "stty size; echo $TERM; test -t 0 && echo terminal")
        .await
        .unwrap();
    let ran = collect(&mut channel).await;
    assert_eq!(
        String::from_utf8_lossy(&ran.stdout),
        "31 97\r\nvt220\r\nterminal\r\n"
    );
    assert_eq!(ran.status, Some(0));
}

#[tokio::test]
async fn a_signal_reaches_the_program() {
    let handle = Scene::new().log_in().await;
    let mut channel = handle.channel_open_session().await.unwrap();
    channel
        .exec(true, "echo ready; exec sleep 1000")
        .await
        .unwrap();
    first(&mut channel).await;
    channel.signal(russh::Sig::USR1).await.unwrap();
    let ran = collect(&mut channel).await;
    assert_eq!(ran.signal.as_deref(), Some("USR1"));
}

#[tokio::test]
async fn a_window_change_reaches_the_program() {
    let handle = Scene::new().log_in().await;
    let mut channel = handle.channel_open_session().await.unwrap();
    channel
        .request_pty(true, "xterm", 80, 24, 0, 0, &[])
        .await
        .unwrap();
    channel
        .exec(
            true,
            "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.1; done",
        )
        .await
        .unwrap();
    let mut seen = Vec::new();
    let ready = async {
        while !String::from_utf8_lossy(&seen).contains("ready") {
            if let Some(ChannelMsg::Data { data }) = channel.wait().await {
                seen.extend(&data);
            }
        }
    };
    timeout(LIMIT, ready).await.unwrap();
    channel.window_change(120, 50, 0, 0).await.unwrap();
    let ran = collect(&mut channel).await;
    assert!(
        String::from_utf8_lossy(&ran.stdout).contains("50 120"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn only_listed_variables_get_into_a_clean_environment() {
    let handle = Scene::new().log_in().await;
    let mut channel = handle.channel_open_session().await.unwrap();
    channel.set_env(false, "LC_TIME", "C.UTF-8").await.unwrap();
    channel
        .set_env(false, "LD_LIBRARY_PATH", "/evil")
        .await
        .unwrap();
    channel.exec(true, "env").await.unwrap();
    let ran = collect(&mut channel).await;
    let env = String::from_utf8(ran.stdout).unwrap();
    for line in [
        "LC_TIME=C.UTF-8",
        "TETHER_USER=operator",
        "SSH_CLIENT=192.0.2.7 50000 0",
    ] {
        assert!(env.lines().any(|l| l == line), "{line} in {env}");
    }
    for name in ["LD_LIBRARY_PATH", "CARGO_MANIFEST_DIR"] {
        assert!(!env.contains(&format!("{name}=")), "{name} in {env}");
    }
}

#[tokio::test]
async fn whoever_has_no_fitting_certificate_stays_out() {
    // A plain key.
    let (mut handle, user, _) = Scene::new().connect().await;
    let key = PrivateKeyWithHashAlg::new(Arc::new(user), None);
    assert!(
        !handle
            .authenticate_publickey(me(), key)
            .await
            .unwrap()
            .success()
    );
    // The clock of the cluster says it is over.
    let mut scene = Scene::new();
    scene.now = now() + Duration::from_secs(7200);
    let (mut handle, user, certificate) = scene.connect().await;
    let done = handle
        .authenticate_openssh_cert(me(), Arc::new(user), certificate)
        .await;
    assert!(!done.unwrap().success());
    // The proxy allowed other logins, or saw another key.
    for change in [
        (|scene: &mut Scene| scene.dial.logins = vec!["somebody".into()]) as fn(&mut Scene),
        |scene: &mut Scene| scene.dial.fingerprint = Fingerprint([0; 32]),
    ] {
        let mut scene = Scene::new();
        change(&mut scene);
        let (mut handle, user, certificate) = scene.connect().await;
        let done = handle
            .authenticate_openssh_cert(me(), Arc::new(user), certificate)
            .await;
        assert!(!done.unwrap().success());
    }
}

#[tokio::test]
async fn what_the_proxy_did_not_permit_is_refused() {
    let mut scene = Scene::new();
    scene.dial.permits = Permits::SESSION;
    let handle = scene.log_in().await;
    let mut channel = handle.channel_open_session().await.unwrap();
    channel
        .request_pty(true, "xterm", 80, 24, 0, 0, &[])
        .await
        .unwrap();
    assert!(matches!(
        timeout(LIMIT, channel.wait()).await.unwrap(),
        Some(ChannelMsg::Failure)
    ));
    assert!(
        handle
            .channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1)
            .await
            .is_err()
    );
}

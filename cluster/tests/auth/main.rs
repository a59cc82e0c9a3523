//! Certificates, passwords and join tokens, over a real store.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod nodes;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cluster::audit::Audit;
use cluster::auth::Secret;
use cluster::auth::ca::peer::{NodePeer, Peer, identify};
use cluster::auth::ca::{Authorities, UserSubject};
use cluster::auth::credential::Credentials;
use cluster::auth::join::{Join, token_name};
use cluster::auth::locks::Locks;
use cluster::auth::login::{Attempt, Login, LoginError};
use cluster::auth::nodes::Nodes;
use cluster::resource::lock::{LockSpec, Target};
use cluster::resource::role::{Options as RoleOptions, presets};
use cluster::resource::token::{TokenSpec, TokenType};
use cluster::resource::user::{Traits, UserSpec};
use cluster::resource::{Resource, Resources};
use cluster::store::Backend;
use cluster::store::sqlite::{Options, Sqlite};
use futures::FutureExt;
use protocol::identity::NodeId;
use protocol::message::join::PROOF_CONTEXT;
use ring::signature::{Ed25519KeyPair, KeyPair};

struct Auth {
    store: Arc<dyn Backend>,
    resources: Resources,
    login: Login,
    join: Join,
    dir: tempfile::TempDir,
}

impl Auth {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&dir.path().join("tether.db"), Options::default()).unwrap();
        let store: Arc<dyn Backend> = Arc::new(store);
        let audit = Audit::open(&dir.path().join("audit.db")).unwrap();
        let authorities = Arc::new(Authorities::open(&store, "lab").await.unwrap());
        let resources = Resources::new(Arc::clone(&store));
        for role in presets() {
            resources.create(&role).await.unwrap();
        }
        let locks = Locks::open(&resources).await.unwrap();
        let login = Login {
            authorities: Arc::clone(&authorities),
            resources: resources.clone(),
            credentials: Credentials::new(Arc::clone(&store)).unwrap(),
            locks: locks.clone(),
            audit: audit.clone(),
        };
        let join = Join {
            authorities,
            public_host: "gw.example.net".into(),
            resources: resources.clone(),
            nodes: Nodes::open(&resources).await.unwrap(),
            locks,
            audit,
        };
        Self {
            store,
            resources,
            login,
            join,
            dir,
        }
    }

    async fn add_user(&self, name: &str, password: &str) {
        let traits = Traits {
            logins: vec!["root".into()],
        };
        let user = Resource::new(
            name,
            UserSpec {
                id: UserSpec::new_id(),
                roles: vec!["access".into()],
                traits,
            },
        );
        self.resources.create(&user).await.unwrap();
        let hash = self
            .login
            .credentials
            .hash(Secret::new(password.into()))
            .await
            .unwrap();
        let (mut credential, revision) = self.login.credentials.get(name).await.unwrap();
        credential.password = Some(hash);
        self.login
            .credentials
            .put(name, &credential, revision)
            .await
            .unwrap();
    }

    /// Makes a lock that this process knows of.
    async fn lock(&self, name: &str, target: Target) {
        let mut changes = self.join.locks.changes();
        // What came before is no news.
        changes.mark_unchanged();
        let spec = LockSpec {
            target,
            message: "on leave".into(),
            created_at: None,
        };
        let lock = Resource::new(name, spec);
        self.resources.create(&lock).await.unwrap();
        changes.changed().await.unwrap();
    }

    async fn unlock(&self, name: &str) {
        let mut changes = self.join.locks.changes();
        // What came before is no news.
        changes.mark_unchanged();
        self.resources.remove::<LockSpec>(name).await.unwrap();
        changes.changed().await.unwrap();
    }

    async fn add_token(&self, uses: Option<u32>, ttl: Duration) -> Secret {
        let secret = Secret::random("tjoin-");
        let spec = TokenSpec {
            r#type: TokenType::Node,
            labels: [("env".to_owned(), "lab".to_owned())].into(),
            uses_left: uses,
            secret_sha256: secret.sha256(),
        };
        let mut token = Resource::new(token_name(&secret), spec);
        token.metadata.expires = Some((SystemTime::now() + ttl).into());
        self.resources.create(&token).await.unwrap();
        secret
    }
}

fn attempt(user: &str, password: &str, ttl: Option<Duration>) -> Attempt {
    Attempt {
        user: user.into(),
        password: Secret::new(password.into()),
        invite: None,
        public_key: device().1,
        ttl,
        addr: "192.0.2.7:1".into(),
    }
}

fn device() -> (Ed25519KeyPair, [u8; 32]) {
    let seed = rand::random::<[u8; 32]>();
    let key = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let public = key.public_key().as_ref().try_into().unwrap();
    (key, public)
}

fn proof(key: &Ed25519KeyPair, exported: &[u8]) -> Vec<u8> {
    key.sign(&[PROOF_CONTEXT, exported].concat())
        .as_ref()
        .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_are_made_once_and_keep_their_pin() {
    let auth = Auth::new().await;
    let again = Authorities::open(&auth.store, "lab").await.unwrap();
    assert_eq!(again.pin(), auth.join.authorities.pin());
    assert_ne!(again.host.pin, again.user.pin);
    let other = Authorities::open(&auth.store, "other").await.err().unwrap();
    assert!(
        other.to_string().contains("belongs to the cluster \"lab\""),
        "{other}"
    );
    drop(auth.dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_names_its_subject_and_nobody_else() {
    let auth = Auth::new().await;
    let authorities = &auth.join.authorities;
    let (_, public_key) = device();
    let id = NodeId([7; 16]);
    let node = authorities.issue_node(id, "gateway-1", public_key, 7);
    let node = node.unwrap();
    let peer = NodePeer {
        id,
        public_key,
        generation: Some(7),
    };
    assert_eq!(identify(authorities, &node.x509).unwrap(), Peer::Node(peer));
    assert_eq!(
        node.ssh.valid_principals(),
        ["gateway-1", "gateway-1.lab", &id.to_string()]
    );
    let mut subject = UserSubject {
        name: "ann",
        id: 77,
        principals: &["root".to_owned()],
        roles: &[],
        public_key,
        ttl: Duration::from_secs(60),
    };
    let user = authorities.issue_user(&subject).unwrap();
    assert!(
        matches!(identify(authorities, &user.x509).unwrap(), Peer::User(peer) if (peer.name.as_str(), peer.id) == ("ann", 77))
    );
    subject.principals = &[];
    assert!(
        authorities.issue_user(&subject).is_err(),
        "no principals would mean every login"
    );

    let stranger = Auth::new().await;
    let forged = stranger
        .join
        .authorities
        .issue_node(id, "gateway-1", public_key, 7)
        .unwrap();
    // The same names, so the same issuer: only the verifier of TLS tells these two apart.
    assert!(forged.ssh.signature_key() != node.ssh.signature_key());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_certificate_is_capped_by_the_role() {
    let auth = Auth::new().await;
    auth.add_user("ann", "long enough").await;
    let mut role = auth
        .resources
        .get::<cluster::resource::role::RoleSpec>("access")
        .await
        .unwrap();
    role.spec.options = RoleOptions {
        max_session_ttl: Some(Duration::from_secs(3600)),
        client_idle_timeout: None,
        ..RoleOptions::default()
    };
    auth.resources.put(&role).await.unwrap();
    for (wished, expect) in [(None, 3600), (Some(1800), 1800), (Some(86_400), 3600)] {
        let ttl = wished.map(Duration::from_secs);
        let done = auth
            .login
            .log_in(attempt("ann", "long enough", ttl))
            .await
            .unwrap();
        let left = done
            .issued
            .not_after
            .duration_since(SystemTime::now())
            .unwrap()
            .as_secs();
        assert!((expect - 30..=expect).contains(&left), "{wished:?}: {left}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_before_the_limit_forgets_failures() {
    let auth = Auth::new().await;
    auth.add_user("ann", "long enough").await;
    for _ in 0..2 {
        for _ in 0..4 {
            let done = auth.login.log_in(attempt("ann", "wrong", None)).await;
            assert!(matches!(done, Err(LoginError::BadCredentials)));
        }
        assert!(
            auth.login
                .log_in(attempt("ann", "long enough", None))
                .await
                .is_ok()
        );
    }
    for _ in 0..5 {
        auth.login
            .log_in(attempt("ann", "wrong", None))
            .await
            .err()
            .unwrap();
    }
    let done = auth.login.log_in(attempt("ann", "long enough", None)).await;
    assert!(matches!(done, Err(LoginError::LockedOut)));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_guesses_at_once_no_more_than_five_are_looked_at() {
    let auth = Auth::new().await;
    auth.add_user("ann", "long enough").await;
    let guess = |number| {
        let login = auth.login.clone();
        async move {
            login
                .log_in(attempt("ann", &format!("guess {number}"), None))
                .await
        }
    };
    let answers = futures::future::join_all((0..40).map(guess)).await;
    let wrong = |answer: &&Result<_, _>| matches!(answer, Err(LoginError::BadCredentials));
    let locked = |answer: &&Result<_, _>| matches!(answer, Err(LoginError::LockedOut));
    assert_eq!(answers.iter().filter(wrong).count(), 5);
    assert_eq!(answers.iter().filter(locked).count(), 35);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_before_the_answer_has_failed_all_the_same() {
    let auth = Auth::new().await;
    auth.add_user("ann", "long enough").await;
    let wrong = || auth.login.log_in(attempt("ann", "wrong", None));
    assert!(wrong().now_or_never().is_none());
    for _ in 0..4 {
        assert!(matches!(wrong().await, Err(LoginError::BadCredentials)));
    }
    let right = auth.login.log_in(attempt("ann", "long enough", None));
    assert!(matches!(right.await, Err(LoginError::LockedOut)));
    let all_six = async {
        while auth.login.audit.newest(10).await.unwrap().len() < 6 {
            tokio::task::yield_now().await;
        }
    };
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, all_six).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_with_a_long_name_leaves_a_short_trace() {
    let auth = Auth::new().await;
    let long = "x".repeat(10_000);
    let refused = auth.login.log_in(attempt(&long, "wrong", None)).await;
    assert!(matches!(refused, Err(LoginError::BadCredentials)));
    let events = auth.login.audit.newest(10).await.unwrap();
    let rows: Vec<_> = events.iter().map(|row| row.to_string().len()).collect();
    assert!(rows.len() == 1 && rows.iter().all(|bytes| *bytes < 1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_logged_in_while_the_audit_log_cannot_be_written() {
    let auth = Auth::new().await;
    auth.add_user("ann", "long enough").await;
    let log_in = || auth.login.log_in(attempt("ann", "long enough", None));
    let log = rusqlite::Connection::open(auth.dir.path().join("audit.db")).unwrap();
    log.execute_batch(
        "CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(FAIL, 'full'); END",
    )
    .unwrap();
    assert!(matches!(log_in().await, Err(LoginError::Internal(_))));
    log.execute_batch("DROP TRIGGER full").unwrap();
    assert!(log_in().await.is_ok());
    assert_eq!(auth.login.audit.newest(10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_user_is_told_so_and_a_stranger_is_not() {
    let auth = Auth::new().await;
    auth.add_user("ann", "long enough").await;
    let ann = Target {
        user: Some("ann".into()),
        server_id: None,
    };
    auth.lock("1", ann).await;
    let log_in = |password| auth.login.log_in(attempt("ann", password, None));
    match log_in("long enough").await {
        Err(LoginError::Locked(text)) => assert_eq!(text, "the user ann is locked: on leave"),
        other => panic!("{:?}", other.err()),
    }
    let wrong = log_in("a guess").await;
    assert!(matches!(wrong, Err(LoginError::BadCredentials)));
    auth.unlock("1").await;
    assert!(log_in("long enough").await.is_ok());
}

//! Nodes: joining, coming back, copies and locks.

use std::time::Duration;

use cluster::auth::Secret;
use cluster::auth::ca::peer::NodePeer;
use cluster::auth::join::{Claim, Enrolled, JoinError, token_name};
use cluster::resource::lock::Target;
use cluster::resource::node::NodeSpec;
use cluster::resource::token::TokenSpec;
use protocol::identity::NodeId;
use protocol::message::control::Refusal;
use serde_json::Value;
use time::OffsetDateTime;

use super::{Auth, device, proof};

#[tokio::test(flavor = "multi_thread")]
async fn of_many_devices_that_race_for_a_token_only_as_many_join_as_it_allows() {
    let auth = Auth::new().await;
    let token = auth.add_token(Some(5), Duration::from_secs(60)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..20 {
        let (join, token) = (auth.join.clone(), token.clone());
        tasks.spawn(async move {
            let (key, public_key) = device();
            let (exported, addr) = ([9; 32], "192.0.2.7:1");
            let claim = Claim {
                proof: &proof(&key, &exported),
                exported: &exported,
                addr,
            };
            join.join(&token, &format!("gateway-{number}"), public_key, &claim)
                .await
                .is_ok()
        });
    }
    let joined = tasks.join_all().await.into_iter().filter(|ok| *ok).count();
    assert_eq!(joined, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_joins_again_stays_the_same_node() {
    let auth = Auth::new().await;
    let token = auth.add_token(None, Duration::from_secs(60)).await;
    let (key, public_key) = device();
    let (exported, addr) = ([9; 32], "192.0.2.7:1");
    let claim = Claim {
        proof: &proof(&key, &exported),
        exported: &exported,
        addr,
    };
    let first = auth
        .join
        .join(&token, "gateway-1", public_key, &claim)
        .await
        .unwrap();
    let second = auth
        .join
        .join(&token, "gateway-2", public_key, &claim)
        .await
        .unwrap();
    assert_eq!(first.id, second.id);
    assert!(second.generation > first.generation);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_whose_answer_was_lost_joins_with_the_same_single_use_token() {
    let auth = Auth::new().await;
    let token = auth.add_token(Some(1), Duration::from_secs(60)).await;
    let first = Device::new();
    let node = first.join(&auth, &token).await.unwrap();
    let again = first.join(&auth, &token).await.unwrap();
    assert_eq!(node.id, again.id);
    let second = Device::new().join(&auth, &token).await;
    assert_eq!(reason(second), Some(Refusal::Token));
    // It is no second way in: not with another token, and not once the token or the node is gone.
    let used = auth.add_token(Some(1), Duration::from_secs(60)).await;
    Device::new().join(&auth, &used).await.unwrap();
    assert_eq!(reason(first.join(&auth, &used).await), Some(Refusal::Token));
    let name = token_name(&token);
    auth.resources.remove::<TokenSpec>(&name).await.unwrap();
    let again = first.join(&auth, &token).await;
    assert_eq!(reason(again), Some(Refusal::Token));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_device_needs_a_token_with_uses_left() {
    let auth = Auth::new().await;
    let token = auth.add_token(Some(1), Duration::from_secs(60)).await;
    let device = Device::new();
    let node = device.join(&auth, &token).await.unwrap();
    auth.remove(&node).await;
    let again = device.join(&auth, &token).await;
    assert_eq!(reason(again), Some(Refusal::Token));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_joins_with_one_key_at_once_one_makes_the_node() {
    let auth = Auth::new().await;
    let token = auth.add_token(None, Duration::from_secs(60)).await;
    let device = Device::new();
    let joins = (0..20).map(|_| device.join(&auth, &token));
    let nodes = futures::future::try_join_all(joins).await.unwrap();
    let all = auth.resources.list::<NodeSpec>().await.unwrap();
    let [node] = all.as_slice() else {
        panic!("{all:?}");
    };
    assert!(nodes.iter().all(|n| n.id.to_string() == node.name()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_forgotten_for_the_node_alone_that_is_removed() {
    let auth = Auth::new().await;
    let token = auth.add_token(None, Duration::from_secs(60)).await;
    let device = Device::new();
    let node = device.join(&auth, &token).await.unwrap();
    let key = hex::encode(device.public_key);
    let forget = |id| auth.join.forget_key(&key, id);
    forget(NodeId([1; 16])).await.unwrap();
    assert_eq!(device.join(&auth, &token).await.unwrap().id, node.id);
    forget(node.id).await.unwrap();
    assert_ne!(device.join(&auth, &token).await.unwrap().id, node.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_a_node_is_no_way_around_the_token_and_joins_with_one() {
    let auth = Auth::new().await;
    let token = auth.add_token(Some(2), Duration::from_secs(60)).await;
    let device = Device::new();
    let node = device.join(&auth, &token).await.unwrap();
    // Power failed before the key was forgotten, or after it was bound.
    auth.remove(&node).await;
    device.join(&auth, &token).await.unwrap();
    auth.remove(&node).await;
    let again = device.join(&auth, &token).await;
    assert_eq!(reason(again), Some(Refusal::Token));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_of_another_connection_or_key_is_worth_nothing() {
    let auth = Auth::new().await;
    let token = auth.add_token(None, Duration::from_secs(60)).await;
    let (key, public_key) = device();
    let addr = "192.0.2.7:1";
    for (signer, exported) in [(&key, [1; 32]), (&device().0, [9; 32])] {
        let claim = Claim {
            proof: &proof(signer, &exported),
            exported: &[9; 32],
            addr,
        };
        let refused = auth
            .join
            .join(&token, "gateway-1", public_key, &claim)
            .await
            .err()
            .unwrap();
        assert!(matches!(
            refused,
            JoinError::Refused {
                reason: Refusal::Proof,
                ..
            }
        ));
    }
}

impl Auth {
    /// Removes a node, and leaves the record of its key.
    async fn remove(&self, node: &Enrolled) {
        let id = node.id.to_string();
        self.resources.remove::<NodeSpec>(&id).await.unwrap();
    }
}

/// A device with its key and its proof.
struct Device {
    public_key: [u8; 32],
    proof: Vec<u8>,
}

impl Device {
    fn new() -> Self {
        let (key, public_key) = device();
        let proof = proof(&key, &EXPORTED);
        Self { public_key, proof }
    }

    async fn join(&self, auth: &Auth, token: &Secret) -> Result<Enrolled, JoinError> {
        self.join_as(auth, token, "gateway-1").await
    }

    async fn join_as(
        &self,
        auth: &Auth,
        token: &Secret,
        name: &str,
    ) -> Result<Enrolled, JoinError> {
        let claim = Claim {
            proof: &self.proof,
            exported: &EXPORTED,
            addr: HOME,
        };
        let join = &auth.join;
        join.join(token, name, self.public_key, &claim).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_device_joins_under_the_name_of_the_cluster_or_of_another_node() {
    let auth = Auth::new().await;
    let token = auth.add_token(Some(2), Duration::from_secs(60)).await;
    let device = Device::new();
    let id = device.join(&auth, &token).await.unwrap().id.to_string();
    for name in ["lab", "gw.example.net", "gateway-1.lab", id.as_str()] {
        let refused = device.join_as(&auth, &token, name).await;
        assert_eq!(reason(refused), Some(Refusal::Invalid), "{name}");
        let refused = Device::new().join_as(&auth, &token, name).await;
        assert_eq!(reason(refused), Some(Refusal::Invalid), "{name}");
    }
    // And it costs no use of the token.
    Device::new().join(&auth, &token).await.unwrap();
}

/// A node that has joined, and its device's proof.
struct Joined {
    auth: Auth,
    node: Enrolled,
    public_key: [u8; 32],
    proof: Vec<u8>,
}

const EXPORTED: [u8; 32] = [9; 32];
const HOME: &str = "192.0.2.7:1";
const ELSEWHERE: &str = "198.51.100.9:2";

impl Joined {
    async fn new() -> Self {
        let auth = Auth::new().await;
        let token = auth.add_token(None, Duration::from_secs(60)).await;
        let (key, public_key) = device();
        let proof = proof(&key, &EXPORTED);
        let claim = Claim {
            proof: &proof,
            exported: &EXPORTED,
            addr: HOME,
        };
        let node = auth
            .join
            .join(&token, "gateway-1", public_key, &claim)
            .await;
        Self {
            node: node.unwrap(),
            auth,
            public_key,
            proof,
        }
    }

    async fn renew(&self, generation: u32, addr: &str) -> Result<u32, JoinError> {
        let claim = Claim {
            proof: &self.proof,
            exported: &EXPORTED,
            addr,
        };
        let join = &self.auth.join;
        let renewed = join.renew(self.node.id, generation, addr, Some(&claim));
        Ok(renewed.await?.generation)
    }

    async fn link(&self, generation: u32, addr: &str) -> Result<(), JoinError> {
        let peer = NodePeer {
            id: self.node.id,
            public_key: self.public_key,
            generation: Some(generation),
        };
        self.auth.join.known(&peer, addr).await.map(drop)
    }

    async fn stored(&self) -> NodeSpec {
        let id = self.node.id.to_string();
        let node = self.auth.resources.get::<NodeSpec>(&id).await;
        node.unwrap().spec
    }

    async fn events(&self, code: &str) -> Vec<Value> {
        let events = self.auth.join.audit.newest(100).await.unwrap();
        events.into_iter().filter(|e| e["code"] == code).collect()
    }
}

fn reason<T>(result: Result<T, JoinError>) -> Option<Refusal> {
    let error = result.err()?;
    let JoinError::Refused { reason, .. } = error else {
        // No refusal at all, and so none that is expected.
        return Some(Refusal::Internal);
    };
    Some(reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_device_returns_by_its_key_whatever_was_lost() {
    let joined = Joined::new().await;
    // The answer was lost, and lost again: the device asks with the generation it still has, and
    // may link with it meanwhile.
    for _ in 0..3 {
        assert_eq!(joined.renew(1, HOME).await.unwrap(), 2);
        joined.link(1, HOME).await.unwrap();
    }
    joined.link(2, HOME).await.unwrap();
    assert!(joined.stored().await.generation_shown);
    assert_eq!(joined.renew(2, HOME).await.unwrap(), 3);
    let unknown = joined.auth.join.renew(NodeId([1; 16]), 1, HOME, None).await;
    assert_eq!(reason(unknown), Some(Refusal::Removed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_refused_and_both_addresses_are_written_down() {
    let joined = Joined::new().await;
    joined.renew(1, HOME).await.unwrap();
    joined.link(2, HOME).await.unwrap();
    // What holds the certificates of before is another device, whether it links or renews.
    let linked = joined.link(1, ELSEWHERE).await;
    assert_eq!(reason(linked), Some(Refusal::Cloned));
    let renewed = joined.renew(1, ELSEWHERE).await;
    assert_eq!(reason(renewed), Some(Refusal::Cloned));
    let events = joined.events("TJ004W").await;
    assert_eq!(events.len(), 2);
    for event in events {
        assert_eq!(event["addr.remote"], ELSEWHERE);
        assert_eq!(event["addr.renewed"], HOME);
    }
    let problem = joined.stored().await.problem(OffsetDateTime::now_utc());
    assert!(problem.unwrap().contains(ELSEWHERE));
    joined.link(2, HOME).await.unwrap();
    assert_eq!(joined.renew(2, HOME).await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_copies_that_renew_at_once_at_most_one_goes_on() {
    let joined = Joined::new().await;
    let both = tokio::join!(joined.renew(1, HOME), joined.renew(1, ELSEWHERE));
    // Both had the newest, and neither has shown the next.
    assert_eq!((both.0.unwrap(), both.1.unwrap()), (2, 2));
    joined.link(2, HOME).await.unwrap();
    joined.link(2, ELSEWHERE).await.unwrap();
    assert_eq!(joined.renew(2, ELSEWHERE).await.unwrap(), 3);
    joined.link(3, ELSEWHERE).await.unwrap();
    let late = joined.renew(2, HOME).await;
    assert_eq!(reason(late), Some(Refusal::Cloned));
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_again_with_a_token_clears_the_suspicion() {
    let joined = Joined::new().await;
    joined.renew(1, HOME).await.unwrap();
    joined.link(2, HOME).await.unwrap();
    joined.link(1, ELSEWHERE).await.unwrap_err();
    let token = joined.auth.add_token(None, Duration::from_secs(60)).await;
    let claim = Claim {
        proof: &joined.proof,
        exported: &EXPORTED,
        addr: HOME,
    };
    let again = joined
        .auth
        .join
        .join(&token, "gateway-1", joined.public_key, &claim)
        .await
        .unwrap();
    assert_eq!((again.id, again.generation), (joined.node.id, 3));
    let problem = joined.stored().await.problem(OffsetDateTime::now_utc());
    assert_eq!(problem, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_node_neither_links_nor_renews_nor_joins_until_the_lock_is_gone() {
    let joined = Joined::new().await;
    let target = Target {
        user: None,
        server_id: Some(joined.node.id.to_string()),
    };
    joined.auth.lock("1", target).await;
    let linked = joined.link(1, HOME).await;
    let said = linked.as_ref().unwrap_err().to_string();
    assert_eq!(said, "this node is locked: on leave");
    assert_eq!(reason(linked), Some(Refusal::Locked));
    let renewed = joined.renew(1, HOME).await;
    assert_eq!(reason(renewed), Some(Refusal::Locked));
    let token = joined.auth.add_token(None, Duration::from_secs(60)).await;
    let claim = Claim {
        proof: &joined.proof,
        exported: &EXPORTED,
        addr: HOME,
    };
    let join = &joined.auth.join;
    let again = join.join(&token, "gateway-1", joined.public_key, &claim);
    assert_eq!(reason(again.await), Some(Refusal::Locked));
    joined.auth.unlock("1").await;
    joined.link(1, HOME).await.unwrap();
}

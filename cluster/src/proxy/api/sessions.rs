//! What a person has open, for that person alone.

use std::collections::HashSet;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use protocol::identity::NodeId;
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;

use super::{Remote, reachable};
use crate::audit::rfc3339;
use crate::auth::ca::peer::UserPeer;
use crate::proxy::Proxy;
use crate::proxy::sessions::{Listed, holder};

#[derive(Serialize)]
struct SessionView {
    id: String,
    node_id: String,
    node: String,
    login: String,
    started: String,
    state: &'static str,
    detached: Option<String>,
    grace_s: Option<u64>,
    left_s: Option<u64>,
}

/// `GET /v1/sessions`: those of whoever asks, on nodes that they may reach.
pub(super) async fn list(
    State(proxy): State<Proxy>,
    Extension(remote): Extension<Remote>,
) -> Response {
    let (peer, nodes) = match reachable(&proxy, remote).await {
        Ok(found) => found,
        Err(refusal) => return *refusal,
    };
    let nodes = nodes.iter().map(|node| node.id).collect();
    let sessions = own(proxy.sessions.list(), &peer, &nodes);
    let sessions: Vec<_> = sessions.iter().map(view).collect();
    Json(json!({ "sessions": sessions })).into_response()
}

/// Those of one person, and of nobody who has had the name before, by age.
fn own(mut sessions: Vec<Listed>, peer: &UserPeer, nodes: &HashSet<NodeId>) -> Vec<Listed> {
    let holder = holder(peer);
    sessions
        .retain(|session| session.about.holder() == holder && nodes.contains(&session.about.node));
    sessions.sort_by_key(|session| (session.started, session.id));
    sessions
}

fn view(session: &Listed) -> SessionView {
    let when = |at| rfc3339(OffsetDateTime::from(at));
    SessionView {
        id: hex::encode(session.id),
        node_id: session.about.node.to_string(),
        node: session.about.hostname.clone(),
        login: session.about.login.clone(),
        started: when(session.started),
        state: if session.detached.is_some() {
            "detached"
        } else {
            "attached"
        },
        detached: session.detached.map(when),
        grace_s: session.grace.as_ref().map(Duration::as_secs),
        left_s: session.left.as_ref().map(Duration::as_secs),
    }
}

#[cfg(test)]
mod tests {
    use protocol::identity::Fingerprint;

    use super::*;
    use crate::proxy::sessions::{About, Sessions};

    fn about(user_id: u64, node: u8) -> About {
        About {
            user: "ann".to_owned(),
            user_id,
            node: NodeId([node; 16]),
            hostname: "gateway-1".to_owned(),
            login: "root".to_owned(),
        }
    }

    #[test]
    fn who_is_made_anew_sees_nothing_of_who_had_the_name() {
        let sessions = Sessions::default();
        let mut guards = [about(1, 1), about(2, 1), about(2, 3)].map(|about| sessions.enter(about));
        for guard in &mut guards {
            guard.begin();
        }
        let ann = UserPeer {
            name: "ann".to_owned(),
            id: 2,
            fingerprint: Fingerprint([0; 32]),
            not_after: OffsetDateTime::UNIX_EPOCH,
        };
        let reachable = HashSet::from([NodeId([1; 16]), NodeId([2; 16])]);
        let seen = own(sessions.list(), &ann, &reachable);
        let seen: Vec<_> = seen.into_iter().map(|session| session.about).collect();
        assert_eq!(seen, [about(2, 1)]);
    }
}

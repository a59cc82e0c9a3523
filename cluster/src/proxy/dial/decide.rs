//! Whether a caller may reach a node, and what they may do there.

use std::time::Duration;

use protocol::message::dial::DialRefusal;
use time::OffsetDateTime;

use super::refusal::{Refused, internal, refused};
use super::{Caller, Wish};
use crate::auth::access::{Decision, decide};
use crate::auth::login::roles_of;
use crate::proxy::Proxy;
use crate::proxy::directory::Node;
use crate::resource::user::UserSpec;

/// What the roles allow here.
pub(super) struct Permit {
    pub(super) logins: Vec<String>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) resume_grace: Duration,
}

impl Proxy {
    /// Whether the caller may, and what.
    pub(super) async fn decide(
        &self,
        caller: &Caller,
        wish: Wish<'_>,
    ) -> Result<(Node, Permit), Refused> {
        let user = &caller.user;
        if user.not_after < OffsetDateTime::now_utc() {
            return Err(refused(
                DialRefusal::Denied,
                "your certificate has expired; run `tsh login`",
            ));
        }
        if let Some(text) = self.user_locked(&user.name) {
            return Err(refused(DialRefusal::Locked, text));
        }
        let resource = self
            .resources
            .find::<UserSpec>(&user.name)
            .await
            .map_err(internal)?;
        let resource = resource.ok_or_else(|| {
            refused(
                DialRefusal::Locked,
                format!("the user {} no longer exists", user.name),
            )
        })?;
        if !user.is(&resource) {
            return Err(refused(DialRefusal::Denied, made_anew(&user.name)));
        }
        let roles = roles_of(&self.resources, &resource)
            .await
            .map_err(internal)?;
        let reaches = |node: &Node| {
            let decision = decide(&roles, &resource.spec.traits, &node.labels(), None);
            !matches!(decision, Decision::NodeDenied)
        };
        let node = choose(self.directory.find(wish.target), wish.target, reaches)?;
        let decision = decide(&roles, &resource.spec.traits, &node.labels(), wish.login);
        let permit = permitted(decision, &node, wish.login)?;
        if let Some(lock) = &node.lock {
            let text = lock.spec.locked(&node.spec.hostname);
            return Err(refused(DialRefusal::Locked, text));
        }
        Ok((node, permit))
    }
}

/// The node that is meant. Of several of one name, those do not count that the person cannot reach:
/// whoever gives a device the name of another shuts nobody out.
fn choose(
    mut found: Vec<Node>,
    target: &str,
    reaches: impl Fn(&Node) -> bool,
) -> Result<Node, Refused> {
    if found.iter().any(&reaches) {
        found.retain(reaches);
    } else {
        // One is as good as another to say so.
        found.truncate(1);
    }
    let Some(last) = found.pop() else {
        return Err(refused(
            DialRefusal::UnknownNode,
            format!("there is no node {target:?}; `tsh ls` shows those you can reach"),
        ));
    };
    if found.is_empty() {
        return Ok(last);
    }
    let ids = found.iter().chain([&last]).map(|n| format!("\n  {}", n.id));
    let ids: String = ids.take(8).collect();
    let text = format!("several nodes are called {target:?}; use an id:{ids}");
    Err(refused(DialRefusal::AmbiguousName, text))
}

/// What somebody is told whose certificate was issued to an earlier user of the same name.
pub(in crate::proxy) fn made_anew(name: &str) -> String {
    format!("the user {name} was made anew since your certificate was issued; run `tsh login`")
}

fn permitted(decision: Decision, node: &Node, login: Option<&str>) -> Result<Permit, Refused> {
    let name = &node.spec.hostname;
    match decision {
        Decision::Allowed {
            logins,
            idle_timeout,
            resume_grace,
        } => Ok(Permit {
            logins,
            idle_timeout,
            resume_grace,
        }),
        Decision::NodeDenied => Err(refused(
            DialRefusal::Denied,
            format!("your roles do not allow you to reach {name}; ask an administrator"),
        )),
        Decision::LoginDenied { allowed } => Err(refused(
            DialRefusal::Denied,
            format!(
                "you may not log in to {name} as {}; allowed: {}",
                login.unwrap_or_default(),
                allowed.join(", ")
            ),
        )),
    }
}

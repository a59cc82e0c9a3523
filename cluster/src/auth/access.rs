//! The access decision: roles, a node's labels and a login in; yes or no out.
//!
//! * Any role whose `deny` selects the node denies the node.
//! * A login is allowed if some role's `allow` selects the node and names the login, and no role's
//!   `deny` names it.
//! * A user whose roles select the node but give no login cannot enter it.

use std::collections::BTreeSet;
use std::time::Duration;

use protocol::resume::GRACE;

use crate::resource::labels::{Labels, selects};
use crate::resource::role::{DEFAULT_SESSION_TTL_S, OWN_LOGINS, RoleSpec};
use crate::resource::user::Traits;

/// What a user may do on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// These logins, within these limits.
    Allowed {
        /// OS users, sorted.
        logins: Vec<String>,
        /// The shortest idle limit of all roles.
        idle_timeout: Option<Duration>,
        /// How long a session is kept while its link is lost: the shortest of all roles.
        resume_grace: Duration,
    },
    /// No role lets the user reach this node.
    NodeDenied,
    /// The node may be reached, but not as this OS user.
    LoginDenied {
        /// The OS users that would do.
        allowed: Vec<String>,
    },
}

/// Decides; `login` is the OS user asked for, if the client has named one.
#[must_use]
pub fn decide(roles: &[RoleSpec], traits: &Traits, node: &Labels, login: Option<&str>) -> Decision {
    if roles
        .iter()
        .any(|role| selects(&role.deny.node_labels, node))
    {
        return Decision::NodeDenied;
    }
    let here: Vec<_> = roles
        .iter()
        .filter(|role| selects(&role.allow.node_labels, node))
        .collect();
    let logins = allowed_logins(here.iter().copied(), roles, traits);
    if logins.is_empty() {
        return Decision::NodeDenied;
    }
    match login {
        Some(login) if !logins.iter().any(|l| l == login) => {
            Decision::LoginDenied { allowed: logins }
        }
        _ => Decision::Allowed {
            logins,
            idle_timeout: idle_timeout(roles),
            resume_grace: resume_grace(roles),
        },
    }
}

/// Every login that any node could allow: the principals of the user's certificate.
#[must_use]
pub fn principals(roles: &[RoleSpec], traits: &Traits) -> Vec<String> {
    allowed_logins(roles.iter(), roles, traits)
}

/// Longest life of the user's certificates: the shortest that any role allows.
#[must_use]
pub fn max_session_ttl(roles: &[RoleSpec]) -> Duration {
    let limits = roles.iter().filter_map(|role| role.options.max_session_ttl);
    limits
        .min()
        .unwrap_or(Duration::from_secs(DEFAULT_SESSION_TTL_S))
}

fn idle_timeout(roles: &[RoleSpec]) -> Option<Duration> {
    roles
        .iter()
        .filter_map(|role| role.options.client_idle_timeout)
        .min()
}

fn resume_grace(roles: &[RoleSpec]) -> Duration {
    let limits = roles.iter().filter_map(|role| role.options.resume_grace);
    limits.min().unwrap_or(GRACE)
}

fn allowed_logins<'a>(
    allowing: impl Iterator<Item = &'a RoleSpec>,
    all: &[RoleSpec],
    traits: &Traits,
) -> Vec<String> {
    let denied = |login: &str| {
        all.iter()
            .any(|role| role.deny.logins.iter().any(|d| d == login || d == "*"))
    };
    let logins: BTreeSet<_> = allowing
        .flat_map(|role| expand(&role.allow.logins, traits))
        .filter(|login| !denied(login))
        .collect();
    logins.into_iter().map(Into::into).collect()
}

fn expand<'a>(logins: &'a [String], traits: &'a Traits) -> impl Iterator<Item = &'a str> {
    logins
        .iter()
        .flat_map(move |login| match login.as_str() {
            OWN_LOGINS => traits.logins.as_slice(),
            _ => std::slice::from_ref(login),
        })
        .map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(yaml: &str) -> RoleSpec {
        serde_norway::from_str(yaml).expect("role")
    }

    fn traits(logins: &[&str]) -> Traits {
        Traits {
            logins: logins.iter().map(|l| (*l).into()).collect(),
        }
    }

    fn lab() -> Labels {
        Labels::from([("env".into(), "lab".into())])
    }

    fn allowed(logins: &[&str]) -> Decision {
        let logins = logins.iter().map(|l| (*l).into()).collect();
        Decision::Allowed {
            logins,
            idle_timeout: None,
            resume_grace: GRACE,
        }
    }

    const OWN: &str = "allow: {logins: ['{{internal.logins}}'], node_labels: {'*': '*'}}";
    const LAB_ROOT: &str = "allow: {logins: [root], node_labels: {env: lab}}";
    const PROD_ADMIN: &str = "allow: {logins: [admin], node_labels: {env: [prod, stage]}}";
    const NO_ROOT: &str = "deny: {logins: [root]}";
    const NO_LAB: &str = "deny: {node_labels: {env: lab}}";
    const NO_LOGIN: &str = "deny: {logins: ['*']}";

    #[test]
    fn decisions_are_as_the_table_says() {
        let denied = Decision::NodeDenied;
        let not_as = |logins: &[&str]| Decision::LoginDenied {
            allowed: logins.iter().map(|l| (*l).into()).collect(),
        };
        for (roles, own, login, expect) in [
            (&[][..], &["ann"][..], Some("ann"), denied.clone()),
            (&[OWN], &["ann"], Some("ann"), allowed(&["ann"])),
            (&[OWN], &["ann", "root"], None, allowed(&["ann", "root"])),
            (&[OWN], &["ann"], Some("root"), not_as(&["ann"])),
            (&[OWN], &[], Some("root"), denied.clone()),
            (&[LAB_ROOT], &[], Some("root"), allowed(&["root"])),
            (&[LAB_ROOT], &["ann"], Some("ann"), not_as(&["root"])),
            (&[PROD_ADMIN], &["ann"], Some("admin"), denied.clone()),
            (
                &[OWN, PROD_ADMIN],
                &["ann"],
                Some("admin"),
                not_as(&["ann"]),
            ),
            (
                &[OWN, LAB_ROOT],
                &["ann"],
                Some("root"),
                allowed(&["ann", "root"]),
            ),
            (
                &[OWN, LAB_ROOT, NO_ROOT],
                &["ann"],
                Some("root"),
                not_as(&["ann"]),
            ),
            (&[LAB_ROOT, NO_ROOT], &[], Some("root"), denied.clone()),
            (&[OWN, NO_LAB], &["ann"], Some("ann"), denied.clone()),
            (&[OWN, LAB_ROOT, NO_LOGIN], &["ann"], None, denied.clone()),
        ] {
            let parsed: Vec<_> = roles.iter().map(|r| role(r)).collect();
            let decision = decide(&parsed, &traits(own), &lab(), login);
            assert_eq!(decision, expect, "{roles:?} {own:?} {login:?}");
        }
    }

    #[test]
    fn the_shortest_limit_of_all_roles_counts() {
        let long = role("options: {max_session_ttl: 30h}");
        let short =
            role("options: {max_session_ttl: 1h, client_idle_timeout: 15m, resume_grace: 0s}");
        assert_eq!(max_session_ttl(&[]), Duration::from_secs(12 * 3600));
        assert_eq!(
            max_session_ttl(std::slice::from_ref(&long)),
            Duration::from_secs(30 * 3600)
        );
        assert_eq!(
            max_session_ttl(&[long, short.clone()]),
            Duration::from_secs(3600)
        );
        assert_eq!(resume_grace(&[]), GRACE);
        assert_eq!(resume_grace(std::slice::from_ref(&short)), Duration::ZERO);
        assert_eq!(idle_timeout(&[short]), Some(Duration::from_secs(900)));
    }

    #[test]
    fn principals_leave_out_what_is_denied_everywhere() {
        let roles = [role(OWN), role(PROD_ADMIN), role(NO_ROOT)];
        assert_eq!(
            principals(&roles, &traits(&["ann", "root"])),
            ["admin", "ann"]
        );
    }
}

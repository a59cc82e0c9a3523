//! `tsh status` and `tsh logout`.

use anyhow::Result;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::agent_keys;
use crate::cli::{Global, StatusArgs};
use crate::error::{Exit, fail};
use crate::login::chosen_proxy;
use crate::output::{self, Format, age};
use crate::profile::{Home, Profile, Session};

/// The status for programs.
#[derive(Debug, Serialize)]
struct Status<'a> {
    user: &'a str,
    cluster: &'a str,
    proxy: String,
    roles: &'a [String],
    logins: &'a [String],
    valid_until: Option<String>,
    valid: bool,
}

/// `tsh status`
pub(crate) fn run(global: &Global, args: &StatusArgs) -> Result<()> {
    let home = Home::from_env()?;
    let out = || {
        fail(
            Exit::LoggedOut,
            "You are not logged in. Run: tsh login --proxy HOST:PORT",
        )
    };
    let proxy = chosen_proxy(&home, global).map_err(|_| out())?;
    let profile = home.entry(&proxy).profile()?.ok_or_else(out)?;
    let now = OffsetDateTime::now_utc();
    match args.format {
        Format::Text => output::result(&describe(&profile, now)),
        format => output::structured(format, &Status::of(&profile, now))?,
    }
    if profile.session.is_some_and(|session| session.is_valid(now)) {
        Ok(())
    } else {
        Err(fail(
            Exit::LoggedOut,
            format!("You are not logged in to {proxy} any more. Run: tsh login"),
        ))
    }
}

/// `tsh logout`
pub(crate) async fn logout(global: &Global) -> Result<()> {
    let home = Home::from_env()?;
    let Some(proxy) = global
        .proxy
        .clone()
        .map_or_else(|| home.current(), |p| Ok(Some(p)))?
    else {
        output::note("You are not logged in.");
        return Ok(());
    };
    let entry = home.entry(&proxy);
    agent_keys::unload(agent_keys::Use::from_env(), &entry).await;
    if entry.forget_login()? {
        output::note(&format!("Logged out of {proxy}."));
    } else {
        output::note(&format!("You are not logged in to {proxy}."));
    }
    Ok(())
}

/// The status for people.
pub(crate) fn describe(profile: &Profile, now: OffsetDateTime) -> String {
    let valid = profile
        .session
        .as_ref()
        .map_or_else(|| "logged out".to_owned(), |session| validity(session, now));
    let (roles, logins) = profile.session.as_ref().map_or_else(Default::default, |s| {
        (s.roles.join(", "), s.logins.join(", "))
    });
    let lines = [
        ("User:", &profile.user),
        ("Cluster:", &profile.cluster),
        ("Proxy:", &profile.proxy.to_string()),
        ("Roles:", &roles),
        ("Logins:", &logins),
        ("Valid until:", &valid),
    ];
    lines
        .map(|(name, value)| {
            format!("{name:<13}{}", output::plain(value))
                .trim_end()
                .to_owned()
        })
        .join("\n")
}

fn validity(session: &Session, now: OffsetDateTime) -> String {
    let until = session.expires.format(&Rfc3339).unwrap_or_default();
    if session.is_valid(now) {
        format!(
            "{until} (for {})",
            age::span(age::between(now, session.expires))
        )
    } else {
        format!("{until} (expired {})", age::ago(session.expires, now))
    }
}

impl<'a> Status<'a> {
    fn of(profile: &'a Profile, now: OffsetDateTime) -> Self {
        let session = profile.session.as_ref();
        Self {
            user: &profile.user,
            cluster: &profile.cluster,
            proxy: profile.proxy.to_string(),
            roles: session.map_or(&[], |session| &session.roles),
            logins: session.map_or(&[], |session| &session.logins),
            valid_until: session.and_then(|session| session.expires.format(&Rfc3339).ok()),
            valid: session.is_some_and(|session| session.is_valid(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn profile() -> Profile {
        Profile {
            proxy: "h".parse().unwrap(),
            cluster: "lab".into(),
            user: "ann".into(),
            trust_serial: 1,
            session: Some(Session {
                roles: vec!["access".into()],
                logins: vec!["root".into(), "ann".into()],
                expires: OffsetDateTime::UNIX_EPOCH + Duration::from_secs(43_200),
            }),
        }
    }

    #[test]
    fn the_status_says_who_where_and_until_when() {
        let text = describe(&profile(), OffsetDateTime::UNIX_EPOCH);
        assert_eq!(
            text,
            "User:        ann\n\
             Cluster:     lab\n\
             Proxy:       h:3080\n\
             Roles:       access\n\
             Logins:      root, ann\n\
             Valid until: 1970-01-01T12:00:00Z (for 12 h)"
        );
    }

    #[test]
    fn an_expired_login_is_shown_as_such() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(2 * 43_200);
        assert!(describe(&profile(), now).ends_with("(expired 12 h ago)"));
        assert!(!Status::of(&profile(), now).valid);
    }

    #[test]
    fn the_status_for_programs_has_stable_names() {
        let profile = profile();
        let status = Status::of(&profile, OffsetDateTime::UNIX_EPOCH);
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["user"], "ann");
        assert_eq!(json["logins"], serde_json::json!(["root", "ann"]));
        assert_eq!(json["valid_until"], "1970-01-01T12:00:00Z");
        assert_eq!(json["valid"], true);
    }
}

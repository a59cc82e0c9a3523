//! `tsh sessions`: what the user has open, on a screen or kept for a while.

use std::time::Duration;

use anyhow::Result;
use time::OffsetDateTime;

use crate::api::Client;
use crate::api::types::{OpenSession, OpenSessions};
use crate::cli::{Global, SessionsArgs};
use crate::login;
use crate::output::table::Table;
use crate::output::{self, Format, age};
use crate::trust::Verifier;

/// `tsh sessions`
pub(crate) async fn list(global: &Global, args: &SessionsArgs) -> Result<()> {
    let user = login::require(global).await?;
    let proxy = user.profile.proxy.clone();
    let verifier = Verifier::new(proxy.clone(), user.trusted.pins()?);
    let client = Client::new(proxy, verifier, Some(&user.identity))?;
    let answer: OpenSessions = client.get("/v1/sessions").await?;
    match args.format() {
        Format::Text if answer.sessions.is_empty() => output::note("You have no sessions open."),
        Format::Text => output::result(&table(&answer.sessions, OffsetDateTime::now_utc())),
        format => output::structured(format, &answer.sessions)?,
    }
    Ok(())
}

fn table(sessions: &[OpenSession], now: OffsetDateTime) -> String {
    let mut table = Table::new(["Node", "Login", "Since", "State", "Kept for"]);
    for session in sessions {
        let detached = session
            .detached
            .map(|since| format!(" {}", age::ago(since, now)));
        table.push([
            session.node.clone(),
            session.login.clone(),
            age::ago(session.started, now),
            format!("{}{}", session.state, detached.unwrap_or_default()),
            left(session),
        ]);
    }
    table.render()
}

fn left(session: &OpenSession) -> String {
    let left = session.left_s.map(Duration::from_secs);
    left.map_or_else(String::new, age::span)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions() -> Vec<OpenSession> {
        let answer: OpenSessions = serde_json::from_str(
            r#"{"sessions":[
                {"id":"0a","node_id":"1","node":"gateway-1","login":"root","state":"attached",
                 "started":"1970-01-01T00:00:00Z","detached":null,"grace_s":600,"left_s":null},
                {"id":"0b","node":"camera","login":"ann","state":"detached","mood":"fine",
                 "started":"1970-01-01T00:50:00Z","detached":"1970-01-01T00:59:00Z","left_s":540}
            ],"next":null}"#,
        )
        .unwrap();
        answer.sessions
    }

    #[test]
    fn a_session_shows_where_since_when_and_for_how_long_it_is_kept() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(3600);
        assert_eq!(
            table(&sessions(), now),
            "Node       Login  Since       State               Kept for\n\
             ----       -----  -----       -----               --------\n\
             gateway-1  root   1 h ago     attached\n\
             camera     ann    10 min ago  detached 1 min ago  9 min"
        );
    }

    #[test]
    fn programs_get_every_field() {
        let json = serde_json::to_value(sessions()).unwrap();
        assert_eq!(json[0]["grace_s"], 600);
        assert_eq!(json[1]["detached"], "1970-01-01T00:59:00Z");
        assert_eq!(json[1]["grace_s"], serde_json::Value::Null);
    }
}

//! Writes a status: text for people, JSON and YAML for programs. The keys are an interface.

use std::time::Duration;

use super::encoding::Value;
use super::{Format, KeeperStatus, LastLoss, LinkStatus, NodeStatus, Status};
use crate::clock::{Span, Utc};
use crate::network::Network;

/// Writes it.
pub(super) fn render(status: &Status, format: Format) -> String {
    match format {
        Format::Text => text(status),
        Format::Json => value(status).json(),
        Format::Yaml => value(status).yaml(),
    }
}

fn text(status: &Status) -> String {
    let mut lines = vec![("agent", agent(status))];
    match &status.node {
        Some(node) => {
            lines.push(("node", format!("{} ({})", node.name, node.id)));
            lines.push(("cluster", format!("{} at {}", node.cluster, node.address)));
            lines.push(("certificate", certificate(node)));
        }
        None => lines.push(("node", "this device has not joined a cluster".to_owned())),
    }
    lines.push(("link", link(&status.link)));
    if let LinkStatus::Up {
        sent,
        received,
        heard,
        round_trip,
        keepalive,
        ..
    } = status.link
    {
        lines.push(("last seen", format!("{} ago", Span(heard))));
        if let Some(round_trip) = round_trip {
            lines.push(("round trip", format!("{} ms", round_trip.as_millis())));
        }
        if let Some(keepalive) = keepalive {
            let said = match keepalive.as_millis() {
                ms @ 1..1000 => format!("after {ms} ms of silence"),
                _ => format!("after {} of silence", Span(keepalive)),
            };
            lines.push(("keepalive", said));
        }
        lines.push((
            "traffic",
            format!("{sent} bytes sent, {received} bytes received"),
        ));
    }
    if let Some(network) = &status.network {
        lines.push(("network", network.to_string()));
    }
    if status.uptime.is_some() {
        let idle = status.idle_a_day.map_or_else(String::new, |bytes| {
            format!(", idle {} kB a day", bytes.div_ceil(1000))
        });
        let spent = status.spent.div_ceil(1000);
        lines.push(("spent", format!("{spent} kB since the start{idle}")));
    }
    if let Some(LastLoss { reason, time }) = &status.last_loss {
        lines.push(("last loss", format!("{reason}, at {}", Utc(*time))));
    }
    if status.uptime.is_some() {
        lines.push(("sessions", sessions(status)));
    }
    lines.extend(status.keepers.iter().map(|keeper| ("kept", kept(keeper))));
    if let Some(login) = &status.only_login {
        lines.push((
            "logins",
            format!("only {login}, since the agent does not run as root"),
        ));
    }
    lines.extend(
        status
            .problems
            .iter()
            .map(|problem| ("problem", problem.clone())),
    );
    lines
        .iter()
        .map(|(name, said)| format!("{:<13}{said}\n", format!("{name}:")))
        .collect()
}

fn agent(status: &Status) -> String {
    match status.uptime {
        Some(uptime) => {
            let goes = if status.restarting {
                ", about to restart"
            } else {
                ""
            };
            format!("{}, running for {}{goes}", status.version, Span(uptime))
        }
        None => format!("{}, not running", status.version),
    }
}

fn sessions(status: &Status) -> String {
    let Status {
        sessions,
        session_memory,
        ..
    } = status;
    match session_memory.div_ceil(1024) {
        0 => sessions.to_string(),
        kib => format!("{sessions}, {kib} KiB set aside to keep them"),
    }
}

fn kept(keeper: &KeeperStatus) -> String {
    let KeeperStatus {
        pid,
        version,
        sessions,
        memory,
    } = keeper;
    let memory = memory.map(|bytes| format!(", {} kB of memory", bytes.div_ceil(1000)));
    let memory = memory.unwrap_or_default();
    format!("{sessions} of them by process {pid} of before a restart ({version}{memory})")
}

fn certificate(node: &NodeStatus) -> String {
    let until = Utc(node.not_after);
    if node.expired {
        return format!("generation {}, expired since {until}", node.generation);
    }
    let renewal = Utc(node.renewal);
    format!(
        "generation {}, valid until {until}, renewal due {renewal}",
        node.generation
    )
}

fn link(link: &LinkStatus) -> String {
    match link {
        LinkStatus::Stopped => "none".to_owned(),
        LinkStatus::Joining => "joining the cluster".to_owned(),
        LinkStatus::Waiting { retry_in } => format!("waiting, next try in {}", Span(*retry_in)),
        LinkStatus::Connecting => "connecting".to_owned(),
        LinkStatus::Up {
            transport,
            since,
            lasting,
            dark,
            ..
        } => {
            let (since, lasting) = (Utc(*since), Span(*lasting));
            let dark = dark.map(|dark| format!(", no answer for {}", Span(dark)));
            let dark = dark.unwrap_or_default();
            format!("up since {since} ({lasting}) over {transport}{dark}")
        }
    }
}

fn value(status: &Status) -> Value {
    let node = status.node.as_ref();
    let name = |node: &NodeStatus| {
        Value::Map(vec![
            ("name", Value::text(&node.name)),
            ("id", Value::text(&node.id)),
        ])
    };
    let cluster = |node: &NodeStatus| {
        let (name, address) = (Value::text(&node.cluster), Value::text(&node.address));
        Value::Map(vec![("name", name), ("address", address)])
    };
    Value::Map(vec![
        ("running", Value::Bool(status.uptime.is_some())),
        ("version", Value::text(&status.version)),
        (
            "uptime_s",
            Value::maybe(status.uptime, |uptime| Value::Number(uptime.as_secs())),
        ),
        ("restarting", Value::Bool(status.restarting)),
        ("node", Value::maybe(node, name)),
        ("cluster", Value::maybe(node, cluster)),
        ("certificate", Value::maybe(node, certificate_value)),
        ("link", link_value(&status.link)),
        (
            "network",
            Value::maybe(status.network.as_ref(), network_value),
        ),
        ("bytes_spent", Value::Number(status.spent)),
        (
            "idle_bytes_a_day",
            Value::maybe(status.idle_a_day, Value::Number),
        ),
        (
            "last_loss",
            Value::maybe(status.last_loss.as_ref(), loss_value),
        ),
        ("sessions", number(status.sessions)),
        (
            "session_memory",
            Value::Number(status.session_memory.into()),
        ),
        (
            "keepers",
            Value::List(status.keepers.iter().map(keeper_value).collect()),
        ),
        (
            "only_login",
            Value::maybe(status.only_login.as_ref(), Value::text),
        ),
        (
            "problems",
            Value::List(status.problems.iter().map(Value::text).collect()),
        ),
    ])
}

fn number(count: usize) -> Value {
    Value::Number(u64::try_from(count).unwrap_or(u64::MAX))
}

fn keeper_value(keeper: &KeeperStatus) -> Value {
    Value::Map(vec![
        ("pid", Value::Number(keeper.pid.unsigned_abs().into())),
        ("version", Value::text(&keeper.version)),
        ("sessions", number(keeper.sessions)),
        ("memory", Value::maybe(keeper.memory, Value::Number)),
    ])
}

fn certificate_value(node: &NodeStatus) -> Value {
    Value::Map(vec![
        ("generation", Value::Number(node.generation.into())),
        ("not_before", Value::text(Utc(node.not_before))),
        ("not_after", Value::text(Utc(node.not_after))),
        ("renewal_due", Value::text(Utc(node.renewal))),
        ("expired", Value::Bool(node.expired)),
    ])
}

fn link_value(link: &LinkStatus) -> Value {
    let mut entries = match link {
        LinkStatus::Stopped => vec![("state", Value::text("stopped"))],
        LinkStatus::Joining => vec![("state", Value::text("joining"))],
        LinkStatus::Waiting { .. } => vec![("state", Value::text("waiting"))],
        LinkStatus::Connecting => vec![("state", Value::text("connecting"))],
        LinkStatus::Up { dark: Some(_), .. } => vec![("state", Value::text("dark"))],
        LinkStatus::Up { .. } => vec![("state", Value::text("up"))],
    };
    match link {
        LinkStatus::Waiting { retry_in } => {
            entries.push(("retry_in_s", Value::Number(retry_in.as_secs())));
        }
        LinkStatus::Up {
            transport,
            since,
            lasting,
            dark,
            heard,
            round_trip,
            keepalive,
            sent,
            received,
        } => entries.extend([
            ("transport", Value::text(transport)),
            ("since", Value::text(Utc(*since))),
            ("up_s", Value::Number(lasting.as_secs())),
            ("dark_s", Value::maybe(*dark, seconds)),
            ("last_seen_s", seconds(*heard)),
            ("round_trip_ms", Value::maybe(*round_trip, millis)),
            ("keepalive_ms", Value::maybe(*keepalive, millis)),
            ("bytes_sent", Value::Number(*sent)),
            ("bytes_received", Value::Number(*received)),
        ]),
        _ => {}
    }
    Value::Map(entries)
}

const fn seconds(span: Duration) -> Value {
    Value::Number(span.as_secs())
}

fn millis(span: Duration) -> Value {
    Value::Number(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

fn network_value(network: &Network) -> Value {
    // Without an address there is no network, and nothing to tell of it.
    let Some(local) = network.local else {
        return Value::Map(vec![("kind", Value::text("none"))]);
    };
    Value::Map(vec![
        ("kind", Value::text(network.kind.name())),
        ("id", Value::text(network.id)),
        ("interface", Value::text(&network.interface)),
        ("local", Value::text(local)),
        ("gateway", Value::maybe(network.gateway, Value::text)),
        (
            "gateway_hardware",
            Value::maybe(network.hardware.as_ref(), Value::text),
        ),
    ])
}

fn loss_value(loss: &LastLoss) -> Value {
    Value::Map(vec![
        ("reason", Value::text(&loss.reason)),
        ("time", Value::text(Utc(loss.time))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::tests::cellular;
    use crate::state::membership::tests::sample;

    fn status() -> Status {
        let now = Duration::from_secs(1_700_000_100);
        Status {
            version: "0.1.0".into(),
            uptime: Some(Duration::from_secs(3700)),
            restarting: false,
            node: Some(NodeStatus::new(
                &sample(),
                "lab.example.com:3080".into(),
                now,
            )),
            link: LinkStatus::Up {
                transport: "quic",
                since: now,
                lasting: Duration::from_secs(60),
                dark: None,
                heard: Duration::from_secs(3),
                round_trip: Some(Duration::from_micros(48_900)),
                keepalive: Some(Duration::from_secs(25)),
                sent: 1234,
                received: 567,
            },
            network: Some(cellular()),
            spent: 98_765,
            idle_a_day: Some(81_001),
            last_loss: Some(LastLoss {
                reason: "the \"cluster\" is busy".into(),
                time: now,
            }),
            sessions: 2,
            session_memory: 512 << 10,
            keepers: vec![KeeperStatus {
                pid: 77,
                version: "0.0.9".into(),
                sessions: 1,
                memory: Some(4_100_200),
            }],
            only_login: Some("ann".into()),
            problems: vec!["cannot write".into()],
        }
    }

    #[test]
    fn people_get_lines() {
        assert_eq!(
            text(&status()),
            "\
agent:       0.1.0, running for 1h1m
node:        gateway-1 (55555555-5555-5555-5555-555555555555)
cluster:     lab at lab.example.com:3080
certificate: generation 3, valid until 2023-11-21T22:13:20Z, renewal due 2023-11-18T10:13:20Z
link:        up since 2023-11-14T22:15:00Z (1m0s) over quic
last seen:   3s ago
round trip:  48 ms
keepalive:   after 25s of silence
traffic:     1234 bytes sent, 567 bytes received
network:     wwan0 (cellular), via 10.0.0.1
spent:       99 kB since the start, idle 82 kB a day
last loss:   the \"cluster\" is busy, at 2023-11-14T22:15:00Z
sessions:    2, 512 KiB set aside to keep them
kept:        1 of them by process 77 of before a restart (0.0.9, 4101 kB of memory)
logins:      only ann, since the agent does not run as root
problem:     cannot write
"
        );
    }

    #[test]
    fn an_agent_that_is_about_to_restart_says_so() {
        let status = Status {
            restarting: true,
            ..status()
        };
        let said = text(&status);
        let line = "agent:       0.1.0, running for 1h1m, about to restart\n";
        assert!(said.starts_with(line), "{said}");
    }

    #[test]
    fn programs_get_json() {
        assert_eq!(
            render(&status(), Format::Json),
            concat!(
                r#"{"running":true,"version":"0.1.0","uptime_s":3700,"restarting":false,"#,
                r#""node":{"name":"gateway-1","id":"55555555-5555-5555-5555-555555555555"},"#,
                r#""cluster":{"name":"lab","address":"lab.example.com:3080"},"#,
                r#""certificate":{"generation":3,"not_before":"2023-11-14T22:13:20Z","#,
                r#""not_after":"2023-11-21T22:13:20Z","renewal_due":"2023-11-18T10:13:20Z","#,
                r#""expired":false},"link":{"state":"up","transport":"quic","#,
                r#""since":"2023-11-14T22:15:00Z","up_s":60,"dark_s":null,"last_seen_s":3,"#,
                r#""round_trip_ms":48,"keepalive_ms":25000,"bytes_sent":1234,"#,
                r#""bytes_received":567},"network":{"kind":"cellular","#,
                r#""id":"992aefcf4fd995d8","interface":"wwan0","local":"10.0.0.7","#,
                r#""gateway":"10.0.0.1","gateway_hardware":null},"bytes_spent":98765,"#,
                r#""idle_bytes_a_day":81001,"last_loss":{"reason":"the \"cluster\" is busy","#,
                r#""time":"2023-11-14T22:15:00Z"},"sessions":2,"session_memory":524288,"#,
                r#""keepers":[{"pid":77,"#,
                r#""version":"0.0.9","sessions":1,"memory":4100200}],"only_login":"ann","#,
                r#""problems":["cannot write"]}"#,
                "\n"
            )
        );
    }

    #[test]
    fn what_is_not_known_is_null() {
        let json = render(&Status::of_stopped(), Format::Json);
        assert!(json.starts_with(r#"{"running":false,"#), "{json}");
        assert!(
            json.contains(r#""node":null,"cluster":null,"certificate":null"#),
            "{json}"
        );
        assert!(
            json.contains(r#""link":{"state":"stopped"},"network":null,"bytes_spent":0"#),
            "{json}"
        );
    }

    #[test]
    fn every_link_state_has_a_name() {
        for (link, name) in [
            (LinkStatus::Joining, "joining"),
            (
                LinkStatus::Waiting {
                    retry_in: Duration::from_secs(9),
                },
                "waiting",
            ),
            (LinkStatus::Connecting, "connecting"),
        ] {
            let yaml = render(&Status { link, ..status() }, Format::Yaml);
            assert!(
                yaml.contains(&format!("link:\n  state: \"{name}\"\n")),
                "{yaml}"
            );
        }
    }
}

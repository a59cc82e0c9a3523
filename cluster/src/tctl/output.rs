//! Everything `tctl` prints. Much of it was said by devices, so no control character passes.

use serde_json::Value;

use super::cli::{Export, Format};
use crate::printable::{plain, plain_json, plain_lines};

/// Prints answers in one format.
pub(super) struct Output(pub(super) Format);

impl Output {
    pub(super) fn status(&self, status: &Value) {
        let keys = [
            "cluster",
            "version",
            "public_addr",
            "ca_pin",
            "users",
            "nodes",
            "nodes_online",
            "sessions",
        ];
        self.show(status, || {
            keys.map(|k| format!("{:<13} {}\n", k.replace('_', " "), text(status, k)))
                .concat()
        });
    }

    pub(super) fn user(&self, user: &Value, done: &str) {
        self.show(user, || {
            let name = text(user, "name");
            let mut out = format!(
                "User {name} {done}. Roles: {}. Logins: {}.\n",
                list(user, "roles"),
                list(user, "logins")
            );
            if let Some(code) = user.get("invite").and_then(Value::as_str) {
                out += &format!(
                    "\nInvite, valid once until {}:\n\n    {code}\n\n\
                     Have {name} run this, and answer with the invite when asked:\n\n    \
                     tsh login --proxy {} --user {name} --ca-pin {}\n",
                    text(user, "expires"),
                    text(user, "proxy"),
                    text(user, "ca_pin"),
                );
            }
            out
        });
    }

    pub(super) fn users(&self, users: &Value) {
        self.table(users, &["User", "Roles", "Logins", "State"], |u| {
            vec![
                text(u, "name"),
                list(u, "roles"),
                list(u, "logins"),
                text(u, "state"),
            ]
        });
    }

    pub(super) fn token(&self, token: &Value) {
        self.show(token, || {
            format!(
                "Join token {}, valid until {}. On the device, run:\n\n    \
                 tether-agent join --cluster {} --token {} --ca-pin {}\n    tether-agent start\n",
                text(token, "name"),
                text(token, "expires"),
                text(token, "cluster"),
                text(token, "token"),
                text(token, "ca_pin"),
            )
        });
    }

    pub(super) fn tokens(&self, tokens: &Value) {
        self.table(
            tokens,
            &["Token", "Type", "Labels", "Uses left", "Expires"],
            |t| {
                let uses = if t["uses_left"].is_null() {
                    "any".into()
                } else {
                    text(t, "uses_left")
                };
                vec![
                    text(t, "name"),
                    text(t, "type"),
                    labels(t),
                    uses,
                    text(t, "expires"),
                ]
            },
        );
    }

    pub(super) fn nodes(&self, nodes: &Value) {
        self.table(
            nodes,
            &["Node", "Id", "Status", "Last seen", "Version", "Labels"],
            |n| {
                let mut status = String::from(if n["online"] == true {
                    "online"
                } else {
                    "offline"
                });
                for problem in n["problems"].as_array().into_iter().flatten() {
                    status += &format!("; {}", problem.as_str().unwrap_or_default());
                }
                vec![
                    text(n, "name"),
                    text(n, "id"),
                    status,
                    text(n, "last_seen"),
                    text(n, "agent_version"),
                    labels(n),
                ]
            },
        );
    }

    pub(super) fn lock(&self, lock: &Value) {
        self.show(lock, || {
            let until = match text(lock, "expires") {
                end if end.is_empty() => String::from("until it is removed"),
                end => format!("until {end}"),
            };
            let name = text(lock, "name");
            format!(
                "{} is locked {until}. To lift it:\n\n    tctl unlock {name}\n",
                locked(lock)
            )
        });
    }

    pub(super) fn locks(&self, locks: &Value) {
        let heads = ["Lock", "Target", "Message", "Created", "Expires"];
        self.table(locks, &heads, |l| {
            vec![
                text(l, "name"),
                locked(l),
                text(l, "message"),
                text(l, "created"),
                text(l, "expires"),
            ]
        });
    }

    pub(super) fn resources(&self, resources: &Value) {
        match self.0 {
            Format::Json => self.show(resources, String::new),
            Format::Text | Format::Yaml => {
                let all = resources.as_array().map(Vec::as_slice).unwrap_or_default();
                let documents: Vec<_> = all.iter().map(yaml).collect();
                print(&documents.join("---\n"));
            }
        }
    }

    pub(super) fn export(&self, export: &Value, kind: Export) {
        let (host, user) = (&export["host"], &export["user"]);
        let known_hosts = text(export, "known_hosts");
        match kind {
            Export::All => self.show(export, || {
                format!(
                    "# cluster {}, CA pin {}\n# known_hosts\n{known_hosts}# sshd TrustedUserCAKeys\n{}\n# host CA\n{}",
                    text(export, "cluster"), text(export, "ca_pin"), text(user, "ssh"), text(host, "x509"),
                )
            }),
            Export::User => line(&text(user, "ssh")),
            Export::Host => print(&known_hosts),
            Export::Tls => print(&text(host, "x509")),
        }
    }

    pub(super) fn audit(&self, events: &Value) {
        self.show(events, || {
            let rows = events.as_array().map(Vec::as_slice).unwrap_or_default();
            let line = |event: &Value| plain_json(&event.to_string()) + "\n";
            rows.iter().map(line).collect()
        });
    }

    fn table(&self, rows: &Value, heads: &[&str], cells: impl Fn(&Value) -> Vec<String>) {
        self.show(rows, || {
            let rows = rows.as_array().map(Vec::as_slice).unwrap_or_default();
            let mut lines = vec![heads.iter().map(|h| (*h).to_owned()).collect()];
            let plain_cells = |row| -> Vec<_> { cells(row).iter().map(|c| plain(c)).collect() };
            lines.extend(rows.iter().map(plain_cells));
            columns(&lines)
        });
    }

    fn show(&self, value: &Value, human: impl FnOnce() -> String) {
        match self.0 {
            Format::Text => print(&human()),
            Format::Json => line(&json(value)),
            Format::Yaml => print(&yaml(value)),
        }
    }
}

/// A field as text; empty if it is absent.
pub(super) fn text(value: &Value, key: &str) -> String {
    match value.get(key) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Says that a lock is gone.
pub(super) fn unlocked(lock: &Value) {
    line(&format!(
        "lock {} of {} removed",
        text(lock, "name"),
        locked(lock)
    ));
}

fn locked(lock: &Value) -> String {
    let (user, id, node) = (
        text(lock, "user"),
        text(lock, "server_id"),
        text(lock, "node"),
    );
    match (user.is_empty(), node.is_empty()) {
        (false, _) => format!("user {user}"),
        (true, true) => format!("node {id}"),
        (true, false) => format!("node {node} ({id})"),
    }
}

/// Prints a line.
pub(super) fn line(text: &str) {
    print(&format!("{text}\n"));
}

#[allow(
    clippy::print_stdout,
    reason = "the one place where tctl prints its answers"
)]
fn print(text: &str) {
    print!("{}", plain_lines(text));
}

fn json(value: &Value) -> String {
    plain_json(&serde_json::to_string_pretty(value).unwrap_or_default())
}

fn yaml(value: &Value) -> String {
    serde_norway::to_string(value).unwrap_or_default()
}

fn list(value: &Value, key: &str) -> String {
    let items = value
        .get(key)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let items: Vec<_> = items.iter().filter_map(Value::as_str).collect();
    if items.is_empty() {
        "-".into()
    } else {
        items.join(",")
    }
}

fn labels(value: &Value) -> String {
    let labels = value.get("labels").and_then(Value::as_object);
    let pairs = labels
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()));
    pairs.collect::<Vec<_>>().join(",")
}

fn columns(lines: &[Vec<String>]) -> String {
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|l| l.get(column))
            .map(|c| c.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<_> = (0..lines.first().map_or(0, Vec::len)).map(width).collect();
    let row = |line: &Vec<String>| {
        let cells = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    lines.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_rows_do_not_trail() {
        let lines = [
            vec!["Node".into(), "Labels".into()],
            vec!["gateway-1".into(), String::new()],
        ];
        assert_eq!(columns(&lines), "Node       Labels\ngateway-1\n");
    }

    #[test]
    fn programs_read_what_was_said_and_terminals_are_not_driven() {
        let value = serde_json::json!({ "kernel": "6.1\u{9b}31m\u{7f}\u{1b}[0m\n" });
        let (json, yaml) = (json(&value), yaml(&value));
        for text in [&json, &yaml] {
            assert_eq!(&plain_lines(text), text);
        }
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), value);
        assert_eq!(serde_norway::from_str::<Value>(&yaml).unwrap(), value);
    }
}

//! `tsh ls`: the nodes of the cluster, online or not.

use anyhow::Result;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::api::Client;
use crate::api::types::{Node, Nodes};
use crate::cli::{Global, ListFormat, LsArgs};
use crate::login;
use crate::output::table::Table;
use crate::output::{self, Format, age};
use crate::trust::Verifier;

pub(crate) mod filter;

use filter::Filter;

/// `tsh ls`
pub(crate) async fn list(global: &Global, args: &LsArgs) -> Result<()> {
    let user = login::require(global).await?;
    let proxy = user.profile.proxy.clone();
    let verifier = Verifier::new(proxy.clone(), user.trusted.pins()?);
    let client = Client::new(proxy, verifier, Some(&user.identity))?;
    let answer: Nodes = client.get("/v1/nodes").await?;
    let filter = Filter::new(&args.labels, &args.search);
    let nodes = selected(answer.nodes, &filter);
    show(&nodes, args)?;
    if nodes.is_empty() {
        output::note(if filter.is_empty() {
            "There are no nodes that you may see."
        } else {
            "No node matches."
        });
    }
    Ok(())
}

fn selected(nodes: Vec<Node>, filter: &Filter<'_>) -> Vec<Node> {
    let mut nodes: Vec<_> = nodes
        .into_iter()
        .filter(|node| filter.takes(node))
        .collect();
    nodes.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    nodes
}

fn show(nodes: &[Node], args: &LsArgs) -> Result<()> {
    match args.format {
        ListFormat::Json => output::structured(Format::Json, &nodes),
        ListFormat::Yaml => output::structured(Format::Yaml, &nodes),
        _ if nodes.is_empty() => Ok(()),
        ListFormat::Names => {
            let names: Vec<_> = nodes.iter().map(|node| output::plain(&node.name)).collect();
            output::result(&names.join("\n"));
            Ok(())
        }
        ListFormat::Text => {
            let now = OffsetDateTime::now_utc();
            let table = if args.verbose {
                long(nodes, now)
            } else {
                short(nodes, now)
            };
            output::result(&table);
            Ok(())
        }
    }
}

fn short(nodes: &[Node], now: OffsetDateTime) -> String {
    let mut table = Table::new(["Node", "Status", "Labels"]);
    for node in nodes {
        table.push([node.name.clone(), status(node, now), labels(node)]);
    }
    table.render()
}

fn long(nodes: &[Node], now: OffsetDateTime) -> String {
    let mut table = Table::new([
        "Node",
        "Status",
        "Labels",
        "Id",
        "Address",
        "Link",
        "Traffic",
        "Agent",
        "Last seen",
        "Reason",
        "Kernel",
        "Logins",
        "Problems",
    ]);
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    for node in nodes {
        let seen = node.last_seen.and_then(|seen| seen.format(&Rfc3339).ok());
        table.push([
            node.name.clone(),
            status(node, now),
            labels(node),
            node.id.clone(),
            text(&node.addr),
            link(node),
            traffic(node),
            text(&node.agent_version),
            text(&seen),
            text(&node.reason),
            text(&node.kernel),
            logins(node),
            node.problems.join("; "),
        ]);
    }
    table.render()
}

fn status(node: &Node, now: OffsetDateTime) -> String {
    match node.last_seen {
        _ if node.online => "online".to_owned(),
        Some(seen) => format!("offline {}", age::ago(seen, now)),
        None => "never seen".to_owned(),
    }
}

fn link(node: &Node) -> String {
    let link = node.link.clone().unwrap_or_default();
    match node.rtt_ms {
        Some(rtt) if node.online => format!("{link} {rtt} ms"),
        _ => link,
    }
}

/// What its link has cost so far.
fn traffic(node: &Node) -> String {
    let kilobytes = node.link_bytes.map(|bytes| bytes.div_ceil(1000));
    kilobytes.map_or_else(String::new, |kilobytes| format!("{kilobytes} kB"))
}

/// Without root an agent cannot become anybody else.
fn logins(node: &Node) -> String {
    let only = node.only_login.as_ref();
    only.map_or_else(String::new, |only| format!("only {only}"))
}

fn labels(node: &Node) -> String {
    let labels = node
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    labels.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use filter::LabelFilter;

    pub(crate) fn node(name: &str, labels: &[(&str, &str)]) -> Node {
        let labels: serde_json::Map<_, _> = labels
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.into()))
            .collect();
        let node = serde_json::json!({"id": format!("id-{name}"), "name": name, "labels": labels,
            "online": true, "last_seen": "1970-01-01T00:00:00Z", "kernel": "6.1", "link": "quic",
            "addr": "192.0.2.1:5000", "agent_version": "0.1.0", "rtt_ms": 42,
            "link_bytes": 15001});
        serde_json::from_value(node).unwrap()
    }

    fn now() -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::from_secs(3 * 3600)
    }

    #[test]
    fn nodes_are_sorted_and_shown_with_status_and_labels() {
        let mut offline = node("camera", &[]);
        offline.online = false;
        let nodes = vec![node("router", &[("env", "lab"), ("arch", "mips")]), offline];
        let nodes = selected(nodes, &Filter::new(&[], &[]));
        assert_eq!(
            short(&nodes, now()),
            "Node    Status           Labels\n\
             ----    ------           ------\n\
             camera  offline 3 h ago\n\
             router  online           arch=mips,env=lab"
        );
    }

    #[test]
    fn verbose_shows_where_a_node_is_and_what_it_runs() {
        let mut node = node("camera", &[]);
        node.online = false;
        node.reason = Some("link timed out".into());
        node.only_login = Some("ann".into());
        node.problems = vec!["it is locked: stolen".into()];
        let text = long(&[node], now());
        for part in [
            "id-camera",
            "192.0.2.1:5000",
            "quic",
            "0.1.0",
            "link timed out",
            "6.1",
            "1970-01-01T00:00:00Z",
            "only ann",
            "16 kB",
            "it is locked: stolen",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }

    #[test]
    fn a_node_that_never_came_says_so() {
        let mut node = node("camera", &[]);
        (node.online, node.last_seen) = (false, None);
        assert_eq!(status(&node, now()), "never seen");
    }

    #[test]
    fn programs_get_every_field() {
        let json = serde_json::to_value([node("router", &[("env", "lab")])]).unwrap();
        assert_eq!(json[0]["name"], "router");
        assert_eq!(json[0]["labels"]["env"], "lab");
        assert_eq!(json[0]["last_seen"], "1970-01-01T00:00:00Z");
        assert_eq!(json[0]["only_login"], serde_json::Value::Null);
    }

    #[test]
    fn only_what_matches_is_selected() {
        let nodes = vec![node("a", &[("env", "lab")]), node("b", &[("env", "prod")])];
        let labels = [LabelFilter::parse("env=prod").unwrap()];
        let nodes = selected(nodes, &Filter::new(&labels, &[]));
        assert_eq!(nodes.len(), 1);
        assert_eq!(nodes[0].name, "b");
    }

    #[test]
    fn an_answer_with_gaps_and_news_is_understood() {
        let nodes: Nodes = serde_json::from_str(
            r#"{"nodes":[{"id":"1","name":"n","kernel":null,"battery":7}],"next":null}"#,
        )
        .unwrap();
        assert_eq!(nodes.nodes[0].kernel, None);
    }
}

//! `odradek status`: how a cluster is, as far as Kafka's protocol tells, and how one of our brokers
//! is, from its admin port.

mod cluster;
mod node;

use std::net::SocketAddr;

use clap::Args;
use serde_json::{Value, json};

use self::{cluster::ClusterStatus, node::NodeStatus};
use crate::{
    alone::{self, Broker},
    settings, slow_requests,
    table::Format,
};

/// Where the admin port is where nothing else was set.
const ADMIN_PORT: u16 = 9644;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  odradek status
  odradek status --slow
  odradek status --bootstrap-server kafka-1:9092 --format json
  odradek status --bootstrap-server kafka-1:9092 --admin kafka-1:9644 --slow")]
pub(crate) struct Status {
    #[command(flatten)]
    broker: Broker,
    /// The broker's admin port [default: 9644 on its host, if that is the same cluster's]
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// Show its slowest requests, and where their time went
    #[arg(long)]
    slow: bool,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command; the error is for people, in one line.
pub(crate) fn run(options: &Status) -> Result<(), String> {
    let cluster = alone::on_cluster(&options.broker, async |runtime, cluster| {
        cluster::look(&runtime, &cluster).await
    });
    let node = look_at_node(options, cluster.as_ref().ok());
    if let (Err(of_cluster), Err(of_node)) = (&cluster, &node) {
        return Err(format!("{of_cluster}; {of_node}"));
    }
    if options.admin.is_some() || options.slow {
        node.as_ref().map_err(String::clone)?;
    }
    let page = match options.format {
        Format::Json => format!("{:#}\n", json_of(&cluster, &node)),
        Format::Table => text_of(&cluster, &node),
    };
    alone::print(&page)
}

fn look_at_node(options: &Status, cluster: Option<&ClusterStatus>) -> Result<NodeStatus, String> {
    let slow = if options.slow { node::Slow::Asked } else { node::Slow::Left };
    if let Some(name) = &options.admin {
        let address = settings::resolve_text(name).map_err(|error| error.to_string())?;
        return node::look(address, slow).map_err(|error| format!("admin port {name}: {error}"));
    }
    let bootstrap = options.broker.address()?;
    let address = SocketAddr::new(bootstrap.ip(), ADMIN_PORT);
    // A port that nobody named may be that of another broker of this machine.
    let is_meant = |node: &NodeStatus| match cluster {
        Some(cluster) => cluster.has(&node.identity),
        None => node.identity.listens_on(bootstrap.port()),
    };
    let reason = match node::look(address, slow) {
        Ok(node) if is_meant(&node) => return Ok(node),
        Ok(_) => "it is another cluster's".to_owned(),
        Err(error) => error,
    };
    Err(format!("admin port {address}, which only Odradek has: {reason}; --admin names another"))
}

fn json_of(cluster: &Result<ClusterStatus, String>, node: &Result<NodeStatus, String>) -> Value {
    let errors: Vec<&String> =
        [cluster.as_ref().err(), node.as_ref().err()].into_iter().flatten().collect();
    let slow = node.as_ref().ok().and_then(|node| node.slow.as_ref());
    json!({
        "cluster": cluster.as_ref().ok().map(ClusterStatus::json),
        "broker": node.as_ref().ok().map(NodeStatus::json),
        "slow": slow.map(|slow| &slow["requests"]),
        "errors": errors,
    })
}

fn text_of(cluster: &Result<ClusterStatus, String>, node: &Result<NodeStatus, String>) -> String {
    let mut page = String::new();
    for part in [cluster.as_ref().map(ClusterStatus::text), node.as_ref().map(NodeStatus::text)] {
        match part {
            Ok(text) => page.push_str(&text),
            Err(error) => page.push_str(&row("not asked", error)),
        }
    }
    if let Ok(ClusterStatus { lags, .. }) = cluster
        && !lags.is_empty()
    {
        page.push('\n');
        page.push_str(&cluster::lags_table(lags).render(Format::Table));
    }
    if let Ok(node) = node {
        page.push('\n');
        page.push_str(&node.shards_table().render(Format::Table));
        if let Some(slow) = &node.slow {
            page.push('\n');
            page.push_str(&slow_requests::text(slow));
        }
    }
    page
}

/// A line of the page.
fn row(name: &str, value: &str) -> String {
    format!("{name:<12}{}\n", crate::table::shown_text(value))
}

/// A count with its word.
fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

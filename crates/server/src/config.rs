//! `odradek config`: settings of topics, brokers, groups and clients' metrics of any Kafka cluster.

use clap::{Args, Subcommand, ValueEnum};
use client::{AutoCreate, Cluster, Connection, Error};
use model::ErrorCode;
use serde_json::Value;
use wire::{
    describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource},
    describe_configs_response::DescribeConfigsResourceResult,
    incremental_alter_configs_request::{
        AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
    },
};

use crate::{
    alone::{self, Broker},
    table::{Format, Table},
};

/// `DescribeConfigs`'s source of what nobody has set.
const SOURCE_DEFAULT: i8 = 5;

#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  odradek config describe topic orders
  odradek config describe broker 1 --altered
  odradek config set topic orders retention.ms=86400000 cleanup.policy=compact
  odradek config delete topic orders retention.ms")]
pub(crate) enum Command {
    /// Show settings: values, where they come from, defaults and types
    Describe(Describe),
    /// Set some, and leave the others as they are
    Set(Set),
    /// Take some back to their defaults
    Delete(Delete),
}

/// Whose settings.
#[derive(Debug, Args)]
struct Resource {
    #[command(flatten)]
    broker: Broker,
    /// Of what kind
    #[arg(value_enum, value_name = "KIND")]
    kind: Kind,
    /// Its name; of a broker its node id, or "" for the defaults of all brokers
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Topic,
    Broker,
    Group,
    ClientMetrics,
}

impl Kind {
    /// Kafka's number of it.
    fn number(self) -> i8 {
        match self {
            Kind::Topic => 2,
            Kind::Broker => 4,
            Kind::ClientMetrics => 16,
            Kind::Group => 32,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Describe {
    #[command(flatten)]
    resource: Resource,
    /// These settings alone
    #[arg(value_name = "SETTING")]
    settings: Vec<String>,
    /// Only those that somebody has set
    #[arg(long)]
    altered: bool,
    /// What each is for, where the broker tells
    #[arg(long)]
    documentation: bool,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    #[command(flatten)]
    resource: Resource,
    /// The settings
    #[arg(value_name = "SETTING=VALUE", required = true)]
    settings: Vec<String>,
    /// Ask whether they would be taken, and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    resource: Resource,
    /// The settings
    #[arg(value_name = "SETTING", required = true)]
    settings: Vec<String>,
    /// Ask whether that would be taken, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// One setting's change.
pub(crate) enum Change {
    Set(String, String),
    Delete(String),
}

/// Whether a change is made or only judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Made,
    Judged,
}

impl Effect {
    fn of(dry_run: bool) -> Effect {
        if dry_run { Effect::Judged } else { Effect::Made }
    }
}

/// Runs the command; the error is for people, in one line.
pub(crate) fn run(command: Command) -> Result<(), String> {
    match command {
        Command::Describe(options) => describe(options),
        Command::Set(Set { resource, settings, dry_run }) => {
            let pairs = alone::names_and_values(&settings)?;
            let changes = pairs.into_iter().map(|(name, value)| Change::Set(name, value));
            alter(resource, changes.collect(), Effect::of(dry_run))
        }
        Command::Delete(Delete { resource, settings, dry_run }) => {
            let changes = settings.into_iter().map(Change::Delete).collect();
            alter(resource, changes, Effect::of(dry_run))
        }
    }
}

fn describe(options: Describe) -> Result<(), String> {
    let Describe { resource, settings, altered, documentation, format } = options;
    let Resource { broker, kind, name } = resource;
    let table = alone::on_cluster(&broker, async move |_, cluster| {
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: kind.number(),
                resource_name: &name,
                configuration_keys: (!settings.is_empty())
                    .then(|| settings.iter().map(String::as_str).collect()),
            }],
            include_synonyms: true,
            include_documentation: documentation,
        };
        let connection = whoever_knows(&cluster, kind, &name).await?;
        let answer = connection.call(&request).await?;
        let response = answer.decode()?;
        let found = response.results.first().ok_or(Error::Nonsense("no resource"))?;
        if let Err(refusal) = alone::judge(found.error_code, found.error_message) {
            return Ok(Err(refusal));
        }
        let mut shown: Vec<&DescribeConfigsResourceResult<'_>> = found
            .configs
            .iter()
            .filter(|one| !altered || one.config_source != SOURCE_DEFAULT)
            .collect();
        shown.sort_by_key(|one| one.name);
        Ok(Ok(table(&shown, documentation)))
    })??;
    alone::print(&table.render(format))
}

/// What a broker has set for itself, it alone can tell; the rest is the cluster's.
async fn whoever_knows(cluster: &Cluster, kind: Kind, name: &str) -> client::Result<Connection> {
    if kind != Kind::Broker || name.is_empty() {
        return cluster.any().await;
    }
    let node_id = name.parse().map_err(|_| Error::Refused(ErrorCode::BrokerNotAvailable))?;
    cluster.refresh(&[], AutoCreate::Never).await?;
    Box::pin(cluster.broker(node_id)).await
}

fn table(settings: &[&DescribeConfigsResourceResult<'_>], documentation: bool) -> Table {
    let text = |text: Option<&str>| text.map_or(Value::Null, Value::from);
    let mut table = match documentation {
        false => Table::new(&["setting", "value", "source", "default", "type"]),
        true => Table::new(&["setting", "value", "source", "default", "type", "documentation"]),
    };
    for one in settings {
        let default = one.synonyms.iter().find(|synonym| synonym.source == SOURCE_DEFAULT);
        let value = if one.is_sensitive { "(hidden)".into() } else { text(one.value) };
        let default = match one.config_source {
            SOURCE_DEFAULT => value.clone(),
            _ => text(default.and_then(|default| default.value)),
        };
        let (source, kind) = (source_name(one.config_source), type_name(one.config_type));
        let name = one.name.into();
        match documentation {
            false => table.push([name, value, source.into(), default, kind.into()]),
            true => {
                let documentation = text(one.documentation);
                table.push([name, value, source.into(), default, kind.into(), documentation]);
            }
        }
    }
    table
}

pub(crate) fn source_name(source: i8) -> &'static str {
    match source {
        1 => "topic",
        2 => "broker",
        3 => "all brokers",
        4 => "start",
        SOURCE_DEFAULT => "default",
        6 => "broker logger",
        7 => "client metrics",
        8 => "group",
        _ => "unknown",
    }
}

fn type_name(number: i8) -> &'static str {
    match number {
        1 => "boolean",
        2 => "string",
        3 => "int",
        4 => "short",
        5 => "long",
        6 => "double",
        7 => "list",
        8 => "class",
        9 => "password",
        _ => "unknown",
    }
}

fn alter(resource: Resource, changes: Vec<Change>, effect: Effect) -> Result<(), String> {
    let Resource { broker, kind, name } = resource;
    let done =
        format!("{} {name}\n", if effect == Effect::Made { "altered" } else { "would alter" });
    alone::on_cluster(&broker, async move |_, cluster| {
        let connection = whoever_knows(&cluster, kind, &name).await?;
        send(&connection, kind, &name, &changes, effect).await
    })??;
    alone::print(&done)
}

async fn send(
    connection: &Connection,
    kind: Kind,
    name: &str,
    changes: &[Change],
    effect: Effect,
) -> client::Result<Result<(), String>> {
    let configs = changes.iter().map(|change| match change {
        Change::Set(name, value) => {
            AlterableConfig { name, config_operation: 0, value: Some(value) }
        }
        Change::Delete(name) => AlterableConfig { name, config_operation: 1, value: None },
    });
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: kind.number(),
            resource_name: name,
            configs: configs.collect(),
        }],
        validate_only: effect == Effect::Judged,
    };
    let answer = connection.call(&request).await?;
    let response = answer.decode()?;
    let result = response.responses.first().ok_or(Error::Nonsense("no resource"))?;
    Ok(alone::judge(result.error_code, result.error_message))
}

/// Changes settings of a topic.
///
/// # Errors
/// The connection's; within the answer one line of what the broker refuses.
pub(crate) async fn alter_topic(
    connection: &Connection,
    topic: &str,
    changes: &[Change],
) -> client::Result<Result<(), String>> {
    send(connection, Kind::Topic, topic, changes, Effect::Made).await
}

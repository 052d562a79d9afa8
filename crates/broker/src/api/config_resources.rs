//! What AlterConfigs and IncrementalAlterConfigs have in common: the resources of a request, each
//! of which succeeds or fails alone and whole.

use cluster::{
    controller::{AlterMode, ConfigChange, ConfigOperation, Intent},
    record::{ConfigResource, ResourceType},
};
use model::ErrorCode;

use super::Request;
use crate::{
    controller::{AlterConfigs, CONTROLLER_SHARD},
    error_map, loggers,
    shard::Shard,
};

/// The levels of a broker's log, which the controller knows nothing of.
const BROKER_LOGGER: i8 = 8;

/// What a request wants of one resource.
pub(super) struct Alteration<'a> {
    pub(super) resource_type: i8,
    pub(super) name: &'a str,
    /// `None`: what is asked is no operation, or one without the value that it needs.
    pub(super) operations: Vec<(&'a str, Option<ConfigOperation>)>,
}

/// What became of it.
pub(super) struct Outcome {
    pub(super) error: ErrorCode,
    pub(super) message: Option<String>,
}

impl Outcome {
    fn of(error: &cluster::Error) -> Outcome {
        let message = if let cluster::Error::UnknownTopic(name) = error {
            format!("The topic '{name}' does not exist.")
        } else {
            error.to_string()
        };
        Outcome { error: error_map::cluster(error), message: Some(message) }
    }
}

/// Has the controller alter what can be altered; an outcome for each resource, in their order. It
/// comes when every shard goes by the new settings.
pub(super) async fn alter(
    request: &Request<'_>,
    asked: Vec<Alteration<'_>>,
    mode: AlterMode,
    is_only_validated: bool,
) -> Vec<Outcome> {
    let intent = if is_only_validated { Intent::Validate } else { Intent::Apply };
    let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(asked.len());
    let mut changes = Vec::new();
    for one in &asked {
        if one.resource_type == BROKER_LOGGER && mode == AlterMode::Incremental {
            let is_named_once = asked.iter().filter(|other| is_same(one, other)).count() == 1;
            let altered = alter_loggers(request.shard, one, is_named_once, intent);
            let none = Outcome { error: ErrorCode::None, message: None };
            outcomes.push(Some(altered.err().map_or(none, |error| Outcome::of(&error))));
            continue;
        }
        match change(one) {
            Ok(change) => {
                changes.push(change);
                outcomes.push(None);
            }
            Err(error) => outcomes.push(Some(Outcome::of(&error))),
        }
    }
    let altered = if changes.is_empty() {
        Ok(Vec::new())
    } else {
        let call = AlterConfigs { changes, mode, intent };
        request.shard.call(CONTROLLER_SHARD, call).await.answer().await
    };
    let decided = |one: &Alteration<'_>| match &altered {
        Err(error) => Outcome::of(error),
        Ok(altered) => {
            let resource = resource(one);
            let found = altered.iter().find(|(known, _)| *known == resource);
            match found {
                Some((_, Err(error))) => Outcome::of(error),
                Some((_, Ok(()))) | None => Outcome { error: ErrorCode::None, message: None },
            }
        }
    };
    outcomes
        .into_iter()
        .zip(&asked)
        .map(|(outcome, one)| outcome.unwrap_or_else(|| decided(one)))
        .collect()
}

fn is_same(one: &Alteration<'_>, other: &Alteration<'_>) -> bool {
    (one.resource_type, one.name) == (other.resource_type, other.name)
}

/// Alters the levels of this process's log; all of what is asked, or nothing.
fn alter_loggers(
    shard: &Shard,
    asked: &Alteration<'_>,
    is_named_once: bool,
    intent: Intent,
) -> Result<(), cluster::Error> {
    if !is_named_once {
        return Err(cluster::Error::InvalidRequest("a resource is named twice".to_owned()));
    }
    loggers::check_node(shard.node(), asked.name)?;
    let changes = loggers::changes(shard.loggers.as_ref(), &asked.operations)?;
    if intent == Intent::Apply && !changes.is_empty() {
        shard.loggers.set(&changes);
    }
    Ok(())
}

fn resource(asked: &Alteration<'_>) -> ConfigResource {
    ConfigResource { resource_type: ResourceType(asked.resource_type), name: asked.name.to_owned() }
}

fn change(asked: &Alteration<'_>) -> Result<ConfigChange, cluster::Error> {
    let refuse = |what: String| Err(cluster::Error::InvalidRequest(what));
    let mut operations = Vec::with_capacity(asked.operations.len());
    for (name, operation) in &asked.operations {
        let Some(operation) = operation else {
            return refuse(format!("no operation, or no value for it: {}", name.escape_default()));
        };
        operations.push(((*name).to_owned(), operation.clone()));
    }
    Ok(ConfigChange { resource: resource(asked), operations })
}

//! IncrementalAlterConfigs, versions 0 and 1: settings of a topic one by one.

use cluster::controller::{AlterMode, ConfigOperation};
use wire::{
    incremental_alter_configs_request::{AlterableConfig, IncrementalAlterConfigsRequest},
    incremental_alter_configs_response::{
        AlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
    },
};

use super::{
    Answer, Request,
    config_resources::{Alteration, alter},
};

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: IncrementalAlterConfigsRequest<'_> = request.decode()?;
    let asked = body
        .resources
        .iter()
        .map(|resource| Alteration {
            resource_type: resource.resource_type,
            name: resource.resource_name,
            operations: resource.configs.iter().map(|one| (one.name, operation(one))).collect(),
        })
        .collect();
    let outcomes = alter(request, asked, AlterMode::Incremental, body.validate_only).await;
    let responses = body
        .resources
        .iter()
        .zip(&outcomes)
        .map(|(resource, outcome)| AlterConfigsResourceResponse {
            error_code: outcome.error.code(),
            error_message: outcome.message.as_deref(),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
        })
        .collect();
    request.respond(&IncrementalAlterConfigsResponse { responses, ..Default::default() })
}

/// `None`: there is no such operation, or it lacks its value.
fn operation(config: &AlterableConfig<'_>) -> Option<ConfigOperation> {
    let value = config.value.map(str::to_owned);
    match config.config_operation {
        0 => value.map(ConfigOperation::Set),
        1 => Some(ConfigOperation::Delete),
        2 => value.map(ConfigOperation::Append),
        3 => value.map(ConfigOperation::Subtract),
        _ => None,
    }
}

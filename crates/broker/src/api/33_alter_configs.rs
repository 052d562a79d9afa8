//! AlterConfigs, versions 0 to 2: all settings of a topic at once; what is not named goes back to
//! its default.

use cluster::controller::{AlterMode, ConfigOperation};
use wire::{
    alter_configs_request::AlterConfigsRequest,
    alter_configs_response::{AlterConfigsResourceResponse, AlterConfigsResponse},
};

use super::{
    Answer, Request,
    config_resources::{Alteration, alter},
};

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: AlterConfigsRequest<'_> = request.decode()?;
    let asked = body
        .resources
        .iter()
        .map(|resource| Alteration {
            resource_type: resource.resource_type,
            name: resource.resource_name,
            operations: resource
                .configs
                .iter()
                .map(|config| {
                    let value = config.value.map(str::to_owned);
                    (config.name, value.map(ConfigOperation::Set))
                })
                .collect(),
        })
        .collect();
    let outcomes = alter(request, asked, AlterMode::Full, body.validate_only).await;
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
    request.respond(&AlterConfigsResponse { responses, ..Default::default() })
}

//! DescribeCluster, versions 0 to 2: the brokers of the cluster, which is this one.

use model::ErrorCode;
use wire::{
    describe_cluster_request::DescribeClusterRequest,
    describe_cluster_response::{DescribeClusterBroker, DescribeClusterResponse},
};

use super::{Answer, Request, authorized_operations};

/// What kinds of addresses a client can ask for.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) fn answer(request: &Request<'_>) -> Answer {
    let body: DescribeClusterRequest = request.decode()?;
    let refused = match body.endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some((
            ErrorCode::MismatchedEndpointType,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type \
             CONTROLLER"
                .to_owned(),
        )),
        other => Some((
            ErrorCode::UnsupportedEndpointType,
            format!("Unsupported endpoint type {other}"),
        )),
    };
    if let Some((error, message)) = refused {
        return request.respond(&DescribeClusterResponse {
            error_code: error.code(),
            error_message: Some(&message),
            ..Default::default()
        });
    }
    let shard = request.shard;
    let (host, port) = shard.advertised(request.connection);
    let node = shard.config.node_id;
    let response = DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: &shard.identity().cluster_id,
        controller_id: node,
        brokers: vec![DescribeClusterBroker {
            broker_id: node,
            host: &host,
            port: i32::from(port),
            rack: None,
            // It answers, so it is not fenced.
            is_fenced: false,
        }],
        cluster_authorized_operations: authorized_operations::of_cluster(
            body.include_cluster_authorized_operations,
        ),
        ..Default::default()
    };
    request.respond(&response)
}

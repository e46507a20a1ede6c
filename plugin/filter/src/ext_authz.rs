//! Calls to the policy host over Envoy's ext_authz protocol, and their responses.

use postern_gate::{PolicyHost, PolicyResponse};
use prost::Message;
use proxy_wasm::hostcalls;
use proxy_wasm::types::BufferType;

use crate::ingest::Fields;

/// The part of `envoy.config.core.v3.GrpcService` that names a cluster.
#[derive(Clone, PartialEq, Message)]
struct GrpcService {
    #[prost(message, optional, tag = "1")]
    envoy_grpc: Option<EnvoyGrpc>,
}

/// `GrpcService.EnvoyGrpc`.
#[derive(Clone, PartialEq, Message)]
struct EnvoyGrpc {
    #[prost(string, tag = "1")]
    cluster_name: String,
}

/// Calls the policy host. Returns the call's token.
///
/// # Errors
/// [`PolicyResponse::Unavailable`], if the call cannot be made.
pub(crate) fn call(host: &PolicyHost, message: &[u8], trace: &Fields) -> Result<u32, PolicyResponse> {
    let service = service(&host.cluster);
    let authorization = host
        .authorization()
        .map(|value| ("authorization", value.as_bytes()));
    let trace = trace.iter().map(|(name, value)| (*name, value.as_bytes()));
    hostcalls::dispatch_grpc_call(
        &service,
        PolicyHost::SERVICE,
        PolicyHost::METHOD,
        authorization.into_iter().chain(trace).collect(),
        Some(message),
        host.timeout,
    )
    .map_err(|status| {
        PolicyResponse::Unavailable(format!(
            "cluster \"{}\" cannot be called ({status:?}); is it defined, and are its endpoints reachable?",
            host.cluster
        ))
    })
}

/// The proxy accepts either a `GrpcService` or a cluster's name. Some names happen to parse as a `GrpcService` that names
/// no cluster; so the message is sent wherever it is text, which the SDK requires.
fn service(cluster: &str) -> String {
    let service = GrpcService {
        envoy_grpc: Some(EnvoyGrpc {
            cluster_name: cluster.to_owned(),
        }),
    };
    String::from_utf8(service.encode_to_vec()).unwrap_or_else(|_| cluster.to_owned())
}

/// Reads the response to the call whose callback this is. The call ended with the gRPC `status`, or with a message of
/// `size` bytes.
pub(crate) fn read_response(status: u32, size: usize) -> PolicyResponse {
    if status != 0 {
        return PolicyResponse::from_grpc_status(status);
    }
    if size > PolicyHost::MAX_RESPONSE {
        return PolicyResponse::Failed(format!("the response has {size} bytes"));
    }
    // An empty message is invalid too, but the gate decides that.
    let message = if size == 0 {
        None
    } else {
        hostcalls::get_buffer(BufferType::GrpcReceiveBuffer, 0, size)
            .ok()
            .flatten()
    };
    PolicyResponse::from_message(&message.unwrap_or_default())
}

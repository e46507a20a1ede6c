//! Asking a policy: the call to the policy host and its answer.

use postern_gate::{Answer, PolicyHost};
use prost::Message;
use proxy_wasm::hostcalls;
use proxy_wasm::types::BufferType;

use crate::audit::Fields;

/// Of `envoy.config.core.v3.GrpcService` what names a cluster.
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

/// Sends the question. The call's token, by which its answer comes.
///
/// # Errors
/// [`Answer::Unavailable`], if it cannot be sent.
pub(crate) fn ask(host: &PolicyHost, question: &[u8], trace: &Fields) -> Result<u32, Answer> {
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
        Some(question),
        host.timeout,
    )
    .map_err(|status| {
        Answer::Unavailable(format!(
            "cluster \"{}\" cannot be called ({status:?}); is it defined, and is anyone there?",
            host.cluster
        ))
    })
}

/// The proxy takes either a `GrpcService` or, if it cannot be read as one, a cluster's name. Some names can be read as
/// one by chance, and then name nothing; so the message is sent, wherever it is text, as the SDK wants it.
fn service(cluster: &str) -> String {
    let service = GrpcService {
        envoy_grpc: Some(EnvoyGrpc {
            cluster_name: cluster.to_owned(),
        }),
    };
    String::from_utf8(service.encode_to_vec()).unwrap_or_else(|_| cluster.to_owned())
}

/// The answer to a call that ended with a gRPC status, or with a message of `size` bytes.
pub(crate) fn answer(status: u32, size: usize) -> Answer {
    if status != 0 {
        return Answer::of_status(status);
    }
    if size > PolicyHost::MAX_ANSWER {
        return Answer::Failed(format!("the answer has {size} bytes"));
    }
    // An empty message is no answer either, but that is for the gate to say.
    let message = if size == 0 {
        None
    } else {
        hostcalls::get_buffer(BufferType::GrpcReceiveBuffer, 0, size)
            .ok()
            .flatten()
    };
    Answer::of_message(&message.unwrap_or_default())
}

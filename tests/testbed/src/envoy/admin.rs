//! Talking to the admin interface.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::{Envoy, Error};

const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy)]
pub(super) enum Verb {
    Get,
    Post,
}

/// The body of a 200.
///
/// On a thread with a runtime of its own, so that it may be called from asynchronous and other code alike.
pub(super) fn call(admin: Option<SocketAddr>, verb: Verb, path: &str) -> Result<String, Error> {
    let failed = |reason: String| Error::Admin {
        path: path.to_owned(),
        reason,
    };
    let Some(admin) = admin else {
        return Err(failed("not listening yet".to_owned()));
    };
    let url = format!("http://{admin}{path}");
    let answer = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime
                    .map_err(|error| error.to_string())?
                    .block_on(request(verb, &url))
            })
            .join()
    });
    match answer {
        Ok(Ok((200, body))) => Ok(body),
        Ok(Ok((status, body))) => Err(failed(format!("{status} {}", body.trim()))),
        Ok(Err(reason)) => Err(failed(reason)),
        Err(_) => Err(failed("the client's thread panicked".to_owned())),
    }
}

async fn request(verb: Verb, url: &str) -> Result<(u16, String), String> {
    let answer = async {
        let client = crate::http::builder().timeout(TIMEOUT).build()?;
        let request = match verb {
            Verb::Get => client.get(url),
            Verb::Post => client.post(url),
        };
        let response = request.send().await?;
        let status = response.status().as_u16();
        Ok((status, response.text().await?))
    };
    answer.await.map_err(|error: reqwest::Error| error.to_string())
}

/// Names and addresses of the TCP listeners, in the order Envoy lists them.
pub(super) fn listeners(envoy: &Envoy) -> Result<Vec<(String, SocketAddr)>, Error> {
    let path = "/listeners?format=json";
    let listeners: Value = serde_json::from_str(&envoy.admin_get(path)?).map_err(|error| Error::Admin {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    let statuses = listeners.get("listener_statuses").and_then(Value::as_array);
    Ok(statuses.into_iter().flatten().filter_map(named_address).collect())
}

fn named_address(listener: &Value) -> Option<(String, SocketAddr)> {
    let address = listener.get("local_address")?.get("socket_address")?;
    let ip = address.get("address")?.as_str()?.parse().ok()?;
    let port = u16::try_from(address.get("port_value")?.as_u64()?).ok()?;
    Some((
        listener.get("name")?.as_str()?.to_owned(),
        SocketAddr::new(ip, port),
    ))
}

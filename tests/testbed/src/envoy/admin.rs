//! A client of the admin interface.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::{Envoy, Error};

const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy)]
pub(super) enum Method {
    Get,
    Post,
}

/// Sends a request and returns the body of a 200.
///
/// It runs on a thread with its own runtime, so that synchronous and asynchronous code can call it.
pub(super) fn call(admin: Option<SocketAddr>, method: Method, path: &str) -> Result<String, Error> {
    let failed = |reason: String| Error::Admin {
        path: path.to_owned(),
        reason,
    };
    let Some(admin) = admin else {
        return Err(failed("not listening yet".to_owned()));
    };
    let url = format!("http://{admin}{path}");
    let response = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime
                    .map_err(|error| error.to_string())?
                    .block_on(request(method, &url))
            })
            .join()
    });
    match response {
        Ok(Ok((200, body))) => Ok(body),
        Ok(Ok((status, body))) => Err(failed(format!("{status} {}", body.trim()))),
        Ok(Err(reason)) => Err(failed(reason)),
        Err(_) => Err(failed("the client's thread panicked".to_owned())),
    }
}

async fn request(method: Method, url: &str) -> Result<(u16, String), String> {
    let response = async {
        let client = crate::http::builder().timeout(TIMEOUT).build()?;
        let request = match method {
            Method::Get => client.get(url),
            Method::Post => client.post(url),
        };
        let response = request.send().await?;
        let status = response.status().as_u16();
        Ok((status, response.text().await?))
    };
    response.await.map_err(|error: reqwest::Error| error.to_string())
}

/// Names and addresses of the TCP listeners, in Envoy's order.
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

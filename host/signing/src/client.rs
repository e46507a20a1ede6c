//! The HTTP side of asking a proxy.

use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable as _};
use ct_codecs::{Base64, Encoder as _};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use url::Url;

use crate::answer::{self, Answer};
use crate::error::{SigningError, StartError};
use crate::fault::{Fault, RetryHint};
use crate::metrics::Metrics;
use crate::settings::{Auth, ProxySettings, SettingsError};
use crate::tls;

/// The longest pause that a proxy's `Retry-After` gets; what asks for more would not be back within the deadline.
const PATIENCE: Duration = Duration::from_secs(1);

const RETRIES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(20))
    .with_factor(3.0)
    .with_max_times(2)
    .with_jitter();

#[derive(Serialize)]
struct Question<'a> {
    payload_b64: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    signer_id: Option<&'a str>,
}

/// What a proxy's health endpoint says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyHealth {
    /// It could sign.
    Well,
    /// It has no such endpoint.
    Unsaid,
}

/// Asks a proxy.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    sign: Url,
    health: Url,
    metrics: Metrics,
}

impl Client {
    pub(crate) fn new(settings: &ProxySettings, metrics: Metrics) -> Result<Self, StartError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::config(settings)?)
            .default_headers(credentials(&settings.auth)?)
            .connect_timeout(settings.connect)
            .http1_only()
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(15))
            // Proxies and load balancers close idle connections after a minute or more.
            .pool_idle_timeout(Duration::from_secs(30))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .build()
            .map_err(|error| StartError::Client(error.to_string()))?;
        Ok(Self {
            http,
            sign: settings.endpoint("sign"),
            health: settings.endpoint("healthz"),
            metrics,
        })
    }

    /// Has a payload signed, and tells how long the attempt that did it took. Sets itself no deadline.
    pub(crate) async fn sign(
        &self,
        signer_id: Option<&str>,
        payload: &[u8],
    ) -> Result<(Answer, Duration), SigningError> {
        let question = Question {
            payload_b64: Base64::encode_to_string(payload).map_err(|_| SigningError::PayloadTooLarge)?,
            signer_id,
        };
        let body = serde_json::to_vec(&question).map_err(|_| SigningError::PayloadTooLarge)?;
        let pause = |fault: &Fault, delay: Option<Duration>| match fault.again {
            RetryHint::Never => None,
            RetryHint::Soon => delay,
            RetryHint::After(asked) => delay.map(|delay| delay.max(asked)),
        };
        (|| self.attempt(body.clone()))
            .retry(RETRIES)
            .when(|fault| fault.again != RetryHint::Never)
            .adjust(pause)
            .notify(|_, _| self.metrics.retried())
            .await
            .map_err(|fault| fault.error)
    }

    async fn attempt(&self, body: Vec<u8>) -> Result<(Answer, Duration), Fault> {
        let began = Instant::now();
        let request = self
            .http
            .post(self.sign.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        let response = request
            .send()
            .await
            .map_err(|error| Fault::of_transport(&error))?;
        if response.status() != StatusCode::OK {
            return Err(refusal(&response));
        }
        let body = read(response).await?;
        let answer = Answer::read(&body).map_err(|wrong| Fault::last(SigningError::Garbage(wrong)))?;
        Ok((answer, began.elapsed()))
    }

    /// Asks the proxy how it is. Sets itself no deadline.
    pub(crate) async fn wellness(&self) -> Result<ProxyHealth, SigningError> {
        let response = self
            .http
            .get(self.health.clone())
            .send()
            .await
            .map_err(|error| Fault::of_transport(&error).error)?;
        match response.status() {
            status if status.is_success() => {
                // Read to its end, so that the connection can be kept.
                read(response).await.map_err(|fault| fault.error)?;
                Ok(ProxyHealth::Well)
            }
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(ProxyHealth::Unsaid),
            _ => Err(refusal(&response).error),
        }
    }
}

/// What the host shows with each request.
fn credentials(auth: &Auth) -> Result<HeaderMap, SettingsError> {
    let mut headers = HeaderMap::new();
    if let Auth::Bearer(token) = auth {
        let token = token.expose_secret();
        if token.is_empty() {
            return Err(SettingsError::Token);
        }
        let mut value =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| SettingsError::Token)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

/// What a status other than 200 means.
fn refusal(response: &Response) -> Fault {
    let status = response.status();
    let error = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => SigningError::Unauthorized(status.as_u16()),
        _ => SigningError::Status(status.as_u16()),
    };
    let again = match pause(response.headers()) {
        // It has said that it did not do it, and when it will.
        Some(pause) if status == StatusCode::SERVICE_UNAVAILABLE && pause <= PATIENCE => {
            RetryHint::After(pause)
        }
        _ => RetryHint::Never,
    };
    Fault { error, again }
}

/// `Retry-After` (RFC 9110, section 10.2.3) in seconds; dates are too coarse for our deadlines.
fn pause(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The body, if it is no larger than an answer may be.
async fn read(mut response: Response) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| Fault::of_transport(&error))?
    {
        if body.len() + chunk.len() > answer::MOST {
            return Err(Fault::last(SigningError::Garbage("is larger than 64 KiB")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

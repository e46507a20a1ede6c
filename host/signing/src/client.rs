//! The HTTP client of the signing proxy.

use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable as _};
use ct_codecs::{Base64, Encoder as _};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use url::Url;

use crate::attempt_error::{AttemptError, RetryHint};
use crate::error::{SigningError, StartError};
use crate::metrics::Metrics;
use crate::settings::{Auth, ProxySettings, SettingsError};
use crate::tls;
use crate::unverified_signature::{self, UnverifiedSignature};

/// Maximum `Retry-After` that is honoured; after a longer pause the deadline would have passed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(1);

const RETRIES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(20))
    .with_factor(3.0)
    .with_max_times(2)
    .with_jitter();

#[derive(Serialize)]
struct SignRequestBody<'a> {
    payload_b64: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    signer_id: Option<&'a str>,
}

/// The response of the proxy's health endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyHealth {
    /// The proxy reports that it can sign.
    Healthy,
    /// The proxy has no health endpoint.
    Unsupported,
}

/// A client of the signing proxy. Deadlines for whole requests are the caller's.
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

    /// Requests a signature, and returns it with the duration of the successful attempt. Sets no deadline.
    pub(crate) async fn sign(
        &self,
        signer_id: Option<&str>,
        payload: &[u8],
    ) -> Result<(UnverifiedSignature, Duration), SigningError> {
        let request = SignRequestBody {
            payload_b64: Base64::encode_to_string(payload).map_err(|_| SigningError::PayloadTooLarge)?,
            signer_id,
        };
        let body = serde_json::to_vec(&request).map_err(|_| SigningError::PayloadTooLarge)?;
        let next_delay = |error: &AttemptError, delay: Option<Duration>| match error.retry {
            RetryHint::Never => None,
            RetryHint::Soon => delay,
            RetryHint::After(requested) => delay.map(|delay| delay.max(requested)),
        };
        (|| self.attempt(body.clone()))
            .retry(RETRIES)
            .when(|error| error.retry != RetryHint::Never)
            .adjust(next_delay)
            .notify(|_, _| self.metrics.retried())
            .await
            .map_err(|error| error.error)
    }

    async fn attempt(&self, body: Vec<u8>) -> Result<(UnverifiedSignature, Duration), AttemptError> {
        let started = Instant::now();
        let request = self
            .http
            .post(self.sign.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        let response = request
            .send()
            .await
            .map_err(|error| AttemptError::from_transport(&error))?;
        if response.status() != StatusCode::OK {
            return Err(status_error(&response));
        }
        let body = read_body(response).await?;
        let signature = UnverifiedSignature::parse(&body)
            .map_err(|problem| AttemptError::permanent(SigningError::InvalidResponse(problem)))?;
        Ok((signature, started.elapsed()))
    }

    /// Queries the proxy's health endpoint. Sets no deadline.
    pub(crate) async fn check_health(&self) -> Result<ProxyHealth, SigningError> {
        let response = self
            .http
            .get(self.health.clone())
            .send()
            .await
            .map_err(|error| AttemptError::from_transport(&error).error)?;
        match response.status() {
            status if status.is_success() => {
                // The body is read to its end so that the connection can be reused.
                read_body(response).await.map_err(|error| error.error)?;
                Ok(ProxyHealth::Healthy)
            }
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(ProxyHealth::Unsupported),
            _ => Err(status_error(&response).error),
        }
    }
}

/// The headers that authenticate the host, sent with each request.
fn credentials(auth: &Auth) -> Result<HeaderMap, SettingsError> {
    let mut headers = HeaderMap::new();
    if let Auth::Bearer(token) = auth {
        let token = token.expose_secret();
        if token.is_empty() {
            return Err(SettingsError::InvalidToken);
        }
        let mut value =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| SettingsError::InvalidToken)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

/// The error for a status other than 200.
fn status_error(response: &Response) -> AttemptError {
    let status = response.status();
    let error = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => SigningError::Unauthorized(status.as_u16()),
        _ => SigningError::Status(status.as_u16()),
    };
    let retry = match retry_after(response.headers()) {
        // The proxy says that it did not sign, and when it will be able to.
        Some(pause) if status == StatusCode::SERVICE_UNAVAILABLE && pause <= MAX_RETRY_AFTER => {
            RetryHint::After(pause)
        }
        _ => RetryHint::Never,
    };
    AttemptError { error, retry }
}

/// `Retry-After` (RFC 9110, section 10.2.3) in seconds. Dates are ignored: they are too coarse for these deadlines.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Reads the response body, up to [`unverified_signature::MAX_SIZE`].
async fn read_body(mut response: Response) -> Result<Vec<u8>, AttemptError> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| AttemptError::from_transport(&error))?
    {
        if body.len() + chunk.len() > unverified_signature::MAX_SIZE {
            return Err(AttemptError::permanent(SigningError::InvalidResponse(
                "larger than 64 KiB",
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

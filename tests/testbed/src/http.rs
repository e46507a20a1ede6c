//! HTTP clients of tests.

/// A client builder that ignores proxies of the environment and uses ring for TLS.
///
/// Several dependencies of a test process use rustls and none of them installs a default provider, which reqwest needs.
pub fn builder() -> reqwest::ClientBuilder {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy()
}

/// Sends a GET on a new connection.
///
/// # Errors
///
/// When there is no response.
pub async fn get(url: &str) -> reqwest::Result<reqwest::Response> {
    builder().build()?.get(url).send().await
}

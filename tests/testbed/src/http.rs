//! HTTP clients of tests.

/// A client to be: without a proxy of the environment's, and with ring for TLS.
///
/// The process has several users of TLS and none of them is its default; a client that names none needs one.
pub fn builder() -> reqwest::ClientBuilder {
    // Installed already, it stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy()
}

/// Sends a GET on a connection of its own.
///
/// # Errors
///
/// When there is no answer.
pub async fn get(url: &str) -> reqwest::Result<reqwest::Response> {
    builder().build()?.get(url).send().await
}

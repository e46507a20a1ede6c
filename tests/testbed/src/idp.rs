//! An identity provider whose keys rotate on demand and whose JWKS endpoint breaks on demand.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::Value;

pub use crate::keys::Alg;
use crate::keys::KeySet;
use crate::server::Server;

/// Where the keys are published.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";

/// How the JWKS endpoint behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// 200 with the keys.
    #[default]
    Ok,
    /// 500.
    Down500,
    /// 200 with something that is no JWK set.
    Garbage,
    /// Takes the request and never answers.
    Hang,
    /// 200 with the keys, after so long.
    Slow(Duration),
}

#[derive(Debug)]
struct Provider {
    keys: Arc<KeySet>,
    mode: Mode,
    fetches: u64,
}

type Shared = Arc<Mutex<Provider>>;

fn lock(provider: &Shared) -> MutexGuard<'_, Provider> {
    provider.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves [`JWKS_PATH`] and mints tokens that verify with what it serves.
#[derive(Debug)]
pub struct IdentityProvider {
    server: Server,
    provider: Shared,
}

impl IdentityProvider {
    /// Starts a provider with fresh keys on a free port.
    ///
    /// # Errors
    ///
    /// When no port or thread is to be had, or keys cannot be generated.
    pub fn start() -> io::Result<Self> {
        let keys = Arc::new(KeySet::generate().map_err(io::Error::other)?);
        let provider = Arc::new(Mutex::new(Provider {
            keys,
            mode: Mode::Ok,
            fetches: 0,
        }));
        let router = Router::new()
            .route(JWKS_PATH, get(publish))
            .with_state(Arc::clone(&provider));
        Ok(Self {
            server: Server::start("identity-provider", router)?,
            provider,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// The keys of now.
    #[must_use]
    pub fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&lock(&self.provider).keys)
    }

    /// The JWK set of now.
    #[must_use]
    pub fn jwks_json(&self) -> String {
        self.keys().jwks_json()
    }

    /// A token with exactly these claims, signed with the key of now, its id in the header.
    ///
    /// # Panics
    ///
    /// When the claims are not a JSON object.
    #[must_use]
    pub fn mint(&self, alg: Alg, claims: &Value) -> String {
        self.keys().mint(alg, claims)
    }

    /// How often the JWK set was asked for, in whatever mode.
    #[must_use]
    pub fn fetches(&self) -> u64 {
        lock(&self.provider).fetches
    }

    /// Breaks or mends the endpoint.
    pub fn set_mode(&self, mode: Mode) {
        lock(&self.provider).mode = mode;
    }

    /// Replaces all keys: new keys, new ids, the old ones gone.
    ///
    /// # Panics
    ///
    /// When keys cannot be generated, for want of randomness.
    pub fn rotate(&self) {
        // Generated outside the lock: the endpoint goes on answering with the old keys meanwhile.
        #[expect(
            clippy::expect_used,
            reason = "for tests: without new keys the test cannot go on"
        )]
        let next = self.keys().next().expect("randomness for new keys");
        lock(&self.provider).keys = Arc::new(next);
    }
}

async fn publish(State(provider): State<Shared>) -> Response {
    let (mode, keys) = {
        let mut provider = lock(&provider);
        provider.fetches += 1;
        (provider.mode, Arc::clone(&provider.keys))
    };
    let json = [(header::CONTENT_TYPE, "application/json")];
    match mode {
        Mode::Ok => (json, keys.jwks_json()).into_response(),
        Mode::Down500 => (StatusCode::INTERNAL_SERVER_ERROR, "out of order\n").into_response(),
        Mode::Garbage => (json, "<html>this is not a JWK set").into_response(),
        Mode::Hang => std::future::pending().await,
        Mode::Slow(delay) => {
            tokio::time::sleep(delay).await;
            (json, keys.jwks_json()).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn modes_and_rotation() {
        let idp = IdentityProvider::start().unwrap();
        let url = format!("http://{}{JWKS_PATH}", idp.addr());
        let body = async || crate::http::get(&url).await.unwrap().text().await.unwrap();
        let first = body().await;
        assert_eq!(first, idp.jwks_json());

        idp.set_mode(Mode::Down500);
        assert_eq!(crate::http::get(&url).await.unwrap().status(), 500);
        idp.set_mode(Mode::Garbage);
        assert!(serde_json::from_str::<Value>(&body().await).is_err());
        idp.set_mode(Mode::Hang);
        assert!(
            tokio::time::timeout(Duration::from_millis(200), crate::http::get(&url))
                .await
                .is_err()
        );

        idp.set_mode(Mode::Ok);
        idp.rotate();
        let second = body().await;
        assert_ne!(first, second);
        assert!(second.contains("rs256-2") && !second.contains("rs256-1"));
        assert_eq!(idp.fetches(), 5);
    }
}

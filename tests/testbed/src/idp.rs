//! An identity provider. Tests rotate its keys and make its JWKS endpoint fail.

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

/// The path of the JWK set.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";

/// How the JWKS endpoint behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JwksBehaviour {
    /// 200 with the keys.
    #[default]
    Ok,
    /// 500.
    Down500,
    /// 200 with a body that is not a JWK set.
    Garbage,
    /// Reads the request and never responds.
    Hang,
    /// 200 with the keys, after a delay.
    Slow(Duration),
}

#[derive(Debug)]
struct ProviderState {
    keys: Arc<KeySet>,
    behaviour: JwksBehaviour,
    fetches: u64,
}

type Shared = Arc<Mutex<ProviderState>>;

fn lock(provider: &Shared) -> MutexGuard<'_, ProviderState> {
    provider.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves [`JWKS_PATH`] and issues tokens signed with the published keys.
#[derive(Debug)]
pub struct IdentityProvider {
    server: Server,
    provider: Shared,
}

impl IdentityProvider {
    /// Starts the server on a free port, with new keys.
    ///
    /// # Errors
    ///
    /// When no port or thread is available, or keys cannot be generated.
    pub fn start() -> io::Result<Self> {
        let keys = Arc::new(KeySet::generate().map_err(io::Error::other)?);
        let provider = Arc::new(Mutex::new(ProviderState {
            keys,
            behaviour: JwksBehaviour::Ok,
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

    /// The address it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// The current keys.
    #[must_use]
    pub fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&lock(&self.provider).keys)
    }

    /// The current JWK set.
    #[must_use]
    pub fn jwks_json(&self) -> String {
        self.keys().jwks_json()
    }

    /// A token with exactly these claims, signed with the current key for `alg`, whose id is in the header.
    ///
    /// # Panics
    ///
    /// When the claims are not a JSON object.
    #[must_use]
    pub fn mint(&self, alg: Alg, claims: &Value) -> String {
        self.keys().mint(alg, claims)
    }

    /// The number of requests for the JWK set so far, including failed ones.
    #[must_use]
    pub fn fetches(&self) -> u64 {
        lock(&self.provider).fetches
    }

    /// Treats every request for the JWK set this way from now on.
    pub fn set_behaviour(&self, behaviour: JwksBehaviour) {
        lock(&self.provider).behaviour = behaviour;
    }

    /// Replaces all keys by new keys with new ids.
    ///
    /// # Panics
    ///
    /// When keys cannot be generated, for lack of randomness.
    pub fn rotate(&self) {
        // Generated outside the lock, so that the endpoint keeps serving the old keys meanwhile.
        #[expect(clippy::expect_used, reason = "for tests: a failure ends the test")]
        let next = self.keys().next().expect("randomness for new keys");
        lock(&self.provider).keys = Arc::new(next);
    }
}

async fn publish(State(provider): State<Shared>) -> Response {
    let (behaviour, keys) = {
        let mut provider = lock(&provider);
        provider.fetches += 1;
        (provider.behaviour, Arc::clone(&provider.keys))
    };
    let json = [(header::CONTENT_TYPE, "application/json")];
    match behaviour {
        JwksBehaviour::Ok => (json, keys.jwks_json()).into_response(),
        JwksBehaviour::Down500 => (StatusCode::INTERNAL_SERVER_ERROR, "internal error\n").into_response(),
        JwksBehaviour::Garbage => (json, "<html>this is not a JWK set").into_response(),
        JwksBehaviour::Hang => std::future::pending().await,
        JwksBehaviour::Slow(delay) => {
            tokio::time::sleep(delay).await;
            (json, keys.jwks_json()).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_endpoint_behaves_as_set_and_serves_rotated_keys() {
        let idp = IdentityProvider::start().unwrap();
        let url = format!("http://{}{JWKS_PATH}", idp.addr());
        let body = async || crate::http::get(&url).await.unwrap().text().await.unwrap();
        let first = body().await;
        assert_eq!(first, idp.jwks_json());

        idp.set_behaviour(JwksBehaviour::Down500);
        assert_eq!(crate::http::get(&url).await.unwrap().status(), 500);
        idp.set_behaviour(JwksBehaviour::Garbage);
        assert!(serde_json::from_str::<Value>(&body().await).is_err());
        idp.set_behaviour(JwksBehaviour::Hang);
        assert!(
            tokio::time::timeout(Duration::from_millis(200), crate::http::get(&url))
                .await
                .is_err()
        );

        idp.set_behaviour(JwksBehaviour::Ok);
        idp.rotate();
        let second = body().await;
        assert_ne!(first, second);
        assert!(second.contains("rs256-2") && !second.contains("rs256-1"));
        assert_eq!(idp.fetches(), 5);
    }
}

//! An in-memory host for native tests.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use crate::http::{self, Incoming, Outgoing};
use crate::signer::{self, Signature};
use crate::{Level, Request};

type HttpHandler = Box<dyn Fn(&Outgoing) -> Result<Incoming, http::Error>>;
type SignHandler = Box<dyn Fn(&[u8]) -> Result<Signature, signer::Error>>;

/// An in-memory host. Capabilities that are not configured fail as on a host that does not grant or provide them.
#[derive(Default)]
pub struct Host(Rc<State>);

#[derive(Default)]
pub(super) struct State {
    pub(super) config: RefCell<Option<String>>,
    pub(super) now: Cell<u64>,
    pub(super) logs: RefCell<Vec<(Level, String)>>,
    pub(super) values: RefCell<HashMap<String, StoredValue>>,
    pub(super) http: RefCell<Option<HttpHandler>>,
    pub(super) signer: RefCell<Option<SignHandler>>,
}

pub(super) struct StoredValue {
    pub(super) bytes: Vec<u8>,
    /// Expiry in milliseconds of the host's clock; `None`: never.
    pub(super) expires_at: Option<u64>,
}

thread_local! {
    static CURRENT: RefCell<Rc<State>> = RefCell::default();
}

/// State of the host whose [`Host::call`] is running; of an empty host otherwise.
pub(super) fn current() -> Rc<State> {
    CURRENT.with_borrow(Rc::clone)
}

impl Host {
    /// Creates a host without configuration, values, HTTP hosts or signer, at time 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the entry's configuration: JSON text, or a [`serde_json::Value`].
    #[must_use]
    pub fn config(self, json: impl fmt::Display) -> Self {
        self.0.config.replace(Some(json.to_string()));
        self
    }

    /// Sets the clock, in milliseconds since 1970-01-01T00:00:00Z. It does not advance.
    #[must_use]
    pub fn now(self, milliseconds: u64) -> Self {
        self.set_now(milliseconds);
        self
    }

    /// Changes the clock between calls.
    pub fn set_now(&self, milliseconds: u64) {
        self.0.now.set(milliseconds);
    }

    /// Handles requests of the `http` capability.
    #[must_use]
    pub fn http(self, handler: impl Fn(&Outgoing) -> Result<Incoming, http::Error> + 'static) -> Self {
        self.0.http.replace(Some(Box::new(handler)));
        self
    }

    /// Handles payloads of the `signer` capability.
    #[must_use]
    pub fn signer(self, handler: impl Fn(&[u8]) -> Result<Signature, signer::Error> + 'static) -> Self {
        self.0.signer.replace(Some(Box::new(handler)));
        self
    }

    /// Stores a value without expiry.
    #[must_use]
    pub fn value(self, key: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        let stored = StoredValue {
            bytes: bytes.into(),
            expires_at: None,
        };
        self.0.values.borrow_mut().insert(key.into(), stored);
        self
    }

    /// Calls a policy, or any function of a request, with the capabilities of this host.
    pub fn call<R>(&self, policy: impl FnOnce(&Request) -> R, request: &Request) -> R {
        struct Restore(Rc<State>);

        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(Rc::clone(&self.0));
            }
        }

        let _restore = Restore(CURRENT.replace(Rc::clone(&self.0)));
        policy(request)
    }

    /// The lines logged so far, in order.
    #[must_use]
    pub fn logs(&self) -> Vec<(Level, String)> {
        self.0.logs.borrow().clone()
    }

    /// The value of a key, unless it has expired.
    #[must_use]
    pub fn stored(&self, key: &str) -> Option<Vec<u8>> {
        self.0.stored(key)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

impl State {
    pub(super) fn stored(&self, key: &str) -> Option<Vec<u8>> {
        let values = self.values.borrow();
        let stored = values.get(key)?;
        let is_live = stored.expires_at.is_none_or(|time| self.now.get() < time);
        is_live.then(|| stored.bytes.clone())
    }

    pub(super) fn expiry(&self, ttl_ms: Option<u64>) -> Option<u64> {
        ttl_ms.map(|ttl| self.now.get().saturating_add(ttl))
    }
}

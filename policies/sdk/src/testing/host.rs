//! The host that a native test calls a policy on.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use crate::http::{self, Incoming, Outgoing};
use crate::signer::{self, Signature};
use crate::{Level, Request};

type HttpHandler = Box<dyn Fn(&Outgoing) -> Result<Incoming, http::Error>>;
type SignHandler = Box<dyn Fn(&[u8]) -> Result<Signature, signer::Error>>;

/// A host in memory. What it is not told to have, it answers as a host would that cannot be reached.
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
    /// When it is forgotten, if ever.
    pub(super) expires_at: Option<u64>,
}

thread_local! {
    static CURRENT: RefCell<Rc<State>> = RefCell::default();
}

/// Of the host whose [`Host::call`] is under way; of an empty one otherwise.
pub(super) fn current() -> Rc<State> {
    CURRENT.with_borrow(Rc::clone)
}

impl Host {
    /// A host without anything.
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

    /// Sets the clock, in milliseconds since 1970-01-01T00:00:00Z. It stands still.
    #[must_use]
    pub fn now(self, milliseconds: u64) -> Self {
        self.set_now(milliseconds);
        self
    }

    /// Moves the clock between two calls.
    pub fn set_now(&self, milliseconds: u64) {
        self.0.now.set(milliseconds);
    }

    /// Answers requests to other hosts.
    #[must_use]
    pub fn http(self, handler: impl Fn(&Outgoing) -> Result<Incoming, http::Error> + 'static) -> Self {
        self.0.http.replace(Some(Box::new(handler)));
        self
    }

    /// Signs.
    #[must_use]
    pub fn signer(self, handler: impl Fn(&[u8]) -> Result<Signature, signer::Error> + 'static) -> Self {
        self.0.signer.replace(Some(Box::new(handler)));
        self
    }

    /// Stores a value before the policy runs.
    #[must_use]
    pub fn value(self, key: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        let stored = StoredValue {
            bytes: bytes.into(),
            expires_at: None,
        };
        self.0.values.borrow_mut().insert(key.into(), stored);
        self
    }

    /// Calls a policy, or anything that takes a request and uses the host.
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

    /// The lines that policies logged.
    #[must_use]
    pub fn logs(&self) -> Vec<(Level, String)> {
        self.0.logs.borrow().clone()
    }

    /// The value that is stored under a key, if it is not forgotten yet.
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

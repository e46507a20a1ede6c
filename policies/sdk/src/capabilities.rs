//! What the host does for a policy, beside its configuration and its log.

/// What time it is now.
pub mod clock {
    use crate::imports;

    /// Milliseconds since 1970-01-01T00:00:00Z. [`Request::time`](crate::Request::time) is when the decision began, and
    /// needs no grant.
    #[must_use]
    pub fn now() -> u64 {
        imports::clock::now()
    }
}

/// Values that outlive a request, seen by this entry of the host's settings alone.
pub mod keyvalue {
    use std::time::Duration;

    pub use crate::bindings::postern::policy::keyvalue::Error;
    use crate::imports;

    /// The value of a key, if it has one.
    ///
    /// # Errors
    /// As [`Error`] says; so do those of the other functions here.
    pub fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
        imports::keyvalue::get(key)
    }

    /// Stores a value. It is forgotten after `ttl`, or never.
    ///
    /// # Errors
    /// See [`get`].
    pub fn set(key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), Error> {
        imports::keyvalue::set(key, value, ttl.map(milliseconds))
    }

    /// Forgets a key.
    ///
    /// # Errors
    /// See [`get`].
    pub fn delete(key: &str) -> Result<(), Error> {
        imports::keyvalue::delete(key)
    }

    /// Adds to a counter and returns the sum. A key that is not there counts as 0; its `ttl` starts with the first
    /// addition.
    ///
    /// # Errors
    /// See [`get`].
    pub fn increment(key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, Error> {
        imports::keyvalue::increment(key, by, ttl.map(milliseconds))
    }

    fn milliseconds(duration: Duration) -> u64 {
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
    }

    impl From<Error> for crate::Error {
        fn from(error: Error) -> Self {
            match error {
                Error::Unavailable(why) => Self::Unavailable(format!("keyvalue: {why}")),
                Error::TooLarge(why) => Self::Failed(format!("keyvalue: {why}")),
            }
        }
    }
}

/// Requests to the hosts that the entry is granted.
pub mod http {
    pub use crate::bindings::postern::policy::http::{Error, Incoming, Outgoing};
    use crate::{Header, imports};

    /// Sends a request and waits for its response.
    ///
    /// # Errors
    /// As [`Error`] says. A response with an error's status is a response.
    pub fn send(request: &Outgoing) -> Result<Incoming, Error> {
        imports::http::send(request)
    }

    impl Outgoing {
        /// A request without headers or body.
        pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
            Self {
                method: method.into(),
                url: url.into(),
                headers: Vec::new(),
                body: Vec::new(),
            }
        }

        /// Adds a header.
        #[must_use]
        pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
            self.headers.push(Header::new(name, value));
            self
        }

        /// Sets the body.
        #[must_use]
        pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
            self.body = body.into();
            self
        }
    }

    impl From<Error> for crate::Error {
        fn from(error: Error) -> Self {
            match error {
                Error::NotGranted(host) => Self::Misconfigured(format!("http: {host} is not granted")),
                Error::Invalid(why) => Self::Failed(format!("http: {why}")),
                Error::Unavailable(why) => Self::Unavailable(format!("http: {why}")),
                Error::TooLarge => Self::Failed("http: the response is too large".into()),
            }
        }
    }
}

/// Signatures by the key that the host's KMS holds.
pub mod signer {
    pub use crate::bindings::postern::policy::signer::{Error, Signature};
    use crate::imports;

    /// Signs a payload.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the KMS gives no signature.
    pub fn sign(payload: &[u8]) -> Result<Signature, Error> {
        imports::signer::sign(payload)
    }

    impl From<Error> for crate::Error {
        fn from(error: Error) -> Self {
            let Error::Unavailable(why) = error;
            Self::Unavailable(format!("signer: {why}"))
        }
    }
}

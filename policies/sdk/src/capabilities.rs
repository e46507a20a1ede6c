//! The host capabilities other than `config` and `log`.

/// The wall clock.
pub mod clock {
    use crate::imports;

    /// The current time, in milliseconds since 1970-01-01T00:00:00Z. [`Request::time`](crate::Request::time), the start of
    /// the decision, needs no grant.
    #[must_use]
    pub fn now() -> u64 {
        imports::clock::now()
    }
}

/// Values that outlive a request, private to this entry of the host's settings.
pub mod keyvalue {
    use std::time::Duration;

    pub use crate::bindings::postern::policy::keyvalue::Error;
    use crate::imports;

    /// Reads a value; `None` if the key does not exist.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the store fails. [`Error::TooLarge`] if a key or value exceeds the host's limit, or the
    /// store is full. The other functions return the same errors.
    pub fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
        imports::keyvalue::get(key)
    }

    /// Stores a value. It expires after `ttl`; without one, never.
    ///
    /// # Errors
    /// See [`get`].
    pub fn set(key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), Error> {
        imports::keyvalue::set(key, value, ttl.map(milliseconds))
    }

    /// Deletes a key.
    ///
    /// # Errors
    /// See [`get`].
    pub fn delete(key: &str) -> Result<(), Error> {
        imports::keyvalue::delete(key)
    }

    /// Adds to a counter and returns the sum. A missing key counts as 0. `ttl` applies only when the key is created.
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

/// Requests to the HTTP hosts granted to the entry.
pub mod http {
    pub use crate::bindings::postern::policy::http::{Error, Incoming, Outgoing};
    use crate::{Header, imports};

    /// Sends a request and waits for its response.
    ///
    /// # Errors
    /// If the request is not granted or invalid, or there is no complete response. A response with an error status is not
    /// an error.
    pub fn send(request: &Outgoing) -> Result<Incoming, Error> {
        imports::http::send(request)
    }

    impl Outgoing {
        /// Creates a request without headers or body.
        pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
            Self {
                method: method.into(),
                url: url.into(),
                headers: Vec::new(),
                body: Vec::new(),
            }
        }

        /// Appends a header; the name must be in lower case.
        #[must_use]
        pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
            self.headers.push(Header::new(name, value));
            self
        }

        /// Sets the body; the host sets `content-length`.
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

/// Signatures by the host's KMS key.
pub mod signer {
    pub use crate::bindings::postern::policy::signer::{Error, Signature};
    use crate::imports;

    /// Signs a payload with the host's active key.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with a reason code if nothing was signed.
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

//! Why one attempt failed, and whether another is safe.

use std::error::Error;
use std::io;
use std::time::Duration;

use crate::error::SigningError;

/// Whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryHint {
    /// It would end the same way, or is not ours to repeat.
    Never,
    /// After a short pause.
    Soon,
    /// After the pause that the proxy asks for.
    After(Duration),
}

/// Why one attempt failed.
#[derive(Debug)]
pub(crate) struct AttemptError {
    pub(crate) error: SigningError,
    pub(crate) retry: RetryHint,
}

impl AttemptError {
    /// One that another attempt would not mend.
    pub(crate) fn permanent(error: SigningError) -> Self {
        Self {
            error,
            retry: RetryHint::Never,
        }
    }

    /// What the transport's error means.
    ///
    /// Where no answer came, another attempt is safe: a signature of Ed25519 depends on the key and the payload alone, so
    /// if the proxy had signed already it signs the same once more, and nothing is signed that was not asked.
    pub(crate) fn from_transport(error: &reqwest::Error) -> Self {
        if let Some(tls) = find::<rustls::Error>(error) {
            return Self::permanent(SigningError::Tls(tls.to_string()));
        }
        if find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse) {
            return Self::permanent(SigningError::InvalidResponse("is no HTTP"));
        }
        let error = if error.is_timeout() {
            SigningError::Timeout
        } else {
            SigningError::Unreachable(root(error))
        };
        Self {
            error,
            retry: RetryHint::Soon,
        }
    }
}

/// The first error of a type among an error and its causes.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    error.downcast_ref().or_else(|| cause(error).and_then(find::<T>))
}

/// What the last cause says: the ones before say only where it was noticed.
fn root(error: &(dyn Error + 'static)) -> String {
    match cause(error) {
        Some(cause) => root(cause),
        None => error.to_string(),
    }
}

/// An error of the operating system hides what it wraps from `source`.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

//! Why an attempt failed, and whether a retry is safe.

use std::error::Error;
use std::io;
use std::time::Duration;

use crate::error::SigningError;

/// Whether and when to retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryHint {
    /// A retry would fail the same way, or is the caller's decision.
    Never,
    /// After a short pause.
    Soon,
    /// After the pause that the proxy requested.
    After(Duration),
}

/// Why an attempt failed, and whether to retry.
#[derive(Debug)]
pub(crate) struct AttemptError {
    pub(crate) error: SigningError,
    pub(crate) retry: RetryHint,
}

impl AttemptError {
    /// An error that is not retried.
    pub(crate) fn permanent(error: SigningError) -> Self {
        Self {
            error,
            retry: RetryHint::Never,
        }
    }

    /// Classifies a transport error.
    ///
    /// Without a response a retry is safe: an Ed25519 signature depends on the key and the payload alone, so if the proxy
    /// had already signed, it produces the same signature again, and nothing is signed that was not requested.
    pub(crate) fn from_transport(error: &reqwest::Error) -> Self {
        if let Some(tls) = find::<rustls::Error>(error) {
            return Self::permanent(SigningError::Tls(tls.to_string()));
        }
        if find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse) {
            return Self::permanent(SigningError::InvalidResponse("not HTTP"));
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

/// The first error of type `T` in the chain of an error and its causes.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    error.downcast_ref().or_else(|| cause(error).and_then(find::<T>))
}

/// The text of the innermost cause: the outer errors only say where it occurred.
fn root(error: &(dyn Error + 'static)) -> String {
    match cause(error) {
        Some(cause) => root(cause),
        None => error.to_string(),
    }
}

/// The next cause. `io::Error::source` skips the error that it wraps, so that one is taken first.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

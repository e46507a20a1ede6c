//! The reasons a policy fails to decide.

use wasmtime::Trap;

/// The reason a policy made no decision on a request. The gate refuses such a request with 503.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Failure {
    /// The deadline passed.
    #[error("made no decision within {0:?}")]
    Deadline(std::time::Duration),
    /// Its memories and tables together would exceed the limit, in bytes.
    #[error("exceeded its memory limit of {0} bytes")]
    Memory(usize),
    /// WebAssembly trapped: stack overflow, `unreachable`, out-of-bounds access and so on.
    #[error("trapped: {0}")]
    Trap(String),
    /// It logged more lines or bytes than the limit for one request.
    #[error("exceeded its log limit of {0} lines or bytes per request")]
    Log(usize),
    /// It returned a decision that cannot be applied.
    #[error("returned an invalid decision: {0}")]
    Reply(String),
    /// It reported that its configuration is invalid.
    #[error("reported invalid configuration: {0}")]
    Misconfigured(String),
    /// It reported that a dependency is unavailable.
    #[error("reported an unavailable dependency: {0}")]
    Unavailable(String),
    /// It reported another error.
    #[error("reported an error: {0}")]
    Failed(String),
    /// No policy is loaded under this name.
    #[error("no policy is loaded under the name `{0}`")]
    NotLoaded(String),
    /// Its admission queue is full, or the wait would exceed the deadline.
    #[error("overloaded: too many requests are waiting for this policy")]
    Overloaded,
}

impl Failure {
    /// A stable code for metrics, audit events and the CLI.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Deadline(_) => "deadline",
            Self::Memory(_) => "memory",
            Self::Trap(_) => "trap",
            Self::Log(_) => "log",
            Self::Reply(_) => "reply",
            Self::Misconfigured(_) => "misconfigured",
            Self::Unavailable(_) => "unavailable",
            Self::Failed(_) => "failed",
            Self::NotLoaded(_) => "not_loaded",
            Self::Overloaded => "overloaded",
        }
    }

    /// Whether the host stopped the module, as opposed to the module returning a result.
    #[must_use]
    pub fn was_stopped(&self) -> bool {
        matches!(
            self,
            Self::Deadline(_) | Self::Memory(_) | Self::Trap(_) | Self::Log(_)
        )
    }

    /// Classifies an error returned by wasmtime.
    pub(crate) fn from_error(error: &wasmtime::Error) -> Self {
        if let Some(failure) = error.downcast_ref::<Self>() {
            return failure.clone();
        }
        match error.downcast_ref::<Trap>() {
            Some(trap) => Self::Trap(trap.to_string()),
            // The result could not be lifted from the module's memory: a list out of bounds, a string that is not UTF-8.
            None => Self::Reply(error.root_cause().to_string()),
        }
    }
}

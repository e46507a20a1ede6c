//! Why a policy did not decide.

use wasmtime::Trap;

/// Why a policy did not decide on a request. The gate refuses such a request with 503.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Failure {
    /// It took longer than it may.
    #[error("no decision within {0:?}")]
    Deadline(std::time::Duration),
    /// All its memories together would have been larger than it may have.
    #[error("wants more memory than the {0} bytes that it may have")]
    Memory(usize),
    /// Wasm trapped: out of stack, unreachable, out of bounds and so on.
    #[error("trapped: {0}")]
    Trap(String),
    /// It wrote more lines than it may for one request.
    #[error("wrote more than {0} lines or bytes to the log")]
    Log(usize),
    /// Its answer is none that can be used.
    #[error("its answer cannot be used: {0}")]
    Reply(String),
    /// It answered that its configuration makes no sense.
    #[error("says that it is misconfigured: {0}")]
    Misconfigured(String),
    /// It answered that something it needs does not answer.
    #[error("says that something it needs is unavailable: {0}")]
    Unavailable(String),
    /// It answered that it cannot decide.
    #[error("says that it failed: {0}")]
    Failed(String),
    /// No policy is loaded under the name.
    #[error("no policy is loaded under the name `{0}`")]
    NotLoaded(String),
    /// Too many requests wait for it already.
    #[error("too many requests wait for this policy")]
    Overloaded,
}

impl Failure {
    /// The failure in one word, for metrics.
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

    /// Whether the module was stopped, rather than answered.
    #[must_use]
    pub fn was_stopped(&self) -> bool {
        matches!(
            self,
            Self::Deadline(_) | Self::Memory(_) | Self::Trap(_) | Self::Log(_)
        )
    }

    /// What ended a call, of the error that wasmtime gives back.
    pub(crate) fn from_error(error: &wasmtime::Error) -> Self {
        if let Some(failure) = error.downcast_ref::<Self>() {
            return failure.clone();
        }
        match error.downcast_ref::<Trap>() {
            Some(trap) => Self::Trap(trap.to_string()),
            // What cannot be lifted out of the module's memory: lists out of bounds, strings that are not UTF-8.
            None => Self::Reply(error.root_cause().to_string()),
        }
    }
}

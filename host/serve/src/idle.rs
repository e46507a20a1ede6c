//! Since when a connection asks nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Request;
use tower_service::Service;

/// How long a new connection may take until its first request is there, head and all.
pub(crate) const FIRST: Duration = Duration::from_secs(10);
/// How long a connection may stay without a request. Long: a gate that has little to ask keeps its own open.
pub(crate) const BETWEEN: Duration = Duration::from_secs(300);
/// How long a connection may stay silent in both directions while a request is under way.
pub(crate) const SILENT: Duration = Duration::from_secs(120);

/// What a connection does.
#[derive(Debug, Clone)]
pub(crate) struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Requests that are under way.
    requests: usize,
    /// Whether there was one yet.
    asked: bool,
    /// When it last did something that counts.
    last: Instant,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            requests: 0,
            asked: false,
            last: Instant::now(),
        })))
    }

    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Bytes came or went. They count while a request is under way: who sends a head byte by byte asks nothing.
    pub(crate) fn moved(&self) {
        self.with(|state| {
            if state.requests > 0 {
                state.last = Instant::now();
            }
        });
    }

    /// When it ends, if nothing happens until then.
    pub(crate) fn deadline(&self) -> Instant {
        self.with(|state| {
            state.last
                + match (state.requests, state.asked) {
                    (0, false) => FIRST,
                    (0, true) => BETWEEN,
                    _ => SILENT,
                }
        })
    }

    fn begin(&self) -> Asking {
        self.with(|state| {
            state.requests += 1;
            state.asked = true;
            state.last = Instant::now();
        });
        Asking(self.clone())
    }
}

/// A request that is under way; counted until dropped.
struct Asking(Activity);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.with(|state| {
            state.requests -= 1;
            state.last = Instant::now();
        });
    }
}

/// A service that notes what its connection asks.
#[derive(Debug, Clone)]
pub(crate) struct Noted<S> {
    pub(crate) inner: S,
    pub(crate) activity: Activity,
}

impl<S, B> Service<Request<B>> for Noted<S>
where
    S: Service<Request<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let asking = self.activity.begin();
        let answered = self.inner.call(request);
        Box::pin(async move {
            let answer = answered.await;
            drop(asking);
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_keep_a_connection_open() {
        let activity = Activity::new();
        let first = activity.deadline();
        activity.moved();
        assert_eq!(activity.deadline(), first, "bytes alone do not");
        let asking = activity.begin();
        assert!(activity.deadline() >= first + SILENT - FIRST);
        std::thread::sleep(Duration::from_millis(2));
        let before = activity.deadline();
        activity.moved();
        assert!(activity.deadline() > before);
        drop(asking);
        assert!(activity.deadline() >= before + BETWEEN - SILENT);
    }
}

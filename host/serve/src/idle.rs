//! Detects idle connections.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::Request;
use tower_service::Service;

/// How long a new connection may take to send its first request head.
pub(crate) const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may stay without requests. Long, because a gate with few requests keeps its connections open.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a connection may stay silent in both directions while a request is in progress.
pub(crate) const SILENCE_TIMEOUT: Duration = Duration::from_secs(120);

/// The activity of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Activity(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Requests in progress.
    requests: usize,
    had_request: bool,
    last_activity: Instant,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            requests: 0,
            had_request: false,
            last_activity: Instant::now(),
        })))
    }

    fn with<R>(&self, act: impl FnOnce(&mut State) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reports bytes read or written. They count only while a request is in progress: a client that sends a head byte
    /// by byte is idle.
    pub(crate) fn bytes_moved(&self) {
        self.with(|state| {
            if state.requests > 0 {
                state.last_activity = Instant::now();
            }
        });
    }

    /// When the connection is closed if nothing happens until then.
    pub(crate) fn deadline(&self) -> Instant {
        self.with(|state| {
            state.last_activity
                + match (state.requests, state.had_request) {
                    (0, false) => FIRST_REQUEST_TIMEOUT,
                    (0, true) => IDLE_TIMEOUT,
                    _ => SILENCE_TIMEOUT,
                }
        })
    }

    fn begin_request(&self) -> ActiveRequest {
        self.with(|state| {
            state.requests += 1;
            state.had_request = true;
            state.last_activity = Instant::now();
        });
        ActiveRequest(self.clone())
    }
}

/// A request in progress; counted until dropped.
struct ActiveRequest(Activity);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.with(|state| {
            state.requests -= 1;
            state.last_activity = Instant::now();
        });
    }
}

/// A service that tracks the requests of its connection.
#[derive(Debug, Clone)]
pub(crate) struct ActivityService<S> {
    pub(crate) inner: S,
    pub(crate) activity: Activity,
}

impl<S, B> Service<Request<B>> for ActivityService<S>
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
        let active = self.activity.begin_request();
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await;
            drop(active);
            response
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
        activity.bytes_moved();
        assert_eq!(activity.deadline(), first, "bytes alone do not");
        let active = activity.begin_request();
        assert!(activity.deadline() >= first + SILENCE_TIMEOUT - FIRST_REQUEST_TIMEOUT);
        std::thread::sleep(Duration::from_millis(2));
        let before = activity.deadline();
        activity.bytes_moved();
        assert!(activity.deadline() > before);
        drop(active);
        assert!(activity.deadline() >= before + IDLE_TIMEOUT - SILENCE_TIMEOUT);
    }
}

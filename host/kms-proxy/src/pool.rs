//! A pool of token sessions: limits how many requests use the token and how many wait, each until its deadline;
//! reconnects a lost token.
//!
//! Calls into a module block and cannot be interrupted. They run on threads of their own, and a call that hangs keeps
//! its permit: at most as many threads hang as there are permits. A module must not be re-initialised during a call, so
//! that happens only while no permit is held.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use postern_serve::{AdmissionQueue, NotAdmitted};
use tokio::sync::watch;
use tokio::time::timeout_at;

use crate::settings::Token;
use crate::token::{Login, Module, Recovery, TokenError, TokenSession};

/// How often an unused token is checked.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// The first delay before reconnecting to a lost token; it doubles with each attempt.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(250);
/// The longest delay between attempts.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// The token did not return a result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PoolError {
    /// The token is lost and being reconnected, or waits for an operator.
    #[error("the token is not available")]
    Unavailable,
    /// The queue is full.
    #[error("too many requests wait for the token")]
    Busy,
    /// There was no result by the deadline.
    #[error("the token did not respond in time")]
    Timeout,
    /// The token returned an error.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl From<NotAdmitted> for PoolError {
    fn from(error: NotAdmitted) -> Self {
        match error {
            NotAdmitted::Full => Self::Busy,
            NotAdmitted::Timeout => Self::Timeout,
        }
    }
}

/// The state of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    /// It responds too late.
    Slow,
    /// It is being reconnected.
    Lost,
    /// Nothing is tried until the settings are reloaded.
    Suspended,
}

/// A job for a session of the token; run a second time if the session turns out to be dead.
pub(crate) type Work<T> = Box<dyn FnMut(&Login, &mut TokenSession) -> Result<T, TokenError> + Send>;
/// Checks that the token holds what is needed.
pub(crate) type Check = Arc<dyn Fn(&Login, &mut TokenSession) -> Result<(), TokenError> + Send + Sync>;

/// The sessions of a token.
#[derive(Debug)]
pub(crate) struct Pool {
    module: Module,
    token: RwLock<Token>,
    deadline: Duration,
    /// Admits one request per session.
    queue: Arc<AdmissionQueue>,
    connection: RwLock<Option<Arc<TokenConnection>>>,
    state: watch::Sender<State>,
}

/// The state between two initialisations of the module. Sessions are dropped before the login.
#[derive(Debug)]
struct TokenConnection {
    idle: Mutex<Vec<TokenSession>>,
    login: Login,
}

impl Pool {
    /// Logs in, and runs the first `work`.
    pub(crate) async fn open<T: Send + 'static>(
        token: Token,
        work: Work<T>,
    ) -> Result<(Arc<Self>, T), PoolError> {
        let module = Module::load(&token)?;
        let pool = Arc::new(Self {
            module,
            deadline: token.deadline,
            queue: AdmissionQueue::new(token.sessions, token.queue),
            connection: RwLock::new(None),
            state: watch::Sender::new(State::Lost),
            token: RwLock::new(token),
        });
        let token = pool.token();
        let first = pool.reopen(token, work).await?;
        Ok((pool, first))
    }

    /// Runs `work` with a session.
    pub(crate) async fn run<T: Send + 'static>(self: &Arc<Self>, work: Work<T>) -> Result<T, PoolError> {
        if !self.is_open() {
            return Err(PoolError::Unavailable);
        }
        let deadline = Instant::now() + self.deadline;
        let permit = self.queue.enter(deadline).await?;
        let connection = self
            .connection
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let connection = connection.ok_or(PoolError::Unavailable)?;
        let pool = Arc::clone(self);
        let call = tokio::task::spawn_blocking(move || {
            let result = pool.call(&connection, work);
            // In this order: once the permit is released, nothing of this call may use the module.
            drop(connection);
            drop(permit);
            result
        });
        match timeout_at(deadline.into(), call).await {
            Ok(Ok(result)) => {
                self.transition(State::Slow, State::Up);
                Ok(result?)
            }
            Ok(Err(_panicked)) => Err(PoolError::Unavailable),
            Err(_) => {
                self.transition(State::Up, State::Slow);
                Err(PoolError::Timeout)
            }
        }
    }

    fn call<T>(&self, connection: &TokenConnection, mut work: Work<T>) -> Result<T, TokenError> {
        let idle = || connection.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut attempt = |session: Result<TokenSession, TokenError>| {
            let mut session = session?;
            let done = work(&connection.login, &mut session)?;
            idle().push(session);
            Ok(done)
        };
        let waiting = idle().pop();
        let result = match waiting {
            // Tokens close idle sessions. A new session shows whether more than that is wrong.
            Some(session) => attempt(Ok(session)).or_else(|error: TokenError| match error.recovery() {
                Recovery::Reconnect => attempt(connection.login.session()),
                Recovery::Operator | Recovery::None => Err(error),
            }),
            None => attempt(connection.login.session()),
        };
        if let Err(error) = &result
            && error.recovery() != Recovery::None
        {
            self.mark_lost(error);
        }
        result
    }

    fn mark_lost(&self, error: &TokenError) {
        let lost = self.state.send_if_modified(|state| {
            let open = matches!(state, State::Up | State::Slow);
            if open {
                *state = State::Lost;
            }
            open
        });
        if lost {
            tracing::error!(%error, "the token is lost; nothing is signed until it is connected again");
        }
    }

    /// Re-initialises the module, logs in, and runs `work`, while no other request uses the module.
    pub(crate) async fn reopen<T: Send + 'static>(
        self: &Arc<Self>,
        token: Token,
        work: Work<T>,
    ) -> Result<T, PoolError> {
        let exclusive = self
            .queue
            .enter_exclusively(Instant::now() + self.deadline)
            .await?;
        let pool = Arc::clone(self);
        let opening = tokio::task::spawn_blocking(move || {
            let result = pool.open_connection(token, work);
            drop(exclusive);
            result
        });
        Ok(opening.await.map_err(|_| PoolError::Unavailable)??)
    }

    fn open_connection<T>(&self, token: Token, mut work: Work<T>) -> Result<T, TokenError> {
        self.state.send_replace(State::Lost);
        // Dropping the connection logs out.
        self.replace(None);
        let login = Login::open(&self.module, &token)?;
        let mut session = login.session()?;
        let done = work(&login, &mut session)?;
        let idle = Mutex::new(vec![session]);
        self.replace(Some(Arc::new(TokenConnection { idle, login })));
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = token;
        self.state.send_replace(State::Up);
        Ok(done)
    }

    /// The old connection is dropped after the lock is released, so that readers do not wait for the module.
    fn replace(&self, connection: Option<Arc<TokenConnection>>) {
        let mut place = self.connection.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *place, connection);
        drop(place);
        drop(before);
    }

    /// Checks the token regularly, and reconnects it when it is lost, for as long as it is polled.
    pub(crate) async fn supervise(self: Arc<Self>, check: Check) {
        let mut state = self.state.subscribe();
        loop {
            let lost = tokio::select! {
                _ = state.wait_for(|state| *state == State::Lost) => true,
                () = tokio::time::sleep(PROBE_INTERVAL) => false,
            };
            if lost {
                self.reconnect(&check).await;
            } else {
                // It updates the state.
                let _ = self.probe(&check).await;
            }
        }
    }

    /// Whether the token responds and the check passes.
    pub(crate) async fn probe(self: &Arc<Self>, check: &Check) -> Result<(), PoolError> {
        let check = Arc::clone(check);
        let result = self
            .run(Box::new(move |login, session| {
                login.check_present()?;
                check(login, session)
            }))
            .await;
        match result {
            Err(PoolError::Timeout) => self.transition(State::Up, State::Slow),
            // Whatever is wrong, reopening everything may fix it.
            Err(PoolError::Token(ref error)) => self.mark_lost(error),
            // Other requests keep the token busy: it serves them, or is already marked as slow.
            Err(PoolError::Busy) if self.is_up() => return Ok(()),
            Ok(()) | Err(PoolError::Unavailable | PoolError::Busy) => {}
        }
        result
    }

    fn transition(&self, from: State, to: State) {
        let changed = self.state.send_if_modified(|state| {
            let changes = *state == from;
            if changes {
                *state = to;
            }
            changes
        });
        if changed && to == State::Slow {
            tracing::warn!("the token does not respond in time");
        }
    }

    async fn reconnect(self: &Arc<Self>, check: &Check) {
        let delays = ExponentialBuilder::new()
            .with_min_delay(MIN_RETRY_DELAY)
            .with_max_delay(MAX_RETRY_DELAY)
            .with_jitter()
            .without_max_times();
        let mut last_reason = String::new();
        for delay in delays.build() {
            let check = Arc::clone(check);
            let work: Work<()> = Box::new(move |login, session| check(login, session));
            match self.reopen(self.token(), work).await {
                Ok(()) => return tracing::info!("the token is connected again"),
                Err(PoolError::Token(error)) if error.recovery() == Recovery::Operator => {
                    tracing::error!(%error, "the token is not tried again until the settings are reloaded (SIGHUP)");
                    self.state.send_replace(State::Suspended);
                    return;
                }
                Err(error) => {
                    let reason = error.to_string();
                    if reason != last_reason {
                        tracing::warn!(reason, "the token is not available yet");
                        last_reason = reason;
                    }
                }
            }
            tokio::time::sleep(delay).await;
            // A reload in the meantime may have reconnected it.
            if *self.state.borrow() != State::Lost {
                return;
            }
        }
    }

    /// The token settings with the PIN, as last read.
    pub(crate) fn token(&self) -> Token {
        self.token.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stores the PIN for the next login.
    pub(crate) fn update_pin(&self, token: &Token) {
        self.token.write().unwrap_or_else(PoisonError::into_inner).pin = token.pin.clone();
    }

    /// Whether requests are attempted.
    pub(crate) fn is_open(&self) -> bool {
        matches!(*self.state.borrow(), State::Up | State::Slow)
    }

    /// Whether the token responded to the last check.
    pub(crate) fn is_up(&self) -> bool {
        *self.state.borrow() == State::Up
    }

    /// The number of open sessions.
    pub(crate) fn open_sessions(&self) -> usize {
        // Not cloned: dropping the last reference logs out, and only reopening may do that.
        let connection = self.connection.read().unwrap_or_else(PoisonError::into_inner);
        let idle = connection.as_ref().map_or(0, |connection| {
            connection
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .len()
        });
        idle + self.queue.active()
    }
}

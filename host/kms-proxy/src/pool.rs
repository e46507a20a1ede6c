//! Sessions for requests: so many at a time, so many that wait, none for longer than the deadline; and a token that was
//! lost is found again.
//!
//! Calls into a module block and cannot be interrupted, so they run on threads of their own, and a call that hangs keeps
//! its turn: at most as many threads hang as there are turns. A module is initialised anew only while nobody has a turn,
//! since it must not be during a call.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use postern_serve::{AdmissionQueue, NotAdmitted};
use tokio::sync::watch;
use tokio::time::timeout_at;

use crate::settings::Token;
use crate::token::{Login, Module, Remedy, TokenError, TokenSession};

/// How often a token is looked at that nobody asks.
const PROBE: Duration = Duration::from_secs(5);
/// A token that was lost is looked for after so long, then after twice that, and so on.
const FIRST: Duration = Duration::from_millis(250);
/// But never less often.
const LAST: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PoolError {
    /// The token was lost and is being looked for, or waits for someone.
    #[error("the token is not available")]
    Unavailable,
    /// Too many wait already.
    #[error("too many requests wait for the token")]
    Busy,
    /// There was no answer by the deadline.
    #[error("the token did not answer in time")]
    Late,
    /// The token answered with an error.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl From<NotAdmitted> for PoolError {
    fn from(refusal: NotAdmitted) -> Self {
        match refusal {
            NotAdmitted::Full => Self::Busy,
            NotAdmitted::Late => Self::Late,
        }
    }
}

/// How it stands with the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    /// It answers too late.
    Slow,
    /// It is looked for.
    Lost,
    /// Nothing is tried until the settings are read again.
    Waits,
}

/// What is to be done with a session of a token; done once more, if the session turns out to be dead.
pub(crate) type Work<T> = Box<dyn FnMut(&Login, &mut TokenSession) -> Result<T, TokenError> + Send>;
/// What tells whether all is well.
pub(crate) type Check = Arc<dyn Fn(&Login, &mut TokenSession) -> Result<(), TokenError> + Send + Sync>;

/// A token's sessions.
#[derive(Debug)]
pub(crate) struct Pool {
    module: Module,
    token: RwLock<Token>,
    deadline: Duration,
    /// A turn for each session.
    queue: Arc<AdmissionQueue>,
    link: RwLock<Option<Arc<Link>>>,
    state: watch::Sender<State>,
}

/// What there is between initialising the module and the next time. Sessions go before the login.
#[derive(Debug)]
struct Link {
    idle: Mutex<Vec<TokenSession>>,
    login: Login,
}

impl Pool {
    /// Logs in, and does the first `work`.
    pub(crate) async fn open<T: Send + 'static>(
        token: Token,
        work: Work<T>,
    ) -> Result<(Arc<Self>, T), PoolError> {
        let module = Module::load(&token)?;
        let pool = Arc::new(Self {
            module,
            deadline: token.deadline,
            queue: AdmissionQueue::new(token.sessions, token.queue),
            link: RwLock::new(None),
            state: watch::Sender::new(State::Lost),
            token: RwLock::new(token),
        });
        let token = pool.token();
        let first = pool.reopen(token, work).await?;
        Ok((pool, first))
    }

    /// Does `work` with a session.
    pub(crate) async fn run<T: Send + 'static>(self: &Arc<Self>, work: Work<T>) -> Result<T, PoolError> {
        if !self.is_open() {
            return Err(PoolError::Unavailable);
        }
        let until = Instant::now() + self.deadline;
        let turn = self.queue.enter(until).await?;
        let link = self.link.read().unwrap_or_else(PoisonError::into_inner).clone();
        let link = link.ok_or(PoolError::Unavailable)?;
        let pool = Arc::clone(self);
        let call = tokio::task::spawn_blocking(move || {
            let result = pool.call(&link, work);
            // In this order: a turn that is over means that nobody is in the module.
            drop(link);
            drop(turn);
            result
        });
        match timeout_at(until.into(), call).await {
            Ok(Ok(result)) => {
                self.note(State::Slow, State::Up);
                Ok(result?)
            }
            Ok(Err(_panicked)) => Err(PoolError::Unavailable),
            Err(_) => {
                self.note(State::Up, State::Slow);
                Err(PoolError::Late)
            }
        }
    }

    fn call<T>(&self, link: &Link, mut work: Work<T>) -> Result<T, TokenError> {
        let idle = || link.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut attempt = |session: Result<TokenSession, TokenError>| {
            let mut session = session?;
            let done = work(&link.login, &mut session)?;
            idle().push(session);
            Ok(done)
        };
        let waiting = idle().pop();
        let result = match waiting {
            // Tokens end sessions that were idle for long. A new one tells whether that is all.
            Some(session) => attempt(Ok(session)).or_else(|error: TokenError| match error.remedy() {
                Remedy::Reconnect => attempt(link.login.session()),
                Remedy::Wait | Remedy::None => Err(error),
            }),
            None => attempt(link.login.session()),
        };
        if let Err(error) = &result
            && error.remedy() != Remedy::None
        {
            self.lose(error);
        }
        result
    }

    fn lose(&self, error: &TokenError) {
        let lost = self.state.send_if_modified(|state| {
            let open = matches!(state, State::Up | State::Slow);
            if open {
                *state = State::Lost;
            }
            open
        });
        if lost {
            tracing::error!(%error, "the token is lost; nothing is signed until it is found again");
        }
    }

    /// Initialises the module anew, logs in, and does `work`; nobody else is in the module meanwhile.
    pub(crate) async fn reopen<T: Send + 'static>(
        self: &Arc<Self>,
        token: Token,
        work: Work<T>,
    ) -> Result<T, PoolError> {
        let alone = self.queue.enter_alone(Instant::now() + self.deadline).await?;
        let pool = Arc::clone(self);
        let opening = tokio::task::spawn_blocking(move || {
            let result = pool.open_link(token, work);
            drop(alone);
            result
        });
        Ok(opening.await.map_err(|_| PoolError::Unavailable)??)
    }

    fn open_link<T>(&self, token: Token, mut work: Work<T>) -> Result<T, TokenError> {
        self.state.send_replace(State::Lost);
        // Logs out.
        self.replace(None);
        let login = Login::open(&self.module, &token)?;
        let mut session = login.session()?;
        let done = work(&login, &mut session)?;
        let idle = Mutex::new(vec![session]);
        self.replace(Some(Arc::new(Link { idle, login })));
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = token;
        self.state.send_replace(State::Up);
        Ok(done)
    }

    /// Whoever looks for the link meanwhile does not wait for the module.
    fn replace(&self, link: Option<Arc<Link>>) {
        let mut place = self.link.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *place, link);
        drop(place);
        drop(before);
    }

    /// Looks at the token now and then, and looks for it when it is lost, for as long as it is polled.
    pub(crate) async fn keep(self: Arc<Self>, check: Check) {
        let mut state = self.state.subscribe();
        loop {
            let lost = tokio::select! {
                _ = state.wait_for(|state| *state == State::Lost) => true,
                () = tokio::time::sleep(PROBE) => false,
            };
            if lost {
                self.find_again(&check).await;
            } else {
                // What it finds is noted.
                let _ = self.probe(&check).await;
            }
        }
    }

    /// Whether the token answers and all is well with it.
    pub(crate) async fn probe(self: &Arc<Self>, check: &Check) -> Result<(), PoolError> {
        let check = Arc::clone(check);
        let result = self
            .run(Box::new(move |login, session| {
                login.is_there()?;
                check(login, session)
            }))
            .await;
        match result {
            Err(PoolError::Late) => self.note(State::Up, State::Slow),
            // Whatever is wrong with what is served with, opening everything anew may mend it.
            Err(PoolError::Token(ref error)) => self.lose(error),
            // Others keep it busy: it answers them, or is slow by now.
            Err(PoolError::Busy) if self.is_up() => return Ok(()),
            Ok(()) | Err(PoolError::Unavailable | PoolError::Busy) => {}
        }
        result
    }

    fn note(&self, from: State, to: State) {
        let changed = self.state.send_if_modified(|state| {
            let changes = *state == from;
            if changes {
                *state = to;
            }
            changes
        });
        if changed && to == State::Slow {
            tracing::warn!("the token does not answer in time");
        }
    }

    async fn find_again(self: &Arc<Self>, check: &Check) {
        let delays = ExponentialBuilder::new()
            .with_min_delay(FIRST)
            .with_max_delay(LAST)
            .with_jitter()
            .without_max_times();
        let mut said = String::new();
        for delay in delays.build() {
            let check = Arc::clone(check);
            let work: Work<()> = Box::new(move |login, session| check(login, session));
            match self.reopen(self.token(), work).await {
                Ok(()) => return tracing::info!("the token is found again"),
                Err(PoolError::Token(error)) if error.remedy() == Remedy::Wait => {
                    tracing::error!(%error, "the token is not tried again until the settings are read (SIGHUP)");
                    self.state.send_replace(State::Waits);
                    return;
                }
                Err(error) => {
                    let reason = error.to_string();
                    if reason != said {
                        tracing::warn!(reason, "the token is not there yet");
                        said = reason;
                    }
                }
            }
            tokio::time::sleep(delay).await;
            // Settings that were read meanwhile may have found it.
            if *self.state.borrow() != State::Lost {
                return;
            }
        }
    }

    /// The token's settings, and its PIN, as they were last read.
    pub(crate) fn token(&self) -> Token {
        self.token.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps a PIN for the next time that one is needed.
    pub(crate) fn keep_pin(&self, token: &Token) {
        self.token.write().unwrap_or_else(PoisonError::into_inner).pin = token.pin.clone();
    }

    /// Whether requests are tried.
    pub(crate) fn is_open(&self) -> bool {
        matches!(*self.state.borrow(), State::Up | State::Slow)
    }

    /// Whether the token answered when it was last looked at.
    pub(crate) fn is_up(&self) -> bool {
        *self.state.borrow() == State::Up
    }

    /// The sessions that are open.
    pub(crate) fn open_sessions(&self) -> usize {
        // Not cloned: the last who holds it logs out, and that must be who opens the next.
        let link = self.link.read().unwrap_or_else(PoisonError::into_inner);
        let idle = link.as_ref().map_or(0, |link| {
            link.idle.lock().unwrap_or_else(PoisonError::into_inner).len()
        });
        idle + self.queue.active()
    }
}

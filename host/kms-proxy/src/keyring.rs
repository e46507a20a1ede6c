//! The signers: their ids, their public keys, and the token or the software key that signs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use ed25519_compact::{KeyPair, PublicKey, Signature};
use postern_signers::Uses;

use crate::pool::{Check, Pool, PoolError, Work};
use crate::settings::{Keys, SignerKey, Token};
use crate::software::{self, SoftwareError};
use crate::token::{TokenError, TokenSession};

/// A signer and its public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The id that signatures are verified under.
    pub id: String,
    /// The label of the key in the token; for a software key, the id.
    pub label: String,
    /// The key that verifies the signatures.
    pub key: PublicKey,
    /// The uses in the settings; `None` if not set, which permits everything.
    pub uses: Option<Uses>,
}

impl Signer {
    /// The uses that are permitted.
    #[must_use]
    pub fn uses(&self) -> Uses {
        self.uses.unwrap_or(Uses::ALL)
    }
}

/// All signers, and the one for requests that name none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signers {
    pub(crate) current: Signer,
    pub(crate) all: BTreeMap<String, Signer>,
}

/// The keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A signer's key cannot be used.
    #[error("signers.{id}: {error}")]
    Signer {
        /// The id of the signer.
        id: String,
        /// The error of its key.
        error: TokenError,
    },
    /// Two ids have the same key, but different uses: the key would serve both.
    #[error(
        "signers.{id}: its key is also that of \"{other}\", which has other uses: give both the same uses, or generate another key \
         (`postern kms-proxy keygen`)"
    )]
    SharedKey {
        /// The id of the signer.
        id: String,
        /// The id of the other signer with the key.
        other: String,
    },
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The software key cannot be loaded.
    #[error(transparent)]
    Software(#[from] SoftwareError),
    /// The token does not respond.
    #[error("{0}")]
    NotResponding(&'static str),
}

impl KeysError {
    /// Whether a retry can only do harm until an operator has changed something.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Signer { error, .. } | Self::Token(error) => matches!(
                error,
                TokenError::Pin(_)
                    | TokenError::PinLocked
                    | TokenError::PinFinalTry
                    | TokenError::Exportable { .. }
                    | TokenError::Load { .. }
            ),
            Self::Software(_) | Self::SharedKey { .. } => true,
            Self::NotResponding(_) => false,
        }
    }
}

/// Signs with the keys of all signers.
pub(crate) struct Keyring {
    backend: Backend,
    signers: Arc<RwLock<Arc<Signers>>>,
}

enum Backend {
    Token(Arc<Pool>),
    Software(KeyPair),
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("signers", &self.signers())
            .finish_non_exhaustive()
    }
}

/// The error of a signer's key, with the signer's id.
type SignerError = (String, TokenError);

impl Keyring {
    /// Opens the token and checks every signer's key.
    pub(crate) async fn open(keys: &Keys) -> Result<Self, KeysError> {
        let (backend, signers) = match keys {
            Keys::Token { token, .. } => {
                let (pool, signers) = Pool::open(token.clone(), examine(keys))
                    .await
                    .map_err(pool_error)?;
                (Backend::Token(pool), reject_shared_keys(signer_error(signers)?)?)
            }
            Keys::Software(file) => {
                let key = software::key(file.as_deref())?;
                let signer = Signer {
                    id: software::id(&key),
                    label: software::id(&key),
                    key: key.pk,
                    uses: None,
                };
                let signers = Signers {
                    current: signer.clone(),
                    all: [(signer.id.clone(), signer)].into(),
                };
                (Backend::Software(key), signers)
            }
        };
        Ok(Self {
            backend,
            signers: Arc::new(RwLock::new(Arc::new(signers))),
        })
    }

    /// Switches to other signers of the same token. If one of their keys cannot be used, the previous signers stay.
    pub(crate) async fn reload(&self, keys: &Keys) -> Result<(), KeysError> {
        let (Backend::Token(pool), Keys::Token { token, .. }) = (&self.backend, keys) else {
            return Ok(());
        };
        let read = if pool.is_open() {
            let read = pool.run(examine(keys)).await;
            pool.update_pin(token);
            read
        } else {
            let token = Token {
                pin: token.pin.clone(),
                ..pool.token()
            };
            pool.reopen(token, examine(keys)).await
        };
        let signers = reject_shared_keys(signer_error(read.map_err(pool_error)?)?)?;
        *self.signers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(signers);
        Ok(())
    }

    pub(crate) fn signers(&self) -> Arc<Signers> {
        current(&self.signers)
    }

    /// Signs with a signer's key; the signature is verified.
    pub(crate) async fn sign(&self, signer: &Signer, payload: Vec<u8>) -> Result<Signature, PoolError> {
        match &self.backend {
            Backend::Token(pool) => {
                let signer = signer.clone();
                let sign: Work<Signature> =
                    Box::new(move |_, session| session.sign(&signer.label, &signer.key, &payload));
                pool.run(sign).await
            }
            Backend::Software(key) => Ok(key.sk.sign(&payload, None)),
        }
    }

    /// Whether the token responds and holds the current signer's key.
    pub(crate) async fn probe(&self) -> Result<(), PoolError> {
        match &self.backend {
            Backend::Token(pool) => pool.probe(&self.check()).await,
            Backend::Software(_) => Ok(()),
        }
    }

    /// Monitors and reconnects the token, for as long as it is polled.
    pub(crate) async fn supervise(&self) {
        match &self.backend {
            Backend::Token(pool) => Arc::clone(pool).supervise(self.check()).await,
            Backend::Software(_) => std::future::pending().await,
        }
    }

    fn check(&self) -> Check {
        let signers = Arc::clone(&self.signers);
        Arc::new(move |_, session| {
            let Signer { label, key, .. } = &current(&signers).current;
            session.check_unchanged(label, key)
        })
    }

    pub(crate) fn is_software(&self) -> bool {
        matches!(self.backend, Backend::Software(_))
    }

    pub(crate) fn is_up(&self) -> bool {
        match &self.backend {
            Backend::Token(pool) => pool.is_up(),
            Backend::Software(_) => true,
        }
    }

    pub(crate) fn open_sessions(&self) -> usize {
        match &self.backend {
            Backend::Token(pool) => pool.open_sessions(),
            Backend::Software(_) => 0,
        }
    }
}

fn current(signers: &RwLock<Arc<Signers>>) -> Arc<Signers> {
    Arc::clone(&signers.read().unwrap_or_else(PoisonError::into_inner))
}

/// Checks every signer's key. An error of a key is returned with its signer; a failing session is an error of the
/// token.
fn examine(keys: &Keys) -> Work<Result<Signers, SignerError>> {
    let keys = keys.clone();
    Box::new(move |_, session| {
        let Keys::Token {
            signers,
            current,
            lenient,
            ..
        } = &keys
        else {
            return Err(TokenError::NoKey(String::new()));
        };
        let mut all = BTreeMap::new();
        for (id, key) in signers {
            match examine_signer(session, id, key, *lenient) {
                Ok(signer) => all.insert(id.clone(), signer),
                Err(error @ TokenError::Call(_)) => return Err(error),
                Err(error) => return Ok(Err((id.clone(), error))),
            };
        }
        match all.get(current).cloned() {
            Some(current) => Ok(Ok(Signers { current, all })),
            None => Err(TokenError::NoKey(current.clone())),
        }
    })
}

fn examine_signer(
    session: &mut TokenSession,
    id: &str,
    key: &SignerKey,
    lenient: bool,
) -> Result<Signer, TokenError> {
    Ok(Signer {
        key: session.examine(&key.label, lenient)?,
        id: id.to_owned(),
        label: key.label.clone(),
        uses: key.uses,
    })
}

/// Rejects signers that share a key, but not its uses.
fn reject_shared_keys(signers: Signers) -> Result<Signers, KeysError> {
    let mut all = signers.all.values();
    while let Some(signer) = all.next() {
        let mut others = all.clone();
        if let Some(other) = others.find(|other| other.key == signer.key && other.uses() != signer.uses()) {
            return Err(KeysError::SharedKey {
                id: other.id.clone(),
                other: signer.id.clone(),
            });
        }
    }
    Ok(signers)
}

fn signer_error(read: Result<Signers, SignerError>) -> Result<Signers, KeysError> {
    read.map_err(|(id, error)| KeysError::Signer { id, error })
}

fn pool_error(error: PoolError) -> KeysError {
    match error {
        PoolError::Token(error) => KeysError::Token(error),
        PoolError::Timeout => KeysError::NotResponding("the token does not respond in time"),
        PoolError::Busy => KeysError::NotResponding("too many requests wait for the token: retry later"),
        PoolError::Unavailable => KeysError::NotResponding("the token is not available"),
    }
}

//! Opens a token: module, slot and login.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as Pkcs11Error, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};

use super::error::{TokenError, describe};
use super::session::TokenSession;
use crate::settings::{Token, TokenName};

/// A PKCS#11 module, loaded for the lifetime of the process.
///
/// The state of a module is global to the process: there must be only one `Module`, and one [`Login`] at a time.
#[derive(Debug, Clone)]
pub struct Module(Pkcs11);

impl Module {
    /// Loads the library.
    ///
    /// # Errors
    /// If it cannot be loaded, or is not a PKCS#11 module.
    pub fn load(token: &Token) -> Result<Self, TokenError> {
        let failed = |error: &dyn Display| TokenError::Load {
            path: token.module.display().to_string(),
            error: error.to_string(),
        };
        // The loader would wait for the writer of a FIFO.
        postern_files::open(&token.module).map_err(|error| failed(&error))?;
        Pkcs11::new(&token.module)
            .map(Self)
            .map_err(|error| failed(&error))
    }

    fn initialize(&self) -> Result<(), Pkcs11Error> {
        self.0
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
    }

    /// Modules cache the state of tokens: without finalizing, a token that was removed would stay lost.
    fn finalize(&self) -> Result<(), Pkcs11Error> {
        match self.0.clone().finalize() {
            Ok(()) | Err(Pkcs11Error::Pkcs11(RvError::CryptokiNotInitialized, _)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// A login to a token.
#[derive(Debug)]
pub struct Login {
    module: Module,
    slot: Slot,
    /// Keeps the login alive: it ends with the last session.
    first: Mutex<Option<Session>>,
}

impl Login {
    /// Finds the token and logs in, with a single attempt.
    ///
    /// # Errors
    /// If the token is not available, or rejects the PIN.
    pub fn open(module: &Module, token: &Token) -> Result<Self, TokenError> {
        module.finalize()?;
        module.initialize()?;
        let opened = Self::open_initialized(module, token);
        if opened.is_err() {
            // The first error is the relevant one.
            let _ = module.finalize();
        }
        opened
    }

    fn open_initialized(module: &Module, token: &Token) -> Result<Self, TokenError> {
        let (slot, info) = find(&module.0, &token.name)?;
        if info.user_pin_locked() {
            return Err(TokenError::PinLocked);
        }
        if info.user_pin_final_try() {
            return Err(TokenError::PinFinalTry);
        }
        let session = module.0.open_ro_session(slot)?;
        match session.login(UserType::User, Some(&token.pin)) {
            Ok(()) | Err(Pkcs11Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(Pkcs11Error::Pkcs11(RvError::PinLocked, _)) => return Err(TokenError::PinLocked),
            Err(Pkcs11Error::Pkcs11(code, _)) if is_about_the_pin(&code) => {
                return Err(TokenError::Pin(code));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Self {
            module: module.clone(),
            slot,
            first: Mutex::new(Some(session)),
        })
    }

    /// Opens another session.
    ///
    /// # Errors
    /// If the token does not provide one.
    pub fn session(&self) -> Result<TokenSession, TokenError> {
        Ok(TokenSession::new(self.module.0.open_ro_session(self.slot)?))
    }

    /// Opens a session that can generate keys.
    pub(super) fn rw_session(&self) -> Result<Session, TokenError> {
        Ok(self.module.0.open_rw_session(self.slot)?)
    }

    /// Whether the token still responds.
    pub(crate) fn check_present(&self) -> Result<(), TokenError> {
        self.module.0.get_token_info(self.slot)?;
        Ok(())
    }
}

impl Drop for Login {
    /// No session of another thread may be in a call any more.
    fn drop(&mut self) {
        drop(self.first.lock().unwrap_or_else(PoisonError::into_inner).take());
        let _ = self.module.finalize();
    }
}

fn find(context: &Pkcs11, name: &TokenName) -> Result<(Slot, TokenInfo), TokenError> {
    let mut labels = Vec::new();
    let mut found = Vec::new();
    for slot in context.get_slots_with_token()? {
        // A slot without information is not the wanted one; errors of other tokens do not matter.
        let Ok(info) = context.get_token_info(slot) else {
            continue;
        };
        if !info.token_initialized() {
            continue;
        }
        let matches = match name {
            TokenName::Label(label) => info.label() == label,
            TokenName::Serial(serial) => info.serial_number() == serial,
        };
        if matches {
            found.push((slot, info));
        } else {
            labels.push(format!("\"{}\"", info.label()));
        }
    }
    let count = found.len();
    match found.pop() {
        Some(one) if count == 1 => Ok(one),
        Some(_) => Err(TokenError::ManyTokens {
            name: describe(name),
            count,
        }),
        None => Err(TokenError::NoToken {
            name: describe(name),
            labels,
        }),
    }
}

/// Codes after which the same PIN must not be tried again.
fn is_about_the_pin(code: &RvError) -> bool {
    matches!(
        code,
        RvError::PinIncorrect
            | RvError::PinInvalid
            | RvError::PinLenRange
            | RvError::PinExpired
            | RvError::PinTooWeak
            | RvError::UserPinNotInitialized
    )
}

//! Errors of tokens, and how to recover from them.

use cryptoki::error::{Error as Pkcs11Error, RvError};

use crate::settings::TokenName;

/// A token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The library cannot be loaded as a PKCS#11 module.
    #[error("token.module: {path} cannot be loaded as a PKCS#11 module: {error}")]
    Load {
        /// The path of the library.
        path: String,
        /// Why: the file system's reason, or the loader's.
        error: String,
    },
    /// No token has this name.
    #[error("no token has the {name}; {}", list(.labels))]
    NoToken {
        /// The label or serial number in the settings.
        name: String,
        /// The labels of the tokens that exist.
        labels: Vec<String>,
    },
    /// Several tokens have this name.
    #[error("{count} tokens have the {name}: use `serial` instead")]
    ManyTokens {
        /// The label or serial number in the settings.
        name: String,
        /// The number of tokens.
        count: usize,
    },
    /// The user's PIN is locked.
    #[error("the token's user PIN is locked: its security officer must set a new one")]
    PinLocked,
    /// Another wrong PIN would lock it.
    #[error(
        "one more wrong PIN would lock the token, so none is tried: log in once with another tool to reset the counter"
    )]
    PinFinalTry,
    /// The token rejects the PIN.
    #[error(
        "the token rejects the user PIN ({0:?}); it is not tried again: set the correct one and restart or reload"
    )]
    Pin(RvError),
    /// No private key has this label.
    #[error(
        "there is no private key with the label \"{0}\" in the token; `postern kms-proxy keygen` generates one"
    )]
    NoKey(String),
    /// Several private keys have this label.
    #[error("{count} private keys have the label \"{label}\": the label must be unique")]
    ManyKeys {
        /// The label of the key.
        label: String,
        /// The number of keys.
        count: usize,
    },
    /// A key with this label already exists.
    #[error(
        "a key with the label \"{0}\" already exists: `postern kms-proxy keygen --show` prints its public key; for \
         a new key choose another label; a key is never replaced"
    )]
    LabelTaken(String),
    /// The private key can leave the token.
    #[error(
        "the private key \"{label}\" {how}: it could leave the token; generate one that cannot (`postern kms-proxy keygen`), \
         or, for development, add --development"
    )]
    Exportable {
        /// The label of the key.
        label: String,
        /// How it can leave, such as `is extractable`.
        how: &'static str,
    },
    /// The public key does not exist in the token.
    #[error("the public key \"{0}\" is not in the token: import it with the private key's label or id")]
    NoPublicKey(String),
    /// The public key is not a valid Ed25519 key.
    #[error("the public key \"{label}\" cannot be used: {error}")]
    InvalidPoint {
        /// The label of the key.
        label: String,
        /// The error of its point.
        error: super::point::PointError,
    },
    /// The label names another key than before.
    #[error("the key \"{0}\" has changed: reload the settings if that is intended")]
    KeyChanged(String),
    /// The token's signature fails verification with its public key.
    #[error("the token's signature with \"{0}\" fails verification and is withheld")]
    WrongSignature(String),
    /// A PKCS#11 call failed.
    #[error("{}", call(.0))]
    Call(#[from] Pkcs11Error),
}

/// With the names of the standard, which the manuals of tokens use; the library's own text is longer and says less.
fn call(error: &Pkcs11Error) -> String {
    match error {
        Pkcs11Error::Pkcs11(code, function) => format!("the token failed in C_{function:?}: {code:?}"),
        other => format!("the token failed: {other}"),
    }
}

fn list(labels: &[String]) -> String {
    match labels {
        [] => "the module has no tokens".to_owned(),
        labels => format!("there is {}", labels.join(", ")),
    }
}

/// How to recover from an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// Reopen everything, until it works.
    Reconnect,
    /// Wait for an operator: each attempt may be one of the last before the PIN is locked.
    Operator,
    /// Only this request failed.
    None,
}

impl TokenError {
    pub(crate) fn recovery(&self) -> Recovery {
        match self {
            Self::PinLocked | Self::PinFinalTry | Self::Pin(_) => Recovery::Operator,
            Self::Call(Pkcs11Error::Pkcs11(code, _)) if is_about_the_request(code) => Recovery::None,
            Self::Call(_) | Self::Load { .. } | Self::NoToken { .. } | Self::ManyTokens { .. } => {
                Recovery::Reconnect
            }
            // A request for a missing key must not interrupt all others. Whether the current key exists is checked by
            // the token monitor.
            Self::NoKey(_)
            | Self::ManyKeys { .. }
            | Self::LabelTaken(_)
            | Self::Exportable { .. }
            | Self::NoPublicKey(_)
            | Self::InvalidPoint { .. }
            | Self::KeyChanged(_)
            | Self::WrongSignature(_) => Recovery::None,
        }
    }
}

/// Codes of a working token that cannot do what was requested. All others, including vendor codes, may mean that
/// sessions are lost, and reopening them does no harm.
fn is_about_the_request(code: &RvError) -> bool {
    matches!(
        code,
        RvError::ArgumentsBad
            | RvError::DataInvalid
            | RvError::DataLenRange
            | RvError::FunctionCanceled
            | RvError::FunctionNotSupported
            | RvError::KeyFunctionNotPermitted
            | RvError::KeySizeRange
            | RvError::KeyTypeInconsistent
            | RvError::MechanismInvalid
            | RvError::MechanismParamInvalid
    )
}

/// The label or serial number, as named in the settings.
pub(crate) fn describe(name: &TokenName) -> String {
    match name {
        TokenName::Label(label) => format!("label \"{label}\""),
        TokenName::Serial(serial) => format!("serial \"{serial}\""),
    }
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;

    use super::*;

    #[test]
    fn what_follows_from_a_code() {
        let call = |code| TokenError::Call(Pkcs11Error::Pkcs11(code, Function::Sign));
        for (error, expected) in [
            (call(RvError::DeviceRemoved), Recovery::Reconnect),
            (call(RvError::SessionHandleInvalid), Recovery::Reconnect),
            (call(RvError::SessionClosed), Recovery::Reconnect),
            (call(RvError::TokenNotPresent), Recovery::Reconnect),
            (call(RvError::UserNotLoggedIn), Recovery::Reconnect),
            (call(RvError::ObjectHandleInvalid), Recovery::Reconnect),
            (call(RvError::KeyHandleInvalid), Recovery::Reconnect),
            (call(RvError::GeneralError), Recovery::Reconnect),
            (call(RvError::VendorDefined(0x8000_0001)), Recovery::Reconnect),
            (TokenError::NoKey("a".into()), Recovery::None),
            (call(RvError::DataLenRange), Recovery::None),
            (call(RvError::KeyFunctionNotPermitted), Recovery::None),
            (TokenError::WrongSignature("a".into()), Recovery::None),
            (TokenError::Pin(RvError::PinIncorrect), Recovery::Operator),
            (TokenError::PinLocked, Recovery::Operator),
            (TokenError::PinFinalTry, Recovery::Operator),
        ] {
            assert_eq!(error.recovery(), expected, "{error}");
        }
    }
}

//! What can go wrong with a token, and what is to be done about it.

use cryptoki::error::{Error as Pkcs11Error, RvError};

use crate::settings::TokenName;

/// Why a token does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The library is none.
    #[error("token.module: {path} cannot be loaded as a PKCS#11 module: {error}")]
    Load {
        /// The library.
        path: String,
        /// What the loader says.
        error: Pkcs11Error,
    },
    /// There is no such token.
    #[error("there is no token with the {name}; {}", list(.labels))]
    NoToken {
        /// What was looked for.
        name: String,
        /// The labels that are there.
        labels: Vec<String>,
    },
    /// There are several.
    #[error("{count} tokens have the {name}: tell them apart by `serial`")]
    ManyTokens {
        /// What was looked for.
        name: String,
        /// How many there are.
        count: usize,
    },
    /// The user's PIN is locked.
    #[error("the token's user PIN is locked: have its security officer set it anew")]
    PinLocked,
    /// Another wrong PIN would lock it.
    #[error(
        "one more wrong PIN would lock the token, so none is tried: log in once with another tool, which ends this"
    )]
    PinFinalTry,
    /// The token does not take the PIN.
    #[error(
        "the token refuses the user PIN ({0:?}); it is not tried again: set the right one and start or reload"
    )]
    Pin(RvError),
    /// There is no such private key.
    #[error(
        "there is no private key with the label \"{0}\" in the token; `postern kms-proxy keygen` makes one"
    )]
    NoKey(String),
    /// There are several.
    #[error("{count} private keys have the label \"{label}\": a label must name one")]
    ManyKeys {
        /// The label.
        label: String,
        /// How many there are.
        count: usize,
    },
    /// The label is taken.
    #[error(
        "there is a key with the label \"{0}\" already: `postern kms-proxy keygen --show` prints its public key; for \
         another key choose another label, a key is never replaced"
    )]
    LabelTaken(String),
    /// The private key can leave the token.
    #[error(
        "the private key \"{label}\" {how}: it could leave the token; make one that cannot (`postern kms-proxy keygen`), \
         or, for development, add --development"
    )]
    Exportable {
        /// The label.
        label: String,
        /// `is extractable`, or another way of saying that it can leave.
        how: &'static str,
    },
    /// The public key cannot be read.
    #[error("the public key \"{0}\" is not in the token: put it there with the private key's label or id")]
    NoPublicKey(String),
    /// The public key is no key for Ed25519.
    #[error("the public key \"{label}\" is of no use: {error}")]
    InvalidPoint {
        /// The label.
        label: String,
        /// What is wrong with it.
        error: super::point::PointError,
    },
    /// Another key than before has the label.
    #[error("the key \"{0}\" is not the one that it was: reload the settings if that is intended")]
    KeyChanged(String),
    /// The token made a signature that its public key does not verify.
    #[error("the token's signature with \"{0}\" does not verify: it is withheld")]
    WrongSignature(String),
    /// A call failed.
    #[error("{}", call(.0))]
    Call(#[from] Pkcs11Error),
}

/// By the names of the standard, which tokens' manuals use: the library's own text says less in more words.
fn call(error: &Pkcs11Error) -> String {
    match error {
        Pkcs11Error::Pkcs11(code, function) => format!("the token failed in C_{function:?}: {code:?}"),
        other => format!("the token failed: {other}"),
    }
}

fn list(labels: &[String]) -> String {
    match labels {
        [] => "the module shows no token at all".to_owned(),
        labels => format!("there is {}", labels.join(", ")),
    }
}

/// What follows from an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// Everything is opened anew, and again until it works.
    Reconnect,
    /// Nothing is tried before someone has looked: each try may be one of the last before the PIN is locked.
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
            // Who asks for a key that is gone must not take the others from everybody. Whether the current one is
            // there, the watch over the token finds out.
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

/// Codes of a token that is well but does not do what it was asked. All others, a vendor's own too, may mean that
/// sessions are gone, and opening them anew does no harm.
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

/// The text of settings that named the token.
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

//! Why there is no signature.

use postern_signers::{ReadError, SignatureError, Uses};

use crate::manifest::CanonicalError;
use crate::mode::ModeError;
use crate::settings::SettingsError;

/// Why nothing was signed, or why a signature is not handed on. Neither the payload nor a secret is in the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// No connection, or one that was closed before the answer was whole.
    #[error("the signing proxy cannot be reached ({0}): see that it runs, and that its URL names it")]
    Unreachable(String),
    /// No answer within the deadline.
    #[error("the signing proxy did not answer in time: see whether it, or its KMS, is overloaded or hangs")]
    Timeout,
    /// No TLS with it: its certificate does not count, or ours does not.
    #[error(
        "no TLS with the signing proxy ({0}): see its certificate, the CA, and the host's own certificate"
    )]
    Tls(String),
    /// It does not know the host.
    #[error("the signing proxy refuses the host ({0}): see the token (SIGNING_PROXY_API_KEY) or certificate")]
    Unauthorized(u16),
    /// It answers with another status than 200.
    #[error("the signing proxy answered {0}: see its log")]
    Status(u16),
    /// Its answer is no answer.
    #[error("the signing proxy's answer {0}: see that its URL names a signing proxy")]
    InvalidResponse(&'static str),
    /// Another signed than the one who was asked.
    #[error(
        "\"{found}\" signed where \"{expected}\" was asked: see which key the signing proxy uses, and SIGNER_ID"
    )]
    SignerUnexpected {
        /// The one who was asked.
        expected: String,
        /// The one who signed.
        found: String,
    },
    /// The signature does not count.
    #[error(
        "a signature by \"{signer_id}\" is refused: {reason}; see signers.toml and the signing proxy's key"
    )]
    Rejected {
        /// Who signed, as the proxy says.
        signer_id: String,
        /// Why it does not count.
        reason: SignatureError,
    },
    /// The proxy failed several times in a row, and is not asked for a moment.
    #[error("the signing proxy failed several times in a row and is not asked for a moment")]
    BreakerOpen,
    /// The payload is larger than [`crate::MAX_PAYLOAD_SIZE`].
    #[error("the payload is larger than 1 MiB: sign its digest")]
    PayloadTooLarge,
    /// The payload could be taken for something that it must not be.
    #[error("the payload could be taken for {0}")]
    Reserved(&'static str),
    /// The manifest has no canonical form.
    #[error(transparent)]
    Manifest(#[from] CanonicalError),
    /// Who is to be replaced is who is to replace.
    #[error("a signer cannot replace itself: name an old and a new one")]
    SameSigner,
    /// The signer that is to replace another does not have all of its uses.
    #[error(
        "\"{new}\" cannot replace \"{old}\", whose uses it does not all have: \"{old}\" has {needed}, \"{new}\" has \
         {found}; name a signer that was added with the uses of the old one"
    )]
    MissingUses {
        /// The signer to be replaced.
        old: String,
        /// The one that is to replace it.
        new: String,
        /// The uses of the old one.
        needed: Uses,
        /// Those of the new one.
        found: Uses,
    },
    /// Neither of both may sign that one follows the other, and nobody else is named who may.
    #[error(
        "\"{0}\" may not sign statements of rotation: name a signer that may under signing.uses.rotation, and give it \
         uses = [\"rotation\"] in signers.toml"
    )]
    NoRotationSigner(String),
    /// A development key is not rotated.
    #[error("the development signer has no other key to change to: name a signing proxy")]
    Development,
}

impl SigningError {
    /// Its reason code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::Tls(_) => "tls",
            Self::Unauthorized(_) => "unauthorized",
            Self::Status(_) => "status",
            Self::InvalidResponse(_) => "garbage",
            Self::SignerUnexpected { .. } => "signer_unexpected",
            Self::Rejected { reason, .. } => reason.code(),
            Self::BreakerOpen => "breaker_open",
            Self::PayloadTooLarge => "payload_too_large",
            Self::Reserved(_) => "payload_reserved",
            Self::Manifest(_) => "manifest_invalid",
            Self::SameSigner => "same_signer",
            Self::MissingUses { .. } => "uses_missing",
            Self::NoRotationSigner(_) => "no_rotation_signer",
            Self::Development => "development_signer",
        }
    }

    /// Whether what was asked cannot be signed by anyone: the caller's to mend, and no word about the proxy.
    #[must_use]
    pub fn is_caller_error(&self) -> bool {
        matches!(
            self,
            Self::PayloadTooLarge
                | Self::Reserved(_)
                | Self::Manifest(_)
                | Self::SameSigner
                | Self::MissingUses { .. }
                | Self::NoRotationSigner(_)
                | Self::Development
        )
    }

    /// Whether no answer came.
    pub(crate) fn is_transport(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Timeout | Self::Tls(_))
    }
}

/// Why signing does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Settings do not say who signs.
    #[error(transparent)]
    Mode(#[from] ModeError),
    /// Settings cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The registry cannot be had.
    #[error("the registry of signers: {0}")]
    Registry(#[from] ReadError),
    /// The system has no random numbers.
    #[error("no random numbers for a development key: {0}")]
    Random(String),
    /// The HTTP client cannot be set up.
    #[error("the HTTP client of signing cannot be set up: {0}")]
    Client(String),
}

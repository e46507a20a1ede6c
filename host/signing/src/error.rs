//! Errors of signing and of its start.

use postern_signers::{ReadError, SignatureError, Uses};

use crate::manifest::CanonicalError;
use crate::mode::ModeError;
use crate::settings::SettingsError;

/// Why no signature is returned. The text contains neither the payload nor a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// The connection failed, or was closed before the response was complete.
    #[error("the signing proxy is unreachable ({0}): check that it is running and that its URL is correct")]
    Unreachable(String),
    /// No response within the deadline.
    #[error("the signing proxy did not respond in time: check whether it or its KMS is overloaded or hangs")]
    Timeout,
    /// The TLS handshake failed: one side did not accept the other's certificate.
    #[error(
        "the TLS handshake with the signing proxy failed ({0}): check its certificate, the CA, and the host's own certificate"
    )]
    Tls(String),
    /// The proxy rejected the host's credentials: 401 or 403.
    #[error(
        "the signing proxy rejected the host's credentials ({0}): check the token (SIGNING_PROXY_API_KEY) or certificate"
    )]
    Unauthorized(u16),
    /// The proxy responded with another status than 200.
    #[error("the signing proxy responded with status {0}: see its log")]
    Status(u16),
    /// The response does not follow the proxy's contract.
    #[error("the signing proxy's response is invalid: {0}; check that the URL is that of a signing proxy")]
    InvalidResponse(&'static str),
    /// Another signer than the requested one signed.
    #[error(
        "\"{found}\" signed where \"{expected}\" was requested: check which key the signing proxy uses, and SIGNER_ID"
    )]
    SignerUnexpected {
        /// The requested signer.
        expected: String,
        /// The signer that the response names.
        found: String,
    },
    /// The signature was rejected.
    #[error(
        "a signature by \"{signer_id}\" is rejected: {reason}; check signers.toml and the signing proxy's key"
    )]
    Rejected {
        /// The signer that the response names.
        signer_id: String,
        reason: SignatureError,
    },
    /// The circuit breaker is open.
    #[error("the signing proxy failed several times in a row: requests to it are suspended for a short time")]
    BreakerOpen,
    /// The payload is larger than [`crate::MAX_PAYLOAD_SIZE`].
    #[error("the payload is larger than 1 MiB: sign its digest instead")]
    PayloadTooLarge,
    /// The payload could be taken for something that only the host or a manifest's author may have signed.
    #[error("the payload could be taken for {0}")]
    Reserved(&'static str),
    /// The manifest has no canonical form.
    #[error(transparent)]
    Manifest(#[from] CanonicalError),
    /// The old and the new signer of a rotation are the same.
    #[error("a signer cannot replace itself: name an old and a new signer")]
    SameSigner,
    /// The new signer of a rotation lacks uses of the old one.
    #[error(
        "\"{new}\" cannot replace \"{old}\", because it lacks some of its uses: \"{old}\" has {needed}, \"{new}\" has \
         {found}; name a signer that was added with the uses of the old one"
    )]
    MissingUses {
        /// The signer that is replaced.
        old: String,
        /// The signer that replaces it.
        new: String,
        /// Uses of the old signer.
        needed: Uses,
        /// Uses of the new signer.
        found: Uses,
    },
    /// The old signer may not sign rotation statements, and the settings name no other signer for that use.
    #[error(
        "\"{0}\" may not sign rotation statements: name a signer that may under signing.uses.rotation, and give it \
         uses = [\"rotation\"] in signers.toml"
    )]
    NoRotationSigner(String),
    /// Development signers cannot be rotated.
    #[error("the development signer cannot be rotated: configure a signing proxy")]
    Development,
}

impl SigningError {
    /// The reason code.
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

    /// Whether the request itself is at fault: the caller must change it, and it says nothing about the proxy.
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

    /// Whether no response was received.
    pub(crate) fn is_transport(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Timeout | Self::Tls(_))
    }
}

/// Why signing cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings conflict about what signs.
    #[error(transparent)]
    Mode(#[from] ModeError),
    /// A setting is invalid.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The registry cannot be read or is invalid.
    #[error("the registry of signers: {0}")]
    Registry(#[from] ReadError),
    /// The system's random number generator failed.
    #[error("cannot generate a development key: {0}")]
    Random(String),
    /// The HTTP client cannot be created.
    #[error("cannot create the HTTP client of the signing proxy: {0}")]
    Client(String),
}

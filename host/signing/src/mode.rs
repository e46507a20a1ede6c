//! The signing mode, and which settings conflict.

/// What signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The KMS, through its proxy. There is no fallback if the proxy fails.
    Proxy,
    /// A key in this process, for development only.
    Development,
}

impl Mode {
    /// The name in logs, metrics and health reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Development => "development",
        }
    }

    /// The mode for which settings are present: the proxy's URL (`SIGNING_PROXY_URL`, `KMS_ENDPOINT`), the requirement of
    /// a proxy (`REQUIRE_SIGNING_PROXY`, `REQUIRE_KMS`) and a development secret (`REPOWRITER_SIGNING_SECRET`).
    ///
    /// | proxy | required | secret | mode |
    /// |---|---|---|---|
    /// | no | no | either | development |
    /// | yes | either | no | proxy |
    /// | either | yes | yes | error: a development secret where a proxy is required |
    /// | no | yes | no | error: nothing could sign |
    /// | yes | no | yes | error: a secret beside a proxy looks like a fallback, which does not exist |
    ///
    /// # Errors
    /// If the settings conflict, as in the table. The host must not start then.
    pub fn resolve(proxy: bool, required: bool, secret: bool) -> Result<Self, ModeError> {
        match (proxy, required, secret) {
            (_, true, true) => Err(ModeError::SecretWithRequiredProxy),
            (false, true, false) => Err(ModeError::MissingProxy),
            (true, false, true) => Err(ModeError::SecretWithProxy),
            (true, _, false) => Ok(Self::Proxy),
            (false, false, _) => Ok(Self::Development),
        }
    }
}

/// A conflict of settings, with which a host must not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ModeError {
    /// A proxy is required and none is configured.
    #[error(
        "a signing proxy is required (REQUIRE_SIGNING_PROXY, REQUIRE_KMS) but none is configured: set \
         SIGNING_PROXY_URL or KMS_ENDPOINT"
    )]
    MissingProxy,
    /// A development secret is set where a proxy is required.
    #[error(
        "REPOWRITER_SIGNING_SECRET is set although a signing proxy is required (REQUIRE_SIGNING_PROXY, REQUIRE_KMS): \
         it is for development only; remove it"
    )]
    SecretWithRequiredProxy,
    /// A development secret is set beside a proxy.
    #[error(
        "both a signing proxy and REPOWRITER_SIGNING_SECRET are set: the secret would never be used, since there is no \
         fallback from the proxy; remove one of them"
    )]
    SecretWithProxy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_follows_from_the_settings() {
        let cases = [
            ((false, false, false), Ok(Mode::Development)),
            ((false, false, true), Ok(Mode::Development)),
            ((false, true, false), Err(ModeError::MissingProxy)),
            ((false, true, true), Err(ModeError::SecretWithRequiredProxy)),
            ((true, false, false), Ok(Mode::Proxy)),
            ((true, false, true), Err(ModeError::SecretWithProxy)),
            ((true, true, false), Ok(Mode::Proxy)),
            ((true, true, true), Err(ModeError::SecretWithRequiredProxy)),
        ];
        for ((proxy, required, secret), expected) in cases {
            assert_eq!(
                Mode::resolve(proxy, required, secret),
                expected,
                "{proxy} {required} {secret}"
            );
        }
    }
}

//! Who signs, and when a host must not start.

/// Who signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The KMS, through its proxy. If the proxy fails, nobody does.
    Proxy,
    /// A key of no worth in this process, for development.
    Development,
}

impl Mode {
    /// Its name in logs, metrics and health.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Development => "development",
        }
    }

    /// Decides who signs by what the settings have: the proxy's URL (`SIGNING_PROXY_URL`, `KMS_ENDPOINT`), the demand for
    /// a proxy (`REQUIRE_SIGNING_PROXY`, `REQUIRE_KMS`) and a development secret (`REPOWRITER_SIGNING_SECRET`).
    ///
    /// | proxy | required | secret | |
    /// |---|---|---|---|
    /// | no | no | either | development |
    /// | yes | either | no | proxy |
    /// | either | yes | yes | no start: a development secret has no place where a proxy is required |
    /// | no | yes | no | no start: nobody could sign |
    /// | yes | no | yes | no start: a secret beside a proxy looks like a fallback, and there is none |
    ///
    /// # Errors
    /// Why the host must not start.
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

/// Why a host must not start: its settings do not say who signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ModeError {
    /// A proxy is required and none is named.
    #[error(
        "a signing proxy is required (REQUIRE_SIGNING_PROXY, REQUIRE_KMS) and none is named: set SIGNING_PROXY_URL or \
         KMS_ENDPOINT"
    )]
    MissingProxy,
    /// A development secret is set where a proxy is required.
    #[error(
        "REPOWRITER_SIGNING_SECRET is set where a signing proxy is required (REQUIRE_SIGNING_PROXY, REQUIRE_KMS): it \
         is for development alone; remove it"
    )]
    SecretWithRequiredProxy,
    /// A development secret is set beside a proxy.
    #[error(
        "both a signing proxy and REPOWRITER_SIGNING_SECRET are set: the secret would never be used, since nothing \
         stands in for the proxy; remove one of them"
    )]
    SecretWithProxy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_signs() {
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

//! Answers, built in one line.

use std::time::Duration;

use crate::{Allowance, CacheGrant, Decision, Denial, Header, Obligation, Part};

/// A refusal; the same as [`Denial::new`].
pub fn deny(status: u16, code: impl Into<String>, message: impl Into<String>) -> Denial {
    Denial::new(status, code, message)
}

impl Decision {
    /// The request may pass: `Ok(Decision::allow().into())`.
    #[must_use]
    #[inline]
    pub fn allow() -> Allowance {
        Allowance {
            headers: Vec::new(),
            obligations: Vec::new(),
            cache: None,
        }
    }
}

impl Allowance {
    /// The upstream sees this header, and none that the client sent under its name.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(Header::new(name, value));
        self
    }

    /// Something else must be done or recorded.
    #[must_use]
    pub fn obligation(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.obligations.push(Obligation {
            name: name.into(),
            value: value.into(),
        });
        self
    }

    /// The answer holds for as long as `ttl`, for each request that agrees with this one in all `parts`. Name all that
    /// the decision was made from: what is left out is not looked at again.
    #[must_use]
    #[inline]
    pub fn cache(mut self, ttl: Duration, parts: impl Into<Vec<Part>>) -> Self {
        self.cache = Some(CacheGrant {
            ttl_ms: u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX),
            parts: parts.into(),
        });
        self
    }
}

impl Denial {
    /// A refusal: a status from 400 to 599, a word for programs (`quorum_missing`), a sentence for people, which the
    /// client sees.
    pub fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.into(),
            message: message.into(),
            headers: Vec::new(),
        }
    }

    /// Adds a header to the response.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(Header::new(name, value));
        self
    }
}

impl From<Allowance> for Decision {
    #[inline]
    fn from(allowance: Allowance) -> Self {
        Self::Allow(allowance)
    }
}

impl From<Denial> for Decision {
    #[inline]
    fn from(denial: Denial) -> Self {
        Self::Deny(denial)
    }
}

impl Header {
    /// A header; its name must be in lower case.
    pub fn new(name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builder_keeps_all_it_is_told() {
        let allowance = Decision::allow()
            .header("x-tenant", "acme")
            .header("x-tenant", [0xff])
            .obligation("log", "full")
            .cache(
                Duration::from_secs(u64::MAX),
                [Part::Path, Part::Header("x-a".into())],
            );
        let expected = Allowance {
            headers: vec![Header::new("x-tenant", "acme"), Header::new("x-tenant", [0xff])],
            obligations: vec![Obligation {
                name: "log".into(),
                value: "full".into(),
            }],
            cache: Some(CacheGrant {
                ttl_ms: u32::MAX,
                parts: vec![Part::Path, Part::Header("x-a".into())],
            }),
        };
        assert_eq!(Decision::from(allowance), Decision::Allow(expected));

        let denial = deny(429, "slow_down", "Later.").header("retry-after", "7");
        assert_eq!(denial.headers, [Header::new("retry-after", "7")]);
        assert_eq!((denial.status, denial.code.as_str()), (429, "slow_down"));
    }
}

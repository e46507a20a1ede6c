//! Builders for decisions.

use std::time::Duration;

use crate::{Allowance, CacheGrant, Decision, Denial, Header, Obligation, Part};

/// Short for [`Denial::new`].
pub fn deny(status: u16, code: impl Into<String>, message: impl Into<String>) -> Denial {
    Denial::new(status, code, message)
}

impl Decision {
    /// Allows the request: `Ok(Decision::allow().into())`.
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
    /// Sets a header for the upstream. It replaces client-sent headers of the same name.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(Header::new(name, value));
        self
    }

    /// Adds an obligation: something to do or record because the request was allowed.
    #[must_use]
    pub fn obligation(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.obligations.push(Obligation {
            name: name.into(),
            value: value.into(),
        });
        self
    }

    /// Lets the gate reuse the decision for `ttl`, for requests equal to this one in all `parts`. List every part that the
    /// decision depends on: the gate does not compare the others.
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
    /// Denies the request with a status from 300 to 599, a machine-readable code (`quorum_missing`) and a message for
    /// people. The client sees both.
    pub fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.into(),
            message: message.into(),
            headers: Vec::new(),
        }
    }

    /// Appends a header to the response; the name must be in lower case.
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
    /// Creates a header; the name must be in lower case.
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
    fn builders_set_all_fields() {
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

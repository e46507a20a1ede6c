//! The bearer token of a request (RFC 6750, section 2.1).

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The `Authorization` of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BearerToken<'a> {
    /// No `Authorization` header.
    None,
    /// A bearer token.
    Bearer(&'a [u8]),
    /// Credentials of another scheme, an empty token, or more than one header: an intermediary may have checked the
    /// other one.
    Invalid,
}

/// Parses the `Authorization` header of a request.
#[must_use]
pub fn bearer_token(headers: &HeaderMap) -> BearerToken<'_> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return BearerToken::None;
    };
    if is_authorization_ambiguous(headers) {
        return BearerToken::Invalid;
    }
    match value.as_bytes().split_at_checked("Bearer ".len()) {
        Some((scheme, token))
            if scheme.eq_ignore_ascii_case(b"Bearer ") && !token.trim_ascii().is_empty() =>
        {
            BearerToken::Bearer(token.trim_ascii())
        }
        _ => BearerToken::Invalid,
    }
}

/// Whether a request has more than one `Authorization` header, whatever their values: no server accepts such a request.
#[must_use]
pub fn is_authorization_ambiguous(headers: &HeaderMap) -> bool {
    headers.get_all(AUTHORIZATION).iter().nth(1).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, http::HeaderValue::from_static(value));
        }
        match bearer_token(&headers) {
            BearerToken::None => "none".into(),
            BearerToken::Bearer(token) => String::from_utf8_lossy(token).into_owned(),
            BearerToken::Invalid => "invalid".into(),
        }
    }

    #[test]
    fn one_bearer_token_is_read_and_nothing_else() {
        assert_eq!(read(&[]), "none");
        assert_eq!(read(&["Bearer abc"]), "abc");
        assert_eq!(read(&["bearer  abc "]), "abc");
        for values in [
            &["Bearer abc", "Bearer abc"][..],
            &["Bearer abc", "Basic abc"],
            &["Basic abc", "Bearer abc"],
            &["", "Bearer abc"],
            &["Basic abc"],
            &["Bearer"],
            &["Bearer "],
            &["abc"],
            &[""],
        ] {
            assert_eq!(read(values), "invalid", "{values:?}");
        }
    }
}

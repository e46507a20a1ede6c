//! Method validation. Methods are case-sensitive (RFC 9110, section 9.1), but some servers treat `post` as `POST`,
//! and would serve a request to which no rule for `POST` was applied.

use crate::request::{Request, Single};

/// The longest accepted method, in bytes. Every registered method is shorter.
const MAX: usize = 64;

/// The request's method: a token (RFC 9110, section 5.6.2) without lower-case letters, which no registered method
/// has. `None` if it is missing, duplicate or invalid.
pub(crate) fn method<'a>(request: &Request<'a>) -> Option<&'a [u8]> {
    let Single::One(method) = request.single(":method") else {
        return None;
    };
    let valid = (1..=MAX).contains(&method.len()) && method.iter().all(|byte| is_upper_token(*byte));
    valid.then_some(method)
}

fn is_upper_token(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_upper_case_methods_are_valid() {
        for (methods, valid) in [
            (&["GET"][..], true),
            (&["M-SEARCH"], true),
            (&["BASELINE-CONTROL"], true),
            (&["post"], false),
            (&["Post"], false),
            (&["GE T"], false),
            (&["GET\u{e9}"], false),
            (&[""], false),
            (&[], false),
            (&["GET", "POST"], false),
        ] {
            let headers: Vec<_> = methods.iter().map(|m| (&b":method"[..], m.as_bytes())).collect();
            let request = Request {
                headers: &headers,
                source: None,
                end_of_stream: true,
            };
            assert_eq!(method(&request).is_some(), valid, "{methods:?}");
        }
    }
}

//! Accessors of requests.

use serde::de::DeserializeOwned;

use crate::{Denial, Error, Identity, Request, deny};

impl Request {
    /// The first value of a header. Use [`single_header`](Self::single_header) if a second value must not be ignored.
    /// `name` must be in lower case, like all header names in requests.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.header_values(name).next()
    }

    /// All values of a header, in order.
    pub fn header_values<'r>(&'r self, name: &str) -> impl Iterator<Item = &'r [u8]> {
        self.headers
            .iter()
            .filter(move |header| header.name == name)
            .map(|header| header.value.as_slice())
    }

    /// The value of a header that must not be repeated.
    ///
    /// # Errors
    /// A denial, 400 `header_repeated`, to return to the client: the policy could check one value while the upstream uses
    /// the other.
    pub fn single_header(&self, name: &str) -> Result<Option<&[u8]>, Denial> {
        let mut values = self.header_values(name);
        let first = values.next();
        match values.next() {
            None => Ok(first),
            Some(_) => Err(deny(
                400,
                "header_repeated",
                format!("The header {name} must not be repeated."),
            )),
        }
    }

    /// The segments of the path: `a` and `b` for `/a/b`. A trailing slash yields an empty last segment.
    pub fn path_segments(&self) -> impl Iterator<Item = &str> {
        let inner = self.path.strip_prefix('/').filter(|inner| !inner.is_empty());
        inner.into_iter().flat_map(|inner| inner.split('/'))
    }

    /// The caller's roles; empty without an authenticated caller.
    #[must_use]
    pub fn roles(&self) -> &[String] {
        self.identity.as_ref().map_or(&[], |identity| &identity.roles)
    }

    /// Whether the caller has a role. Names are case-sensitive.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.roles().iter().any(|held| held == role)
    }

    /// Parses the claims of the caller's token; `{}` if there is no token. Declare claims that a token may lack as optional:
    /// the gate responds to an error with 503, not with a denial.
    ///
    /// # Errors
    /// [`Error::Failed`] if the claims cannot be deserialised into `T`.
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T, Error> {
        match &self.identity {
            Some(identity) => identity.claims(),
            None => read_claims("{}"),
        }
    }
}

impl Identity {
    /// Parses the token's claims; see [`Request::claims`].
    ///
    /// # Errors
    /// [`Error::Failed`] if the claims cannot be deserialised into `T`.
    pub fn claims<T: DeserializeOwned>(&self) -> Result<T, Error> {
        read_claims(&self.claims)
    }
}

fn read_claims<T: DeserializeOwned>(claims: &str) -> Result<T, Error> {
    // serde's message may quote a claim.
    serde_json::from_str(claims).map_err(|error| {
        let kind = if error.is_data() {
            "do not have the form that the policy expects"
        } else {
            "are not JSON"
        };
        Error::Failed(format!("the token's claims {kind}"))
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use crate::testing::request;

    #[test]
    fn header_values_are_bytes_and_may_repeat() {
        let request = request()
            .header("x-a", "1")
            .header("x-b", [0xff, 0x00])
            .header("x-a", "2")
            .build();
        assert_eq!(request.header("x-a"), Some(&b"1"[..]));
        assert_eq!(request.header_values("x-a").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(request.single_header("x-b"), Ok(Some(&[0xff, 0x00][..])));
        assert_eq!(request.single_header("x-c"), Ok(None));
        assert_eq!(request.single_header("x-a").unwrap_err().code, "header_repeated");
    }

    #[test]
    fn path_segments() {
        for (path, segments) in [
            ("/", &[][..]),
            ("/a", &["a"]),
            ("/a/b%2F", &["a", "b%2F"]),
            ("/a/", &["a", ""]),
            ("*", &[]),
        ] {
            let request = request().path(path).build();
            assert_eq!(request.path_segments().collect::<Vec<_>>(), segments, "{path}");
        }
    }

    #[test]
    fn errors_about_claims_do_not_contain_values() {
        #[derive(Debug, Deserialize)]
        struct Claims {
            plan: Option<String>,
        }
        let with = |claims| request().claims(claims).build().claims::<Claims>();
        assert_eq!(with(json!({"plan": "pro"})).unwrap().plan.as_deref(), Some("pro"));
        assert_eq!(with(json!({})).unwrap().plan, None);
        assert!(request().build().claims::<Claims>().unwrap().plan.is_none());
        let error = with(json!({"plan": 5417})).unwrap_err().to_string();
        assert!(
            error.contains("do not have the form") && !error.contains("5417"),
            "{error}"
        );
    }

    #[test]
    fn a_request_without_caller_has_no_roles() {
        assert!(request().build().roles().is_empty());
        let operator = request().role("Operator").build();
        assert!(operator.has_role("Operator"));
        assert!(!operator.has_role("operator"));
    }
}

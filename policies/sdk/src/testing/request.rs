//! A builder of requests for tests.

use serde_json::Value;

use crate::{Header, Identity, Request};

/// Starts a request: `GET https://api.example.com/` without caller, headers or body, at time 0.
#[must_use]
pub fn request() -> RequestBuilder {
    RequestBuilder(Request {
        id: "request-1".into(),
        rule: "test".into(),
        method: "GET".into(),
        scheme: "https".into(),
        authority: "api.example.com".into(),
        path: "/".into(),
        query: None,
        headers: Vec::new(),
        body: None,
        source_address: Some("192.0.2.1".into()),
        identity: None,
        time: 0,
    })
}

/// Builds a request. The methods that describe the caller add an identity if there is none: subject `ann`, issuer
/// `issuers/test`, method `jwt`.
#[derive(Debug, Clone)]
pub struct RequestBuilder(Request);

impl RequestBuilder {
    /// Sets the HTTP method.
    #[must_use]
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.0.method = method.into();
        self
    }

    /// Sets the path, without the query.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.0.path = path.into();
        self
    }

    /// Sets the query, without the `?`.
    #[must_use]
    pub fn query(mut self, query: impl Into<String>) -> Self {
        self.0.query = Some(query.into());
        self
    }

    /// Sets the authority.
    #[must_use]
    pub fn authority(mut self, authority: impl Into<String>) -> Self {
        self.0.authority = authority.into();
        self
    }

    /// Appends a header; the name must be in lower case.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.0.headers.push(Header::new(name, value));
        self
    }

    /// Sets the body bytes.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.0.body = Some(body.into());
        self
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.body(body.to_string())
    }

    /// Sets the client's IP address.
    #[must_use]
    pub fn source_address(mut self, address: impl Into<String>) -> Self {
        self.0.source_address = Some(address.into());
        self
    }

    /// Sets the time, in milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn time(mut self, time: u64) -> Self {
        self.0.time = time;
        self
    }

    /// Sets the caller's subject.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.caller().subject = subject.into();
        self
    }

    /// Adds a role to the caller.
    #[must_use]
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.caller().roles.push(role.into());
        self
    }

    /// Sets the caller's tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.caller().tenant = Some(tenant.into());
        self
    }

    /// Sets the claims of the caller's token.
    #[must_use]
    pub fn claims(mut self, claims: Value) -> Self {
        self.caller().claims = claims.to_string();
        self
    }

    /// Replaces the caller's identity.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.0.identity = Some(identity);
        self
    }

    /// Returns the request.
    #[must_use]
    pub fn build(self) -> Request {
        self.0
    }

    fn caller(&mut self) -> &mut Identity {
        self.0.identity.get_or_insert_with(|| Identity {
            subject: "ann".into(),
            issuer: "issuers/test".into(),
            method: "jwt".into(),
            roles: Vec::new(),
            tenant: None,
            claims: "{}".into(),
        })
    }
}

//! Requests for tests.

use serde_json::Value;

use crate::{Header, Identity, Request};

/// A `GET /` that nobody sent, to begin with.
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

/// A request in the making. What says something of the caller gives it an identity.
#[derive(Debug, Clone)]
pub struct RequestBuilder(Request);

impl RequestBuilder {
    /// Sets the method.
    #[must_use]
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.0.method = method.into();
        self
    }

    /// Sets the path.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.0.path = path.into();
        self
    }

    /// Sets the query.
    #[must_use]
    pub fn query(mut self, query: impl Into<String>) -> Self {
        self.0.query = Some(query.into());
        self
    }

    /// Sets the host that is asked for.
    #[must_use]
    pub fn authority(mut self, authority: impl Into<String>) -> Self {
        self.0.authority = authority.into();
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.0.headers.push(Header::new(name, value));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.0.body = Some(body.into());
        self
    }

    /// Sets a body of JSON.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.body(body.to_string())
    }

    /// Sets the client's address.
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

    /// Says who is calling.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.caller().subject = subject.into();
        self
    }

    /// Gives the caller one more role.
    #[must_use]
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.caller().roles.push(role.into());
        self
    }

    /// Says to whom the caller belongs.
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

    /// Sets all of the caller.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.0.identity = Some(identity);
        self
    }

    /// The request.
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

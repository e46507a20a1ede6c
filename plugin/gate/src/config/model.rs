//! The types of `gate.yaml`. docs/configuration.md describes each field for the people who write them.

use std::time::Duration;

use deserr::Deserr;
use postern_config::{
    ByteSize, ConfigErrors, Digest, Entries, HeaderName, HumanDuration, Narrowing, SecretRef, Timestamp,
};
use serde_json::Value;

use super::Telling;

/// The whole file.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Config {
    /// Who signs the tokens that are accepted, by name.
    #[deserr(default)]
    pub issuers: Entries<Issuer>,
    /// Sets of API keys, by name.
    #[deserr(default)]
    pub api_keys: Entries<ApiKeys>,
    /// Ways of signing a request with a shared secret, by name.
    #[deserr(default)]
    pub signatures: Entries<Signature>,
    /// Rate limits, by name.
    #[deserr(default)]
    pub limits: Entries<Limit>,
    /// The rules; the first that matches a request decides.
    pub rules: Vec<Rule>,
    /// What happens to a request that no rule matches.
    #[deserr(default = Fallback::Deny)]
    pub default: Fallback,
    /// Who is asked by the rules with a policy.
    #[deserr(default)]
    pub host: Option<Host>,
    /// Tells the host's audit log of every decision.
    #[deserr(default)]
    pub audit: Option<Audit>,
    /// Which `x-postern-*` headers tell the upstream who is calling; all, unless given. What a client sends under
    /// these names is stripped whether they are set or not.
    #[deserr(default = IdentityHeader::ALL.to_vec())]
    pub identity_headers: Vec<IdentityHeader>,
}

/// What happens to a request that no rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum Fallback {
    /// It is refused with 403.
    Deny,
    /// It passes, with identity headers stripped.
    Allow,
}

/// The policy host, or any other server of Envoy's `envoy.service.auth.v3.Authorization`.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Host {
    /// The Envoy cluster through which it is reached.
    pub cluster: String,
    /// How long one answer may take.
    #[deserr(default = HumanDuration(Duration::from_millis(250)))]
    pub timeout: HumanDuration,
    /// What shows the host that its gate asks.
    #[deserr(default)]
    pub token: Option<SecretRef>,
}

/// How the host's audit log is told of decisions.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Audit {
    /// The longest that an event waits for others to be sent with.
    #[deserr(default = HumanDuration(Duration::from_millis(200)))]
    pub flush: HumanDuration,
    /// The most events of a worker that wait for the log; further ones are lost, and counted.
    #[deserr(default = 4096)]
    pub buffer: usize,
    /// The most events in one call.
    #[deserr(default = 256)]
    pub batch: usize,
}

/// A header that tells the upstream about the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum IdentityHeader {
    /// `x-postern-subject`: who.
    Subject,
    /// `x-postern-method`: proved how.
    Method,
    /// `x-postern-roles`: what the caller may do.
    Roles,
    /// `x-postern-tenant`: to whom the caller belongs.
    Tenant,
}

impl IdentityHeader {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Subject, Self::Method, Self::Roles, Self::Tenant];

    /// The header's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Subject => "x-postern-subject",
            Self::Method => "x-postern-method",
            Self::Roles => "x-postern-roles",
            Self::Tenant => "x-postern-tenant",
        }
    }
}

/// A signing algorithm of RFC 7518, section 3.1, or RFC 8037.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserr)]
#[deserr(error = ConfigErrors)]
#[allow(missing_docs, reason = "the registered names say it all")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    ES256,
    ES384,
    EdDSA,
    HS256,
}

impl Algorithm {
    /// The name in a token's `alg`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
            Self::HS256 => "HS256",
        }
    }
}

/// An issuer of JSON Web Tokens.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Issuer {
    /// The exact `iss` of its tokens.
    pub issuer: String,
    /// A token's `aud` must name one of these.
    pub audiences: Vec<String>,
    /// The algorithms accepted of this issuer; a token's `alg` only picks among them.
    pub algorithms: Vec<Algorithm>,
    /// Its public keys. Required unless the algorithm is HS256.
    #[deserr(default)]
    pub jwks: Option<Jwks>,
    /// The shared secret of HS256.
    #[deserr(default)]
    pub secret: Option<SecretRef>,
    /// How far this gateway's clock and the issuer's may be apart.
    #[deserr(default = HumanDuration(Duration::from_secs(30)))]
    pub leeway: HumanDuration,
    /// Whether a token without `exp` is accepted; such a token never ends.
    #[deserr(default = Expiry::Required)]
    pub expiry: Expiry,
    /// The claim that names the caller, as a path: `sub`, `user.id`.
    #[deserr(default = String::from("sub"))]
    pub subject_claim: String,
    /// The claim that holds the roles (a list, or one string separated by spaces), as a path.
    #[deserr(default = String::from("roles"))]
    pub roles_claim: String,
    /// The claim that names the tenant, as a path.
    #[deserr(default)]
    pub tenant_claim: Option<String>,
    /// The tenant of a token that names none.
    #[deserr(default)]
    pub default_tenant: Option<String>,
    /// Further claims for the upstream: header name to claim path.
    #[deserr(default)]
    pub headers: Entries<String>,
}

/// Whether tokens must carry `exp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum Expiry {
    /// A token without `exp` is refused.
    Required,
    /// A token without `exp` is accepted.
    Optional,
}

/// Where an issuer's keys come from: `inline`, or `uri` through an Envoy `cluster`.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Jwks {
    /// The key set itself (RFC 7517, section 5), as an object or as its JSON text.
    #[deserr(default)]
    pub inline: Option<Value>,
    /// Where the key set is served.
    #[deserr(default)]
    pub uri: Option<String>,
    /// The Envoy cluster through which `uri` is reached.
    #[deserr(default)]
    pub cluster: Option<String>,
    /// How often it is fetched anew.
    #[deserr(default = HumanDuration(Duration::from_secs(600)))]
    pub refresh: HumanDuration,
    /// The least time between two fetches that a failure or an unknown key causes.
    #[deserr(default = HumanDuration(Duration::from_secs(30)))]
    pub cooldown: HumanDuration,
    /// How long a key set is used when no newer one can be fetched.
    #[deserr(default = HumanDuration(Duration::from_secs(86_400)))]
    pub max_stale: HumanDuration,
    /// How long one fetch may take.
    #[deserr(default = HumanDuration(Duration::from_secs(5)))]
    pub timeout: HumanDuration,
}

/// API keys in one header.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct ApiKeys {
    /// The header that carries the key.
    #[deserr(default = HeaderName(String::from("x-api-key")))]
    pub header: HeaderName,
    /// The keys.
    pub keys: Vec<ApiKey>,
}

/// One API key, known by its digest only.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct ApiKey {
    /// Who holds it; becomes the subject.
    pub id: String,
    /// The key's SHA-256.
    pub digest: Digest,
    /// What its holder may do.
    #[deserr(default)]
    pub roles: Vec<String>,
    /// The holder's tenant.
    #[deserr(default)]
    pub tenant: Option<String>,
    /// From this instant on it is refused.
    #[deserr(default)]
    pub not_after: Option<Timestamp>,
}

/// How requests are signed with a shared secret.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, tag = "scheme", rename_all = lowercase, deny_unknown_fields)]
pub enum Signature {
    /// GitHub's webhooks: `X-Hub-Signature-256` over the raw body.
    Github {
        /// Any of these may have signed: two during a rotation.
        secrets: Vec<SecretRef>,
        /// The largest body accepted.
        #[deserr(default = ByteSize(1 << 20))]
        max_body: ByteSize,
        /// What a signed request may do.
        #[deserr(default)]
        roles: Vec<String>,
    },
    /// A key id, timestamp and nonce, over method, path, query and body digest.
    Keyed {
        /// What the four headers begin with: `x-postern-auth-` gives `x-postern-auth-key-id` and so on.
        header_prefix: HeaderName,
        /// Who may sign.
        keys: Vec<SigningKey>,
        /// How far the timestamp may be from this gateway's clock.
        #[deserr(default = HumanDuration(Duration::from_secs(300)))]
        max_skew: HumanDuration,
        /// Whether the same nonce is accepted twice.
        #[deserr(default = Replay::Deny)]
        replay: Replay,
        /// How many nonces of one key are kept at the most; past that, its requests are refused until some are too old
        /// to come again.
        #[deserr(default = 131_072)]
        nonces: u32,
        /// The largest body accepted.
        #[deserr(default = ByteSize(1 << 20))]
        max_body: ByteSize,
    },
}

/// Whether a nonce may come twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum Replay {
    /// The second is refused.
    Deny,
    /// Both pass.
    Allow,
}

/// A key of the `keyed` scheme.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct SigningKey {
    /// The id in the request; becomes the subject.
    pub id: String,
    /// Any of these may have signed: two during a rotation.
    pub secrets: Vec<SecretRef>,
    /// What its holder may do.
    #[deserr(default)]
    pub roles: Vec<String>,
    /// The holder's tenant.
    #[deserr(default)]
    pub tenant: Option<String>,
}

/// A rate limit: at most `burst + t * quota / window` requests in any interval `t`.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Limit {
    /// Requests per window.
    pub quota: u32,
    /// The window.
    pub window: HumanDuration,
    /// Requests that may come at once; the quota unless given.
    #[deserr(default)]
    pub burst: Option<u32>,
    /// What is counted apart: `subject`, `api_key`, `address`, `header:<name>`, or several together.
    pub key: Vec<String>,
    /// How many keys are counted at once; past that, the key nearest to having its whole quota back starts anew.
    #[deserr(default = 131_072)]
    pub keys: u32,
    /// Where the count is kept.
    #[deserr(default = Scope::Gateway)]
    pub scope: Scope,
}

/// Where a limit is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum Scope {
    /// Across all workers of one Envoy.
    Gateway,
}

/// A rule.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Rule {
    /// Its name in metrics, logs and the audit record: letters, digits, `-`, `_`.
    pub name: String,
    /// Which requests it is for; all, unless given.
    #[deserr(rename = "match", default)]
    pub matches: Option<Match>,
    /// Who may pass.
    #[deserr(default)]
    pub authenticate: Option<Authenticate>,
    /// Lets anyone pass; said outright, so that no rule is open by omission.
    #[deserr(default)]
    pub open: bool,
    /// What the caller must be.
    #[deserr(default)]
    pub authorize: Option<Authorize>,
    /// The limits that count the request, by name.
    #[deserr(default)]
    pub limits: Vec<String>,
    /// The policy that is asked last, once everything else has passed.
    #[deserr(default)]
    pub policy: Option<Policy>,
    /// Whether the audit log is told of its requests; `on`, unless given, where there is an `audit` section.
    #[deserr(default)]
    pub audit: Option<Telling>,
}

/// A policy that a rule asks.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Policy {
    /// The module's name in the host's settings.
    pub module: String,
    /// Shows it the body, which may be no larger; it sees none, unless given.
    #[deserr(default)]
    pub body: Option<ByteSize>,
    /// What happens where the host cannot be reached in time. A policy that fails always refuses.
    #[deserr(default = OnError::Deny)]
    pub on_error: OnError,
    /// Whether an answer may be used again for as long as the module grants.
    #[deserr(default = true)]
    pub cache: bool,
}

/// What happens to a request where the policy host cannot be reached in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum OnError {
    /// It is refused with 503.
    Deny,
    /// It passes as if the policy had allowed it.
    Allow,
}

/// Which requests a rule is for. Every field that is given must match.
#[derive(Debug, Clone, Default, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Match {
    /// Methods; any, unless given.
    #[deserr(default)]
    pub methods: Narrowing,
    /// Host names without port, `*.example.com` for all below a domain; any, unless given.
    #[deserr(default)]
    pub hosts: Narrowing,
    /// The path; any, unless given.
    #[deserr(default)]
    pub path: Option<PathMatch>,
}

/// A path: exactly one of the fields.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct PathMatch {
    /// This path alone.
    #[deserr(default)]
    pub exact: Option<String>,
    /// This path and all below it: `/orders` matches `/orders/7`, not `/orders-old`.
    #[deserr(default)]
    pub prefix: Option<String>,
    /// A path with placeholders for whole segments: `/kernel/audit/{id}`.
    #[deserr(default)]
    pub template: Option<String>,
}

/// Who may pass: the first of the list whose credential the request carries decides.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Authenticate {
    /// `issuers/<name>`, `api_keys/<name>`, `signatures/<name>`.
    pub any: Vec<String>,
}

/// What the caller must be. Every field that is given must hold.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Authorize {
    /// The caller has at least one of these roles.
    #[deserr(default)]
    pub roles: Narrowing,
    /// Each of these claims, by path, equals the text or holds it.
    #[deserr(default)]
    pub claims: Entries<String>,
}

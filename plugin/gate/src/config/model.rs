//! The schema of `gate.yaml`. docs/configuration.md is the reference for its authors.

use std::time::Duration;

use deserr::Deserr;
use postern_config::{
    ByteSize, ConfigErrors, Digest, Entries, HeaderName, HumanDuration, NonEmptyList, SecretRef, Timestamp,
};
use serde_json::Value;

use super::AuditMode;

/// The whole file.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Config {
    /// The issuers of accepted tokens, by name.
    #[deserr(default)]
    pub issuers: Entries<Issuer>,
    /// Sets of API keys, by name.
    #[deserr(default)]
    pub api_keys: Entries<ApiKeys>,
    /// Schemes for requests signed with a shared secret, by name.
    #[deserr(default)]
    pub signatures: Entries<Signature>,
    /// Rate limits, by name.
    #[deserr(default)]
    pub limits: Entries<Limit>,
    /// The rules, in order: the first that matches a request applies to it.
    pub rules: Vec<Rule>,
    /// The decision on a request that no rule matches.
    #[deserr(default = Fallback::Deny)]
    pub default: Fallback,
    /// The policy host. Required by rules with a policy and by `audit`.
    #[deserr(default)]
    pub host: Option<Host>,
    /// Records every decision in the host's audit log; `None` if decisions are not recorded.
    #[deserr(default)]
    pub audit: Option<Audit>,
    /// The `x-postern-*` headers that are set on the request to the upstream; all by default. Client-sent headers of
    /// these names are stripped whether they are set or not.
    #[deserr(default = IdentityHeader::ALL.to_vec())]
    pub identity_headers: Vec<IdentityHeader>,
}

/// The decision on a request that no rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum Fallback {
    /// Refuse it with 403.
    Deny,
    /// Admit it, with identity headers stripped.
    Allow,
}

/// The policy host, or any other server of Envoy's `envoy.service.auth.v3.Authorization`.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Host {
    /// The name of its Envoy cluster.
    pub cluster: String,
    /// The longest time that one call may take.
    #[deserr(default = HumanDuration(Duration::from_millis(250)))]
    pub timeout: HumanDuration,
    /// The token that authenticates the gate to the host.
    #[deserr(default)]
    pub token: Option<SecretRef>,
}

/// How decisions are sent to the host's audit log.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Audit {
    /// The longest time that an event waits to be sent in a batch with others.
    #[deserr(default = HumanDuration(Duration::from_millis(200)))]
    pub flush: HumanDuration,
    /// The most events that one worker queues; further ones are lost, and their number is recorded.
    #[deserr(default = 4096)]
    pub buffer: usize,
    /// The most events in one batch.
    #[deserr(default = 256)]
    pub batch: usize,
}

/// A header that identifies the caller to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum IdentityHeader {
    /// `x-postern-subject`: the caller's subject.
    Subject,
    /// `x-postern-method`: the kind of credential.
    Method,
    /// `x-postern-roles`: the caller's roles, separated by commas.
    Roles,
    /// `x-postern-tenant`: the caller's tenant.
    Tenant,
}

impl IdentityHeader {
    /// All identity headers.
    pub const ALL: [Self; 4] = [Self::Subject, Self::Method, Self::Roles, Self::Tenant];

    /// The header name, in lower case.
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
#[allow(missing_docs, reason = "the registered names are self-explanatory")]
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
    /// The registered name, as in a token's `alg`.
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
    /// The accepted audiences: a token's `aud` must name at least one.
    pub audiences: Vec<String>,
    /// The accepted algorithms; a token's `alg` only selects among them.
    pub algorithms: Vec<Algorithm>,
    /// The issuer's public keys. Required unless the algorithm is HS256.
    #[deserr(default)]
    pub jwks: Option<Jwks>,
    /// The shared secret for HS256.
    #[deserr(default)]
    pub secret: Option<SecretRef>,
    /// The allowed difference between the issuer's clock and this gateway's.
    #[deserr(default = HumanDuration(Duration::from_secs(30)))]
    pub leeway: HumanDuration,
    /// Whether a token must have `exp`; one without it never expires.
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
    /// The tenant of a token without one.
    #[deserr(default)]
    pub default_tenant: Option<String>,
    /// Further claims that are sent to the upstream: header name to claim path.
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

/// The source of an issuer's keys: either `inline`, or `uri` with `cluster`.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Jwks {
    /// The key set (RFC 7517, section 5), as an object or as JSON text.
    #[deserr(default)]
    pub inline: Option<Value>,
    /// The URI of the key set.
    #[deserr(default)]
    pub uri: Option<String>,
    /// The Envoy cluster for that server.
    #[deserr(default)]
    pub cluster: Option<String>,
    /// The time between two regular fetches.
    #[deserr(default = HumanDuration(Duration::from_secs(600)))]
    pub refresh: HumanDuration,
    /// Bounds the fetches that unknown keys cause: ten at once, then one per `cooldown`. Also the longest time
    /// between retries after failures.
    #[deserr(default = HumanDuration(Duration::from_secs(30)))]
    pub cooldown: HumanDuration,
    /// How long a key set is used if no newer one can be fetched.
    #[deserr(default = HumanDuration(Duration::from_secs(86_400)))]
    pub max_stale: HumanDuration,
    /// The longest time that one fetch may take, and that a request waits for it.
    #[deserr(default = HumanDuration(Duration::from_secs(5)))]
    pub timeout: HumanDuration,
}

/// A set of API keys, sent in one header.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct ApiKeys {
    /// The request header that carries the key.
    #[deserr(default = HeaderName(String::from("x-api-key")))]
    pub header: HeaderName,
    /// The accepted keys.
    pub keys: Vec<ApiKey>,
}

/// An API key, stored as its digest.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct ApiKey {
    /// The key's holder; becomes the subject.
    pub id: String,
    /// The key's SHA-256.
    pub digest: Digest,
    /// The holder's roles.
    #[deserr(default)]
    pub roles: Vec<String>,
    /// The holder's tenant.
    #[deserr(default)]
    pub tenant: Option<String>,
    /// The time from which on the key is refused.
    #[deserr(default)]
    pub not_after: Option<Timestamp>,
}

/// A scheme for requests signed with a shared secret.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, tag = "scheme", rename_all = lowercase, deny_unknown_fields)]
pub enum Signature {
    /// GitHub webhooks: `X-Hub-Signature-256` over the raw body.
    Github {
        /// The accepted secrets: two during a rotation.
        secrets: Vec<SecretRef>,
        /// The largest body accepted.
        #[deserr(default = ByteSize(1 << 20))]
        max_body: ByteSize,
        /// The roles of the caller.
        #[deserr(default)]
        roles: Vec<String>,
    },
    /// A signature over the method, path, query, timestamp, nonce and body digest, with a key id.
    Keyed {
        /// The prefix of the four headers: `x-postern-auth-` gives `x-postern-auth-key-id` and so on.
        header_prefix: HeaderName,
        /// The accepted keys.
        keys: Vec<SigningKey>,
        /// The allowed difference between the timestamp and this gateway's clock.
        #[deserr(default = HumanDuration(Duration::from_secs(300)))]
        max_skew: HumanDuration,
        /// Whether a nonce is accepted a second time.
        #[deserr(default = Replay::Deny)]
        replay: Replay,
        /// The most nonces that are stored for one key. Beyond that, the key's requests are refused until stored
        /// nonces are too old to be replayed.
        #[deserr(default = 131_072)]
        nonces: u32,
        /// The largest body accepted.
        #[deserr(default = ByteSize(1 << 20))]
        max_body: ByteSize,
    },
}

/// Whether a nonce is accepted a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum Replay {
    /// The second request is refused.
    Deny,
    /// Nonces are not stored, and replays are accepted.
    Allow,
}

/// A key of the `keyed` scheme.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct SigningKey {
    /// The id in the request; becomes the subject.
    pub id: String,
    /// The accepted secrets: two during a rotation.
    pub secrets: Vec<SecretRef>,
    /// The holder's roles.
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
    /// The length of the window.
    pub window: HumanDuration,
    /// Requests that are admitted at once; the quota by default.
    #[deserr(default)]
    pub burst: Option<u32>,
    /// The parts of the key: `subject`, `api_key`, `address`, `header:<name>`. Requests that differ in one of them
    /// are counted separately.
    pub key: Vec<String>,
    /// The most keys that are counted at once. Beyond that, the key closest to its full quota is evicted, and starts
    /// again with a full quota.
    #[deserr(default = 131_072)]
    pub keys: u32,
    /// Where requests are counted.
    #[deserr(default = Scope::Gateway)]
    pub scope: Scope,
}

/// Where requests are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum Scope {
    /// Across all workers of one Envoy.
    Gateway,
}

/// A rule: which requests it applies to, and what it requires of them.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Rule {
    /// The name in metrics, logs and the audit log: letters, digits, `-`, `_`.
    pub name: String,
    /// The requests that the rule applies to; all by default.
    #[deserr(rename = "match", default)]
    pub matches: Option<Match>,
    /// The accepted credentials.
    #[deserr(default)]
    pub authenticate: Option<Authenticate>,
    /// Admits requests without credentials. Explicit, so that no rule is open by omission.
    #[deserr(default)]
    pub open: bool,
    /// The required roles and claims.
    #[deserr(default)]
    pub authorize: Option<Authorize>,
    /// The names of the limits that count the request.
    #[deserr(default)]
    pub limits: Vec<String>,
    /// The policy, which is consulted once every other check has passed.
    #[deserr(default)]
    pub policy: Option<Policy>,
    /// Whether the rule's requests are recorded in the audit log; `on` by default if there is an `audit` section.
    #[deserr(default)]
    pub audit: Option<AuditMode>,
}

/// A rule's policy.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Policy {
    /// The name of the module in the host's settings.
    pub module: String,
    /// The largest body that is accepted and sent to the policy; without it, the policy is sent no body.
    #[deserr(default)]
    pub body: Option<ByteSize>,
    /// The decision if the host cannot be reached in time. If the policy itself fails, the request is always refused.
    #[deserr(default = OnError::Deny)]
    pub on_error: OnError,
    /// Whether decisions are cached, for as long as the module allows.
    #[deserr(default = true)]
    pub cache: bool,
}

/// The decision if the policy host cannot be reached in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum OnError {
    /// Refuse the request with 503.
    Deny,
    /// Admit the request as if the policy had allowed it.
    Allow,
}

/// The requests that a rule applies to. Every field that is given must match.
#[derive(Debug, Clone, Default, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Match {
    /// Methods, in upper case; any by default.
    #[deserr(default)]
    pub methods: NonEmptyList,
    /// HTTP host names without port, or `*.example.com` for everything below a domain; any by default.
    #[deserr(default)]
    pub hosts: NonEmptyList,
    /// The path; any by default.
    #[deserr(default)]
    pub path: Option<PathMatch>,
}

/// A path pattern: exactly one of the fields.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct PathMatch {
    /// A path that must match exactly.
    #[deserr(default)]
    pub exact: Option<String>,
    /// A path prefix of whole segments: `/orders` matches `/orders` and `/orders/7`, not `/orders-old`.
    #[deserr(default)]
    pub prefix: Option<String>,
    /// A path with placeholders for whole segments, such as `/kernel/audit/{id}`.
    #[deserr(default)]
    pub template: Option<String>,
}

/// The accepted credentials: the first in the list that the request carries decides.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Authenticate {
    /// References of the form `issuers/<name>`, `api_keys/<name>` or `signatures/<name>`.
    pub any: Vec<String>,
}

/// The required roles and claims. Every field that is given must be satisfied.
#[derive(Debug, Clone, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct Authorize {
    /// Roles of which the caller must have at least one.
    #[deserr(default)]
    pub roles: NonEmptyList,
    /// Claims by path, each of which must equal the text, or contain it as an item or a word.
    #[deserr(default)]
    pub claims: Entries<String>,
}

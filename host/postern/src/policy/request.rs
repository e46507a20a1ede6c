//! The request to evaluate: from flags, or from a document in the form of a case's request.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use ct_codecs::{Base64, Encoder as _};
use postern_policy::cases::Cases;
use serde_json::{Map, Value, json};

use crate::document;
use crate::input;
use crate::target::{self, Target};
use crate::time;
use crate::try_request::header;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Request")]
pub(super) struct RequestArgs {
    /// A request in YAML or JSON, as in a case; `-` reads standard input. The flags below override it
    #[arg(long, value_name = "FILE")]
    request: Option<String>,
    /// The method; GET, or POST with a body
    #[arg(short = 'X', long, value_parser = target::method)]
    method: Option<String>,
    /// Path and query, or a whole URL
    #[arg(long, value_name = "PATH", value_parser = Target::parse)]
    path: Option<Target>,
    /// A header; repeatable, also with the same name
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The body: the text itself, @FILE, or @- for standard input
    #[arg(short = 'd', long, value_name = "TEXT|@FILE", visible_alias = "data")]
    body: Option<String>,
    /// The client's address
    #[arg(long, value_name = "IP")]
    source: Option<std::net::IpAddr>,
    /// The rule of the gate that consults the policy
    #[arg(long)]
    rule: Option<String>,
    /// The time of the request, such as 2027-01-01T00:00:00Z; now by default
    #[arg(long, value_parser = time::timestamp)]
    time: Option<Duration>,
    #[command(flatten)]
    caller: CallerArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Caller")]
struct CallerArgs {
    /// The caller's subject
    #[arg(long)]
    subject: Option<String>,
    /// The entry of the gate's configuration that authenticated the caller, such as issuers/demo
    #[arg(long)]
    issuer: Option<String>,
    /// A role of the caller; repeatable
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// The caller's tenant
    #[arg(long)]
    tenant: Option<String>,
    /// The token's claims, a JSON object
    #[arg(long, value_name = "JSON", value_parser = object)]
    claims: Option<Value>,
}

fn object(text: &str) -> Result<Value, String> {
    serde_json::from_str::<Map<String, Value>>(text)
        .map(Value::Object)
        .map_err(|_| "write a JSON object, such as {\"plan\": \"gold\"}".to_owned())
}

impl RequestArgs {
    /// Whether any flag is given.
    pub(super) fn is_given(&self) -> bool {
        let Self {
            request,
            method,
            path,
            headers,
            body,
            source,
            rule,
            time,
            caller,
        } = self;
        request.is_some()
            || method.is_some()
            || path.is_some()
            || !headers.is_empty()
            || body.is_some()
            || source.is_some()
            || rule.is_some()
            || time.is_some()
            || caller.is_given()
    }

    /// The request as the only case of a file of cases, the form that the engine reads.
    pub(super) fn case(&self) -> Result<Cases> {
        let from_stdin = self.request.as_deref() == Some("-");
        ensure!(
            !(from_stdin && self.body.as_deref() == Some("@-")),
            "standard input can be the request or its body, not both"
        );
        let mut request = match &self.request {
            Some(file) => read(file)?,
            None => Map::new(),
        };
        self.apply_to(&mut request)?;
        case(request).context("the request")
    }

    fn apply_to(&self, request: &mut Map<String, Value>) -> Result<()> {
        if self.body.is_some() && self.method.is_none() && !request.contains_key("method") {
            request.insert("method".into(), "POST".into());
        }
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                request.insert(name.to_owned(), value);
            }
        };
        set("method", self.method.as_deref().map(Value::from));
        set("rule", self.rule.as_deref().map(Value::from));
        set("source_address", self.source.map(|ip| ip.to_string().into()));
        let rfc3339 = |since| humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string();
        set("time", self.time.map(|since| rfc3339(since).into()));
        if let Some(target) = &self.path {
            let (path, query) = match target.path.split_once('?') {
                Some((path, query)) => (path, Some(query)),
                None => (target.path.as_str(), None),
            };
            set("path", Some(path.into()));
            set("query", query.map(Value::from));
            set("authority", target.authority.as_deref().map(Value::from));
        }
        if let Some(body) = &self.body {
            let base64 = Base64::encode_to_string(input::body(body)?)?;
            set("body", Some(json!({ "base64": base64 })));
        }
        if !self.headers.is_empty() {
            headers(entry(request, "headers")?, header::parse(&self.headers)?);
        }
        if self.caller.is_given() {
            self.caller.apply_to(entry(request, "identity")?);
        }
        Ok(())
    }
}

impl CallerArgs {
    fn is_given(&self) -> bool {
        let Self {
            subject,
            issuer,
            roles,
            tenant,
            claims,
        } = self;
        subject.is_some() || issuer.is_some() || !roles.is_empty() || tenant.is_some() || claims.is_some()
    }

    fn apply_to(&self, identity: &mut Map<String, Value>) {
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                identity.insert(name.to_owned(), value);
            }
        };
        set("subject", self.subject.as_deref().map(Value::from));
        set("issuer", self.issuer.as_deref().map(Value::from));
        set("roles", (!self.roles.is_empty()).then(|| json!(self.roles)));
        set("tenant", self.tenant.as_deref().map(Value::from));
        set("claims", self.claims.clone());
        // Roles alone are enough to try a policy; a subject is required.
        identity.entry("subject").or_insert_with(|| "somebody".into());
    }
}

/// Replaces the headers of the same names; duplicates among the new ones are kept.
fn headers(request: &mut Map<String, Value>, headers: Vec<(String, String)>) {
    let mut replaced: Map<String, Value> = Map::new();
    for (name, value) in headers {
        let values = replaced.entry(name).or_insert_with(|| json!([]));
        if let Value::Array(values) = values {
            values.push(value.into());
        }
    }
    request.extend(replaced);
}

fn entry<'r>(request: &'r mut Map<String, Value>, name: &str) -> Result<&'r mut Map<String, Value>> {
    let value = request.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = json!({});
    }
    match value {
        Value::Object(map) => Ok(map),
        _ => bail!("the request's `{name}` is not an object"),
    }
}

fn read(file: &str) -> Result<Map<String, Value>> {
    let name = input::display_name(file);
    match document::parse(&input::text(file)?) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => bail!("{name}: write a request as an object: {{\"method\": \"GET\", \"path\": \"/\"}}"),
        Err(problem) => bail!("{}", problem.in_file(name)),
    }
}

/// A typical request of a browser or a service: fifteen headers and a caller.
pub(super) fn typical() -> Result<Cases> {
    let headers = [
        ("accept", "application/json"),
        ("accept-encoding", "gzip, br"),
        ("accept-language", "en-GB,en;q=0.8"),
        ("cache-control", "no-cache"),
        ("content-type", "application/json"),
        ("forwarded", "for=192.0.2.7;proto=https"),
        ("idempotency-key", "0d5c1f0e-1c7b-4d0b-9a0c-3c2b7c1d9e11"),
        ("origin", "https://app.example.com"),
        ("referer", "https://app.example.com/orders"),
        ("sec-fetch-mode", "cors"),
        ("sec-fetch-site", "same-site"),
        (
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-request-id", "7f3d1c9e-5b1a-4d57-8a3e-0b7c2f9d6e21"),
    ];
    let headers: Map<String, Value> = headers
        .map(|(name, value)| (name.to_owned(), value.into()))
        .into_iter()
        .collect();
    let request = json!({
        "method": "POST", "path": "/orders/7", "query": "expand=items", "headers": headers,
        "source_address": "192.0.2.7",
        "identity": {
            "subject": "ann", "roles": ["Operator", "Auditor"], "tenant": "acme",
            "claims": {"iss": "https://idp.example.com", "sub": "ann", "aud": ["orders"], "plan": "gold"},
        },
    });
    match request {
        Value::Object(request) => case(request),
        _ => bail!("not an object"),
    }
}

fn case(request: Map<String, Value>) -> Result<Cases> {
    let file = json!({"cases": [{"name": "the request", "request": request, "expect": {"allow": {}}}]});
    Ok(serde_json::from_value(file)?)
}

/// The configuration of an entry: JSON text, or a file of YAML or JSON.
pub(super) fn config(argument: Option<&str>) -> Result<Value> {
    let Some(argument) = argument else {
        return Ok(json!({}));
    };
    let (text, name) = if argument.trim_start().starts_with(['{', '[']) {
        (argument.to_owned(), "--config")
    } else {
        (input::text(argument)?, input::display_name(argument))
    };
    document::parse(&text).map_err(|problem| anyhow::anyhow!("{}", problem.in_file(name)))
}

#[cfg(test)]
mod tests;

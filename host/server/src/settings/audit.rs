//! The `audit` section: the store of the log, and its checkpoints.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use deserr::{DeserializeError as _, Deserr, ErrorKind, IntoValue, Value, ValuePointerRef};
use postern_audit::{Checkpoint, CheckpointSettings, Settings, Store, check_postgres_url};
use postern_config::{ConfigErrors, HumanDuration, SecretRef};
use postern_serve::Variables;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

/// The events of one request must fit.
const MIN_BUFFER: usize = crate::gates::MAX_EVENTS;
/// The maximum number of events that wait to be written.
const MAX_BUFFER: usize = 10_000_000;
/// The maximum number of events that are written at once.
const MAX_BATCH: usize = 10_000;

/// The schema of `audit`.
#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub(super) struct Section {
    #[deserr(default)]
    store: Option<StoreSection>,
    #[deserr(default)]
    name: Option<String>,
    #[deserr(default = "postern/audit".to_owned())]
    origin: String,
    #[deserr(default)]
    checkpoints: CheckpointsSection,
    #[deserr(default = 65_536)]
    buffer: usize,
    #[deserr(default = 512)]
    batch: usize,
    #[deserr(default = HumanDuration(Duration::from_secs(2)))]
    deadline: HumanDuration,
}

#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
struct CheckpointsSection {
    #[deserr(default = 1000)]
    every: u64,
    #[deserr(default = HumanDuration(Duration::from_secs(60)))]
    after: HumanDuration,
    #[deserr(default)]
    file: Option<String>,
    #[deserr(default)]
    url: Option<String>,
}

impl Default for CheckpointsSection {
    fn default() -> Self {
        Self {
            every: 1000,
            after: HumanDuration(Duration::from_secs(60)),
            file: None,
            url: None,
        }
    }
}

#[derive(Debug)]
enum StoreSection {
    Sqlite(String),
    Postgres(SecretRef),
}

#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
struct Postgres {
    postgres: SecretRef,
}

impl Deserr<ConfigErrors> for StoreSection {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, ConfigErrors> {
        match value {
            Value::String(text) if text.starts_with("sqlite:") => Ok(Self::Sqlite(text)),
            map @ Value::Map(_) => {
                Postgres::deserialize_from_value(map, location).map(|found| Self::Postgres(found.postgres))
            }
            // The value is not printed: it may be a URL with a password.
            _ => {
                let msg = "write sqlite:audit.db, or {postgres: {env: AUDIT_STORE_URL}} with the URL in that variable"
                    .to_owned();
                let error: ErrorKind<'_, V> = ErrorKind::Unexpected { msg };
                let (ControlFlow::Continue(errors) | ControlFlow::Break(errors)) =
                    ConfigErrors::error(None, error, location);
                Err(errors)
            }
        }
    }
}

/// Audit settings.
#[derive(Debug, Clone)]
pub struct Audit {
    /// The settings to open the log with.
    pub log: Settings,
    /// The URL that checkpoints are posted to.
    pub url: Option<Url>,
}

pub(super) fn audit(
    section: &Section,
    directory: &Path,
    variables: &Variables<'_>,
    errors: &mut ConfigErrors,
) -> Option<Audit> {
    let store = match &section.store {
        Some(StoreSection::Sqlite(text)) => sqlite(text, directory, errors),
        Some(StoreSection::Postgres(named)) => variables
            .named_secret("audit.store.postgres", named, errors)
            .and_then(|url| store_from_url("audit.store.postgres", &url, directory, errors)),
        None => match variables.secret("AUDIT_STORE_URL") {
            Some(url) => store_from_url("", &url, directory, errors),
            None => sqlite("sqlite:/var/lib/postern/audit.db", directory, errors),
        },
    };
    if !Checkpoint::is_origin(&section.origin) {
        errors.add(
            "audit.origin",
            "must be one line that names the log, such as postern.example.com/audit",
        );
    }
    for (at, value, least, most) in [
        ("audit.buffer", section.buffer, MIN_BUFFER, MAX_BUFFER),
        ("audit.batch", section.batch, 1, MAX_BATCH),
    ] {
        if !(least..=most).contains(&value) {
            errors.add(at, format!("must be from {least} to {most}"));
        }
    }
    if section.checkpoints.every == 0 {
        errors.add("audit.checkpoints.every", "must be at least 1");
    }
    for (at, span) in [
        ("audit.checkpoints.after", section.checkpoints.after),
        ("audit.deadline", section.deadline),
    ] {
        if !(Duration::from_millis(10)..=Duration::from_secs(86_400)).contains(&span.0) {
            errors.add(at, "must be from 10ms to 24h");
        }
    }
    let url = section
        .checkpoints
        .url
        .as_ref()
        .and_then(|text| match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.password().is_none() => Some(url),
            _ => {
                errors.add(
                    "audit.checkpoints.url",
                    "must be an http or https URL without a password",
                );
                None
            }
        });
    let name = section.name.clone().unwrap_or_else(hostname);
    let mut log = Settings::new(store?, name, section.origin.clone());
    log.checkpoints = CheckpointSettings {
        every_events: section.checkpoints.every,
        every: section.checkpoints.after.0,
        file: section.checkpoints.file.as_ref().map(|file| directory.join(file)),
        ..CheckpointSettings::default()
    };
    (log.buffer, log.batch, log.deadline) = (section.buffer, section.batch, section.deadline.0);
    Some(Audit { log, url })
}

fn sqlite(text: &str, directory: &Path, errors: &mut ConfigErrors) -> Option<Store> {
    let path = text.strip_prefix("sqlite:").unwrap_or(text);
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.contains('?') || path == ":memory:" {
        errors.add("audit.store", "does not name a file: write sqlite:audit.db");
        return None;
    }
    Some(Store::Sqlite(directory.join(path)))
}

/// The URL is not printed: it is a secret.
fn store_from_url(
    at: &str,
    url: &SecretString,
    directory: &Path,
    errors: &mut ConfigErrors,
) -> Option<Store> {
    let url = url.expose_secret();
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return match check_postgres_url(url) {
            Ok(()) => Some(Store::Postgres(SecretString::from(url))),
            Err(error) => {
                errors.add(at, error.to_string());
                None
            }
        };
    }
    if url.starts_with("sqlite:") && at.is_empty() {
        return sqlite(url, directory, errors);
    }
    errors.add(
        at,
        "the variable for the audit store does not hold a Postgres URL (postgres://…)",
    );
    None
}

/// The host name of this machine, for events.
fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "postern".to_owned(),
        name => name.to_owned(),
    }
}

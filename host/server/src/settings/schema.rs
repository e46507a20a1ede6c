//! The schema of `host.yaml`, with its defaults.

use std::ops::ControlFlow;
use std::time::Duration;

use super::{audit, gate, signing};
use deserr::{DeserializeError, Deserr, ErrorKind, IntoValue, Value, ValuePointerRef};
use postern_config::{ByteSize, ConfigErrors, Entries, HumanDuration, SecretRef};
use postern_serve::log::LogSettings;

#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub(super) struct File {
    pub(super) listen: Vec<String>,
    #[deserr(default)]
    pub(super) admin: Option<Admin>,
    #[deserr(default = 1024)]
    pub(super) connections: usize,
    #[deserr(default)]
    pub(super) gate: gate::Section,
    #[deserr(default = Policies::none())]
    pub(super) policies: Policies,
    #[deserr(default)]
    pub(super) signing: Option<signing::Section>,
    #[deserr(default)]
    pub(super) audit: Option<audit::Section>,
    #[deserr(default)]
    pub(super) log: LogSettings,
}

#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) listen: String,
    #[deserr(default)]
    pub(super) token: Option<SecretRef>,
}

#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub(super) struct Policies {
    #[deserr(default)]
    pub(super) manifest: Option<String>,
    #[deserr(default)]
    pub(super) state: Option<String>,
    #[deserr(default)]
    pub(super) signers: Entries<String>,
    #[deserr(default)]
    pub(super) default: Option<String>,
    #[deserr(default)]
    pub(super) cache: Option<String>,
    #[deserr(default)]
    pub(super) concurrency: Option<usize>,
    #[deserr(default = true)]
    pub(super) watch: bool,
    #[deserr(default)]
    pub(super) tamper: Tamper,
    #[deserr(default = KeyValue::Memory)]
    pub(super) keyvalue: KeyValue,
    #[deserr(default)]
    pub(super) entries: Entries<Entry>,
}

impl Policies {
    /// A host may sign and write the audit log without any policies.
    fn none() -> Self {
        Self {
            manifest: None,
            state: None,
            signers: Entries::default(),
            default: None,
            cache: None,
            concurrency: None,
            watch: true,
            tamper: Tamper::default(),
            keyvalue: KeyValue::Memory,
            entries: Entries::default(),
        }
    }
}

#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub(super) struct Tamper {
    #[deserr(default = false)]
    pub(super) check: bool,
    #[deserr(default = false)]
    pub(super) strict: bool,
    #[deserr(default = Self::EVERY)]
    pub(super) interval: HumanDuration,
}

impl Tamper {
    const EVERY: HumanDuration = HumanDuration(Duration::from_secs(60));
}

impl Default for Tamper {
    fn default() -> Self {
        Self {
            check: false,
            strict: false,
            interval: Self::EVERY,
        }
    }
}

#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub(super) struct Entry {
    #[deserr(default)]
    pub(super) module: Option<String>,
    #[deserr(default)]
    pub(super) file: Option<String>,
    #[deserr(default)]
    pub(super) digest: Option<String>,
    #[deserr(default)]
    pub(super) cases: Option<String>,
    #[deserr(default)]
    pub(super) grants: Vec<String>,
    #[deserr(default)]
    pub(super) hosts: Vec<String>,
    #[deserr(default)]
    pub(super) config: Option<serde_json::Value>,
    #[deserr(default)]
    pub(super) deadline: Option<HumanDuration>,
    #[deserr(default)]
    pub(super) memory: Option<ByteSize>,
    #[deserr(default)]
    pub(super) concurrency: Option<usize>,
    #[deserr(default)]
    pub(super) queue: Option<usize>,
    #[deserr(default)]
    pub(super) weight: Option<u32>,
}

#[derive(Debug)]
pub(super) enum KeyValue {
    Memory,
    Redis(Redis),
}

#[derive(Debug, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub(super) struct Redis {
    pub(super) redis: SecretRef,
    /// Whether connections over a network may lack TLS.
    #[deserr(default = false)]
    pub(super) plaintext: bool,
}

impl Deserr<ConfigErrors> for KeyValue {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, ConfigErrors> {
        match value {
            Value::String(text) if text == "memory" => Ok(Self::Memory),
            map @ Value::Map(_) => Redis::deserialize_from_value(map, location).map(Self::Redis),
            // The value is not printed: it may be a URL with a password.
            _ => {
                let msg =
                    "write memory, or {redis: {env: REDIS_URL}} with the URL in that variable".to_owned();
                let error: ErrorKind<'_, V> = ErrorKind::Unexpected { msg };
                let (ControlFlow::Continue(errors) | ControlFlow::Break(errors)) =
                    ConfigErrors::error(None, error, location);
                Err(errors)
            }
        }
    }
}

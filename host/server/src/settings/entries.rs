//! The entries of `policies.entries`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use deserr::errors::helpers::did_you_mean;
use postern_config::{ConfigErrors, Entries};
use postern_policy::{Capability, Digest, EntrySettings, Grants, Limits, Source};

use super::schema::Entry;

pub(super) type EntryMap = BTreeMap<String, EntrySettings>;

pub(super) fn entries(
    written: &Entries<Entry>,
    listed: bool,
    strict: bool,
    errors: &mut ConfigErrors,
) -> EntryMap {
    let mut entries = EntryMap::new();
    for (name, entry) in written.iter() {
        let at = format!("policies.entries.{name}");
        if !is_name(name) {
            errors.add(&at, "must be named with letters, digits, `-` and `_`, 64 at most");
        }
        if let Some(source) = source(&at, entry, listed, strict, errors) {
            let settings = EntrySettings {
                source,
                grants: grants(&at, entry, errors),
                config: entry.config.clone().unwrap_or_else(|| serde_json::json!({})),
                limits: limits(&at, entry, errors),
            };
            entries.insert(name.clone(), settings);
        }
    }
    entries
}

/// Whether a gate's configuration can use this name.
fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

fn source(at: &str, entry: &Entry, listed: bool, strict: bool, errors: &mut ConfigErrors) -> Option<Source> {
    match (&entry.module, &entry.file) {
        (Some(module), None) => {
            for (field, written) in [("digest", &entry.digest), ("cases", &entry.cases)] {
                if written.is_some() {
                    errors.add(
                        format!("{at}.{field}"),
                        "is only allowed with `file`; for a `module` it is in the manifest",
                    );
                }
            }
            if !listed {
                errors.add(
                    format!("{at}.module"),
                    "names a module of a manifest: set `policies.manifest`",
                );
            }
            Some(Source::Manifest(module.clone()))
        }
        (None, Some(file)) => {
            if strict {
                let message = "is unsigned, and TAMPER_STRICT rejects it: sign it in a manifest and name it with `module`";
                errors.add(format!("{at}.file"), message);
            }
            let digest = entry.digest.as_ref().map(|text| text.parse::<Digest>());
            let digest = digest.transpose().unwrap_or_else(|error| {
                errors.add(format!("{at}.digest"), error.to_string());
                None
            });
            Some(Source::File {
                module: file.into(),
                digest,
                cases: entry.cases.as_ref().map(Into::into),
            })
        }
        (Some(_), Some(_)) => {
            errors.add(
                at,
                "has both `module` (of the manifest) and `file` (unsigned): keep one",
            );
            None
        }
        (None, None) => {
            errors.add(
                at,
                "needs `module` (a name of the manifest) or `file` (an unsigned component)",
            );
            None
        }
    }
}

fn grants(at: &str, entry: &Entry, errors: &mut ConfigErrors) -> Grants {
    let names = Capability::ALL.map(Capability::name);
    let mut capabilities = BTreeSet::new();
    for (i, text) in entry.grants.iter().enumerate() {
        match Capability::from_name(text) {
            Some(capability) => {
                capabilities.insert(capability);
            }
            None => {
                let message = format!(
                    "no capability \"{text}\": {}there are {}",
                    did_you_mean(text, &names),
                    names.join(", ")
                );
                errors.add(format!("{at}.grants[{i}]"), message);
            }
        }
    }
    match (capabilities.contains(&Capability::Http), entry.hosts.is_empty()) {
        (true, true) => errors.add(
            format!("{at}.hosts"),
            "must name the HTTP hosts that the grant `http` may call",
        ),
        (false, false) => errors.add(format!("{at}.hosts"), "is only allowed with the grant `http`"),
        _ => {}
    }
    for (i, host) in entry.hosts.iter().enumerate() {
        if host.is_empty() || host.contains(|c: char| c == '/' || c == '@' || c == '*' || c.is_whitespace()) {
            let message = "must be an HTTP host, with an optional port: api.example.com or 127.0.0.1:8080";
            errors.add(format!("{at}.hosts[{i}]"), message);
        }
    }
    Grants {
        capabilities,
        hosts: entry.hosts.clone(),
    }
}

fn limits(at: &str, entry: &Entry, errors: &mut ConfigErrors) -> Limits {
    let default = Limits::default();
    let limits = Limits {
        deadline: entry.deadline.map_or(default.deadline, |span| span.0),
        memory: entry.memory.map_or(default.memory, |size| size.0),
        concurrency: entry.concurrency.unwrap_or(default.concurrency),
        queue: entry.queue.unwrap_or(default.queue),
        weight: entry.weight.unwrap_or(default.weight),
    };
    if !(1..=1000).contains(&limits.weight) {
        errors.add(format!("{at}.weight"), "must be from 1 to 1000");
    }
    // A running module is interrupted every millisecond.
    if !(Duration::from_millis(2)..=Duration::from_secs(60)).contains(&limits.deadline) {
        errors.add(format!("{at}.deadline"), "must be from 2ms to 60s");
    }
    if !(64 << 10..=1 << 30).contains(&limits.memory) {
        errors.add(format!("{at}.memory"), "must be from 64KiB to 1GiB");
    }
    if limits.concurrency == 0 {
        errors.add(format!("{at}.concurrency"), "must be at least 1");
    }
    if limits.queue > 1 << 20 {
        errors.add(
            format!("{at}.queue"),
            "must be at most 1048576; 0 refuses all requests that would wait",
        );
    }
    limits
}

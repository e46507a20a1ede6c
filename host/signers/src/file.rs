//! Parses and validates `signers.toml`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;
use toml_edit::Datetime;

use crate::{Registry, Signer, Status, Uses, is_signer_id, parse_key};

/// Maximum size of a registry file, in bytes.
const MAX_SIZE: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    signers: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    public_key: String,
    status: StatusField,
    #[serde(default)]
    uses: Option<Vec<String>>,
    #[serde(default)]
    valid_from: Option<Datetime>,
    #[serde(default)]
    valid_until: Option<Datetime>,
    #[serde(default)]
    retired_at: Option<Datetime>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum StatusField {
    Active,
    Retired,
}

/// Why a registry is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The text is not TOML, or has missing or unknown fields.
    #[error("{0}")]
    Syntax(String),
    /// An entry is invalid.
    #[error("signers.{id}: {problem}")]
    Entry { id: String, problem: String },
}

/// Why a registry cannot be read from a file.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("{0}: cannot be read: {1}")]
    Io(PathBuf, #[source] io::Error),
    /// The file is not a valid registry.
    #[error("{0}: {1}")]
    Invalid(PathBuf, #[source] FileError),
}

impl Registry {
    /// Reads a registry from a file.
    ///
    /// # Errors
    /// If the file cannot be read, is larger than 1 MiB, or is not a valid registry.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let text = read(path).map_err(|error| ReadError::Io(path.to_owned(), error))?;
        Self::parse(&text).map_err(|error| ReadError::Invalid(path.to_owned(), error))
    }

    /// Parses and validates a registry.
    ///
    /// # Errors
    /// The first problem found.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        let file: File =
            toml_edit::de::from_str(text).map_err(|error| FileError::Syntax(syntax_error(text, &error)))?;
        let mut signers: BTreeMap<String, Signer> = BTreeMap::new();
        for (id, entry) in file.signers {
            match signer(&id, &entry).and_then(|signer| check_shared_key(signer, &signers)) {
                Ok(signer) => signers.insert(id, signer),
                Err(problem) => return Err(FileError::Entry { id, problem }),
            };
        }
        Ok(Self::new(signers))
    }
}

/// The line and the problem. The library's own text quotes the line, which may contain a private key by mistake.
fn syntax_error(text: &str, error: &toml_edit::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let problem = error.message().trim_end().replace('\n', ": ");
    match before {
        Some(before) => format!("line {}: {problem}", before.matches('\n').count() + 1),
        None => problem,
    }
}

fn read(path: &Path) -> io::Result<String> {
    postern_files::read_to_string(path, MAX_SIZE)
}

/// Rejects a key that has other uses under another id: a signature by one id would be valid for the other's uses.
fn check_shared_key(signer: Signer, others: &BTreeMap<String, Signer>) -> Result<Signer, String> {
    let other = others
        .iter()
        .find(|(_, other)| other.key == signer.key && other.uses() != signer.uses());
    match other {
        Some((id, other)) => Err(format!(
            "has the key of \"{id}\" but other uses ({}): a key must have the same uses under every id; create another key",
            other.uses()
        )),
        None => Ok(signer),
    }
}

fn signer(id: &str, entry: &Entry) -> Result<Signer, String> {
    if !is_signer_id(id) {
        return Err("is not a valid id: use 1 to 128 letters, digits, and . _ - : /".to_owned());
    }
    let key = parse_key(&entry.public_key).map_err(|error| format!("public_key {error}"))?;
    let uses = entry.uses.as_ref().map(|names| {
        Uses::parse(names.iter().map(String::as_str)).map_err(|problem| format!("uses {problem}"))
    });
    let uses = uses.transpose()?;
    let valid_from = utc_time("valid_from", entry.valid_from)?;
    let valid_until = utc_time("valid_until", entry.valid_until)?;
    if let (Some(from), Some(until)) = (valid_from, valid_until)
        && until <= from
    {
        return Err("valid_until is not after valid_from: no signature would be valid".to_owned());
    }
    let status = match entry.status {
        StatusField::Active => Status::Active,
        StatusField::Retired => Status::Retired,
    };
    let retired_at = utc_time("retired_at", entry.retired_at)?;
    match (status, retired_at, valid_until) {
        (Status::Active, Some(_), _) => {
            return Err(
                "has a retired_at but is active: set status = \"retired\", or remove retired_at".to_owned(),
            );
        }
        (Status::Retired, None, None) => {
            return Err(
                "is retired but has neither retired_at nor valid_until: set until when its signatures are valid"
                    .to_owned(),
            );
        }
        _ => {}
    }
    Ok(Signer {
        key,
        status,
        uses,
        valid_from,
        valid_until,
        retired_at,
    })
}

/// Converts a date and time, which must be in UTC.
fn utc_time(field: &str, value: Option<Datetime>) -> Result<Option<SystemTime>, String> {
    let Some(value) = value else { return Ok(None) };
    humantime::parse_rfc3339(&value.to_string())
        .map(Some)
        .map_err(|_| format!("{field} is not a time in UTC: write 2027-01-01T00:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "public_key = \"ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"";

    #[test]
    fn a_registry_is_read() {
        let text = format!(
            "[signers.a]\n{KEY}\nstatus = \"active\"\n\n[signers.\"p/b:1\"]\n{KEY}\nstatus = \"retired\"\n\
             valid_from = 2026-01-01T00:00:00Z\nvalid_until = 2026-06-01T00:00:00Z\n"
        );
        let registry = Registry::parse(&text).unwrap();
        let found: Vec<_> = registry.iter().map(|(id, signer)| (id, signer.status)).collect();
        assert_eq!(found, [("a", Status::Active), ("p/b:1", Status::Retired)]);
        assert!(Registry::parse("").unwrap().is_empty());
        assert!(registry.iter().all(|(_, signer)| signer.uses() == Uses::ALL));
        let text = format!("[signers.a]\n{KEY}\nstatus = \"active\"\nuses = [\"checkpoint\", \"rotation\"]");
        let registry = Registry::parse(&text).unwrap();
        assert_eq!(
            registry.get("a").unwrap().uses().to_string(),
            "checkpoint, rotation"
        );
    }

    #[test]
    fn invalid_registries_are_rejected() {
        let entry = |rest: &str| format!("[signers.a]\n{KEY}\n{rest}");
        for (text, expected) in [
            ("\n[signers".to_owned(), "line 2: "),
            ("[signer.a]".to_owned(), "unknown field `signer`"),
            (entry(""), "missing field `status`"),
            (entry("status = \"maybe\""), "unknown variant `maybe`"),
            (entry("status = \"active\"\nuntil = 1"), "unknown field `until`"),
            (
                entry("status = \"retired\""),
                "signers.a: is retired but has neither retired_at nor valid_until",
            ),
            (
                entry("status = \"active\"\nretired_at = 2026-01-01T00:00:00Z"),
                "signers.a: has a retired_at but is active",
            ),
            (
                entry("status = \"active\"\nvalid_from = 2026-01-01"),
                "valid_from is not a time in UTC",
            ),
            (
                entry("status = \"active\"\nvalid_from = 2026-01-01T00:00:00+01:00"),
                "valid_from is not a time in UTC",
            ),
            (
                entry(
                    "status = \"active\"\nvalid_from = 2027-01-01T00:00:00Z\nvalid_until = 2026-01-01T00:00:00Z",
                ),
                "valid_until is not after valid_from",
            ),
            (
                entry("status = \"active\"\nuses = []"),
                "signers.a: uses is empty",
            ),
            (
                entry("status = \"active\"\nuses = [\"payload\", \"payload\"]"),
                "signers.a: uses names payload twice",
            ),
            (
                entry("status = \"active\"\nuses = [\"payloads\"]"),
                "signers.a: uses names an unknown use",
            ),
            // One key under two ids would be valid for both uses.
            (
                format!(
                    "{}\n[signers.b]\n{KEY}\nstatus = \"active\"\nuses = [\"checkpoint\"]",
                    entry("status = \"active\"\nuses = [\"payload\"]")
                ),
                "signers.b: has the key of \"a\" but other uses",
            ),
            (
                format!("[signers.\"a b\"]\n{KEY}\nstatus = \"active\""),
                "signers.a b: is not a valid id",
            ),
            (
                "[signers.a]\npublic_key = \"secret\"\nstatus = \"active\"".to_owned(),
                "public_key is not a public key",
            ),
        ] {
            let error = Registry::parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}\n{error}");
        }
    }

    #[test]
    fn a_key_in_the_wrong_place_is_not_repeated() {
        for text in [
            "[signers.a]\npublic_key = \"s3cret\"\nstatus = \"active\"",
            "[signers.a]\nprivate_key = \"s3cret\"\nstatus = \"active\"",
            "[signers.a]\npublic_key = s3cret",
        ] {
            let error = Registry::parse(text).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}

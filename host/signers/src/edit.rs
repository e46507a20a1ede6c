//! Edits of `signers.toml` that preserve its comments and layout.

use std::time::{Duration, SystemTime};

use ed25519_compact::PublicKey;
use toml_edit::{Datetime, DocumentMut, Item, TableLike, Value, value};

use crate::{FileError, Registry, Signer, Status, Uses, format_key, is_signer_id};

/// Why a registry cannot be edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The text is not a valid registry, or would not be after the edit.
    #[error(transparent)]
    File(#[from] FileError),
    /// The id is in use. A signer's key never changes: its earlier signatures would no longer verify.
    #[error("signer \"{0}\" already exists; a new key needs a new id")]
    DuplicateId(String),
    /// No signer has this id.
    #[error("there is no signer \"{0}\"")]
    UnknownSigner(String),
    /// The signer is already retired.
    #[error("signer \"{0}\" is already retired")]
    AlreadyRetired(String),
    /// The id is invalid.
    #[error("invalid signer id \"{0}\": use 1 to 128 letters, digits, and . _ - : /")]
    InvalidId(String),
    /// TOML cannot represent the time.
    #[error("the time must be between the years 1970 and 9999")]
    InvalidTime,
}

/// Appends an active signer for every use to the registry in `text`.
///
/// # Errors
/// As for [`add_with_uses`].
pub fn add(
    text: &str,
    id: &str,
    key: &PublicKey,
    valid_from: Option<SystemTime>,
    valid_until: Option<SystemTime>,
) -> Result<String, EditError> {
    add_with_uses(text, id, key, None, valid_from, valid_until)
}

/// Appends an active signer for these uses to the registry in `text`. Without `uses` it is valid for every use, as in
/// registries from before uses.
///
/// # Errors
/// If the id is in use or invalid, the key has other uses under another id, or the text is not a registry.
pub fn add_with_uses(
    text: &str,
    id: &str,
    key: &PublicKey,
    uses: Option<Uses>,
    valid_from: Option<SystemTime>,
    valid_until: Option<SystemTime>,
) -> Result<String, EditError> {
    if !is_signer_id(id) {
        return Err(EditError::InvalidId(id.to_owned()));
    }
    if Registry::parse(text)?.get(id).is_some() {
        return Err(EditError::DuplicateId(id.to_owned()));
    }
    // Appended as text, so that everything before stays as it is.
    let mut edited = text.to_owned();
    if !edited.is_empty() {
        edited.push_str(if edited.ends_with('\n') { "\n" } else { "\n\n" });
    }
    // Ids may need quotes but no escapes; keys need neither.
    edited += &format!(
        "[signers.{}]\npublic_key = \"{}\"\nstatus = \"{}\"\n",
        toml_key(id),
        format_key(key),
        Status::Active.name()
    );
    if let Some(uses) = uses {
        let names: Vec<_> = uses.iter().map(|item| format!("\"{item}\"")).collect();
        edited += &format!("uses = [{}]\n", names.join(", "));
    }
    for (field, time) in [("valid_from", valid_from), ("valid_until", valid_until)] {
        if let Some(time) = time {
            edited += &format!("{field} = {}\n", datetime(time)?);
        }
    }
    Registry::parse(&edited)?;
    Ok(edited)
}

/// An id as a TOML key, quoted where necessary.
fn toml_key(id: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if id.bytes().all(bare) {
        id.to_owned()
    } else {
        format!("\"{id}\"")
    }
}

/// Retires a signer now. Its earlier signatures stay valid: in a log, those before the event of its retirement; elsewhere,
/// those made before now.
///
/// # Errors
/// If there is no such signer, it is already retired, or the text is not a registry.
pub fn retire_now(text: &str, id: &str, now: SystemTime) -> Result<String, EditError> {
    // Signatures made in the current microsecond count as earlier.
    let end = now + Duration::from_micros(1);
    edit_retired(text, id, |entry, _| {
        set(entry, "retired_at", datetime(end)?.into());
        Ok(())
    })
}

/// Retires a signer and invalidates its signatures made at `at` or later, wherever they are recorded: for a key that was
/// compromised at that time.
///
/// # Errors
/// If there is no such signer, it is already retired, or the text is not a registry.
pub fn retire(text: &str, id: &str, at: SystemTime) -> Result<String, EditError> {
    edit_retired(text, id, |entry, signer| {
        // An earlier end of validity stays.
        if signer.valid_until.is_none_or(|until| until > at) {
            set(entry, "valid_until", datetime(at)?.into());
        }
        Ok(())
    })
}

fn edit_retired(
    text: &str,
    id: &str,
    end: impl FnOnce(&mut dyn TableLike, &Signer) -> Result<(), EditError>,
) -> Result<String, EditError> {
    let registry = Registry::parse(text)?;
    let signer = registry
        .get(id)
        .ok_or_else(|| EditError::UnknownSigner(id.to_owned()))?;
    if signer.status == Status::Retired {
        return Err(EditError::AlreadyRetired(id.to_owned()));
    }
    let mut document: DocumentMut = text
        .parse()
        .map_err(|error: toml_edit::TomlError| FileError::Syntax(error.message().to_owned()))?;
    let entry = document
        .get_mut("signers")
        .and_then(|signers| signers.get_mut(id))
        .and_then(Item::as_table_like_mut)
        .ok_or_else(|| EditError::UnknownSigner(id.to_owned()))?;
    set(entry, "status", Status::Retired.name().into());
    end(entry, signer)?;
    let text = document.to_string();
    Registry::parse(&text)?;
    Ok(text)
}

/// Sets a field and preserves the comments around it.
fn set(entry: &mut dyn TableLike, field: &str, mut new: Value) {
    match entry.get_mut(field).and_then(Item::as_value_mut) {
        Some(old) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        None => {
            entry.insert(field, value(new));
        }
    }
}

fn datetime(time: SystemTime) -> Result<Datetime, EditError> {
    if time < SystemTime::UNIX_EPOCH {
        return Err(EditError::InvalidTime);
    }
    let seconds = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(|_| EditError::InvalidTime)?
        .as_secs();
    if seconds >= 253_402_300_800 {
        return Err(EditError::InvalidTime);
    }
    // In microseconds, like the times in a log: rounding down would invalidate signatures made within the second.
    let whole_seconds = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .is_ok_and(|since| since.subsec_micros() == 0);
    let written = if whole_seconds {
        humantime::format_rfc3339_seconds(time)
    } else {
        humantime::format_rfc3339_micros(time)
    };
    written.to_string().parse().map_err(|_| EditError::InvalidTime)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::parse_key;

    fn key() -> PublicKey {
        parse_key("ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=").unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_signer_is_added_at_the_end() {
        for (text, expected) in [("", ""), ("# ours\n", "# ours\n\n"), ("# ours", "# ours\n\n")] {
            assert_eq!(
                add(text, "new", &key(), Some(at(0)), Some(at(1_767_225_600))).unwrap(),
                format!(
                    "{expected}[signers.new]\n\
                     public_key = \"ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"\n\
                     status = \"active\"\nvalid_from = 1970-01-01T00:00:00Z\nvalid_until = 2026-01-01T00:00:00Z\n"
                )
            );
        }
        let uses = Uses::parse(["checkpoint", "rotation"]).ok();
        let text = add_with_uses("", "log", &key(), uses, None, None).unwrap();
        assert!(
            text.ends_with("\nuses = [\"checkpoint\", \"rotation\"]\n"),
            "{text}"
        );
        let quoted = add("", "projects/p:1", &key(), None, None).unwrap();
        assert!(quoted.starts_with("[signers.\"projects/p:1\"]\n"), "{quoted}");
    }

    #[test]
    fn a_signer_is_retired_and_the_rest_stays() {
        let text = format!(
            "# ours\n\n[signers.old] # of 2025\n# its key\npublic_key = \"{0}\"\n# for now\nstatus  =  \"active\" # until spring\n\n\
             [signers.new]\npublic_key = \"{0}\"\nstatus = \"active\"\n# the end\n",
            format_key(&key())
        );
        let retired = retire(&text, "old", at(1_767_225_600)).unwrap();
        let expected = text.replace(
            "\"active\" # until spring\n",
            "\"retired\" # until spring\nvalid_until = 2026-01-01T00:00:00Z\n",
        );
        assert_eq!(retired, expected);
        let registry = Registry::parse(&retired).unwrap();
        assert_eq!(registry.get("new").unwrap().status, Status::Active);
    }

    #[test]
    fn signers_in_inline_and_dotted_tables_are_retired() {
        let entry = format!("{{public_key = \"{}\", status = \"active\"}}", format_key(&key()));
        for text in [
            format!("signers = {{a = {entry}}}\n"),
            format!("[signers]\na = {entry}\n"),
            format!("signers.a = {entry}\n"),
        ] {
            let retired = retire(&text, "a", at(100)).unwrap();
            let registry = Registry::parse(&retired).unwrap();
            let signer = registry.get("a").unwrap();
            assert_eq!(
                (signer.status, signer.valid_until),
                (Status::Retired, Some(at(100))),
                "{retired}"
            );
        }
    }

    #[test]
    fn signatures_made_before_retirement_stay_valid() {
        let text = add("", "a", &key(), None, Some(at(500))).unwrap();
        for micros in [0, 1, 999_999] {
            let now = at(100) + Duration::from_micros(micros);
            let text = retire_now(&text, "a", now + Duration::from_nanos(300)).unwrap();
            let registry = Registry::parse(&text).unwrap();
            let signer = registry.get("a").unwrap();
            assert!(
                !signer.is_retired_at(now) && signer.is_retired_at(now + Duration::from_micros(1)),
                "{text}"
            );
            assert_eq!(
                (signer.status, signer.valid_until),
                (Status::Retired, Some(at(500)))
            );
        }
    }

    #[test]
    fn retirement_does_not_extend_validity() {
        let text = add("", "a", &key(), None, Some(at(100))).unwrap();
        let text = retire(&text, "a", at(200)).unwrap();
        assert_eq!(
            Registry::parse(&text).unwrap().get("a").unwrap().valid_until,
            Some(at(100))
        );
    }

    #[test]
    fn invalid_edits_are_rejected() {
        let text = add("", "a", &key(), None, None).unwrap();
        let retired = retire(&text, "a", at(100)).unwrap();
        assert_eq!(
            add(&text, "a", &key(), None, None),
            Err(EditError::DuplicateId("a".to_owned()))
        );
        assert_eq!(
            add(&text, "a b", &key(), None, None),
            Err(EditError::InvalidId("a b".to_owned()))
        );
        assert_eq!(
            retire(&text, "b", at(1)),
            Err(EditError::UnknownSigner("b".to_owned()))
        );
        assert_eq!(
            retire(&retired, "a", at(1)),
            Err(EditError::AlreadyRetired("a".to_owned()))
        );
        assert!(matches!(
            add("[", "a", &key(), None, None),
            Err(EditError::File(_))
        ));
        assert!(matches!(
            add(&text, "b", &key(), Some(at(9)), Some(at(9))),
            Err(EditError::File(_))
        ));
    }
}

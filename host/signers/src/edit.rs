//! Changing `signers.toml` and leaving the rest of it as its owner wrote it.

use std::time::{Duration, SystemTime};

use ed25519_compact::PublicKey;
use toml_edit::{Datetime, DocumentMut, Item, TableLike, Value, value};

use crate::{FileError, Registry, Signer, Status, Uses, format_key, is_signer_id};

/// Why a registry is not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// What is there is no registry, or would be none after the change.
    #[error(transparent)]
    File(#[from] FileError),
    /// The id is taken: a signer's key never changes, or what it signed would not verify any more.
    #[error("there is a signer \"{0}\" already; a new key needs a new id")]
    DuplicateId(String),
    /// There is no signer of this id.
    #[error("there is no signer \"{0}\"")]
    UnknownSigner(String),
    /// It is retired already.
    #[error("the signer \"{0}\" is retired already")]
    AlreadyRetired(String),
    /// The text cannot be an id.
    #[error("\"{0}\" is no id: it has 1 to 128 letters, digits, and . _ - : /")]
    InvalidId(String),
    /// A time that TOML cannot hold.
    #[error("a time between the years 1970 and 9999 is needed")]
    InvalidTime,
}

/// The registry in `text` with one more active signer, for every use, at its end.
///
/// # Errors
/// As [`add_with_uses`].
pub fn add(
    text: &str,
    id: &str,
    key: &PublicKey,
    valid_from: Option<SystemTime>,
    valid_until: Option<SystemTime>,
) -> Result<String, EditError> {
    add_with_uses(text, id, key, None, valid_from, valid_until)
}

/// The registry in `text` with one more active signer, for these uses, at its end. Without `uses` it serves every use, as
/// entries of old registries do.
///
/// # Errors
/// If the id is taken or none, the key has other uses under another id, or the text is no registry.
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
    // Only appended to: what its owner wrote is not even read for this.
    let mut whole = text.to_owned();
    if !whole.is_empty() {
        whole.push_str(if whole.ends_with('\n') { "\n" } else { "\n\n" });
    }
    // No character of an id needs more than quotes, and none of a key.
    whole += &format!(
        "[signers.{}]\npublic_key = \"{}\"\nstatus = \"{}\"\n",
        name(id),
        format_key(key),
        Status::Active.name()
    );
    if let Some(uses) = uses {
        let names: Vec<_> = uses.iter().map(|one| format!("\"{one}\"")).collect();
        whole += &format!("uses = [{}]\n", names.join(", "));
    }
    for (field, moment) in [("valid_from", valid_from), ("valid_until", valid_until)] {
        if let Some(moment) = moment {
            whole += &format!("{field} = {}\n", datetime(moment)?);
        }
    }
    Registry::parse(&whole)?;
    Ok(whole)
}

/// An id as the name of a table.
fn name(id: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if id.bytes().all(bare) {
        id.to_owned()
    } else {
        format!("\"{id}\"")
    }
}

/// The registry in `text` with a signer retired now: it signs no more. What it signed before still counts: in a log, what
/// stands before the event of its retirement; elsewhere, what was made before now.
///
/// # Errors
/// If there is no such signer, it is retired already, or the text is no registry.
pub fn retire_now(text: &str, id: &str, now: SystemTime) -> Result<String, EditError> {
    // What was made in this very microsecond was made before.
    let end = now + Duration::from_micros(1);
    retired(text, id, |entry, _| {
        put(entry, "retired_at", datetime(end)?.into());
        Ok(())
    })
}

/// The registry in `text` with a signer retired, of whose signatures none counts that was made at a moment or later, wherever
/// it stands: for a key that was not safe any more from then on.
///
/// # Errors
/// If there is no such signer, it is retired already, or the text is no registry.
pub fn retire(text: &str, id: &str, at: SystemTime) -> Result<String, EditError> {
    retired(text, id, |entry, signer| {
        // One that ended before it was retired does not live on.
        if signer.valid_until.is_none_or(|until| until > at) {
            put(entry, "valid_until", datetime(at)?.into());
        }
        Ok(())
    })
}

fn retired(
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
    put(entry, "status", Status::Retired.name().into());
    end(entry, signer)?;
    let text = document.to_string();
    Registry::parse(&text)?;
    Ok(text)
}

/// Sets a field, and leaves the comments around it.
fn put(entry: &mut dyn TableLike, field: &str, mut new: Value) {
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

fn datetime(moment: SystemTime) -> Result<Datetime, EditError> {
    if moment < SystemTime::UNIX_EPOCH {
        return Err(EditError::InvalidTime);
    }
    let seconds = moment
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(|_| EditError::InvalidTime)?
        .as_secs();
    if seconds >= 253_402_300_800 {
        return Err(EditError::InvalidTime);
    }
    // As exact as the times in a log: a second that is cut off would take back what was signed in it.
    let whole = moment
        .duration_since(SystemTime::UNIX_EPOCH)
        .is_ok_and(|since| since.subsec_micros() == 0);
    let written = if whole {
        humantime::format_rfc3339_seconds(moment)
    } else {
        humantime::format_rfc3339_micros(moment)
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
    fn registries_in_other_forms() {
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
    fn nothing_that_was_signed_by_now_is_taken_back() {
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
    fn one_that_ended_is_not_prolonged() {
        let text = add("", "a", &key(), None, Some(at(100))).unwrap();
        let text = retire(&text, "a", at(200)).unwrap();
        assert_eq!(
            Registry::parse(&text).unwrap().get("a").unwrap().valid_until,
            Some(at(100))
        );
    }

    #[test]
    fn what_is_refused() {
        let one = add("", "a", &key(), None, None).unwrap();
        let gone = retire(&one, "a", at(100)).unwrap();
        assert_eq!(
            add(&one, "a", &key(), None, None),
            Err(EditError::DuplicateId("a".to_owned()))
        );
        assert_eq!(
            add(&one, "a b", &key(), None, None),
            Err(EditError::InvalidId("a b".to_owned()))
        );
        assert_eq!(
            retire(&one, "b", at(1)),
            Err(EditError::UnknownSigner("b".to_owned()))
        );
        assert_eq!(
            retire(&gone, "a", at(1)),
            Err(EditError::AlreadyRetired("a".to_owned()))
        );
        assert!(matches!(
            add("[", "a", &key(), None, None),
            Err(EditError::File(_))
        ));
        assert!(matches!(
            add(&one, "b", &key(), Some(at(9)), Some(at(9))),
            Err(EditError::File(_))
        ));
    }
}

//! Changing `signers.toml` and leaving the rest of it as its owner wrote it.

use std::time::SystemTime;

use ed25519_compact::PublicKey;
use toml_edit::{Datetime, DocumentMut, Item, Table, value};

use crate::{FileError, Registry, Status, is_id, write_key};

/// Why a registry is not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// What is there is no registry, or would be none after the change.
    #[error(transparent)]
    File(#[from] FileError),
    /// The id is taken: a signer's key never changes, or what it signed would not verify any more.
    #[error("there is a signer \"{0}\" already; a new key needs a new id")]
    Taken(String),
    /// There is no signer of this id.
    #[error("there is no signer \"{0}\"")]
    Unknown(String),
    /// It is retired already.
    #[error("the signer \"{0}\" is retired already")]
    Retired(String),
    /// The text cannot be an id.
    #[error("\"{0}\" is no id: it has 1 to 128 letters, digits, and . _ - : /")]
    NoId(String),
    /// A time that TOML cannot hold.
    #[error("a time between the years 1970 and 9999 is needed")]
    Time,
}

/// The registry in `text` with one more active signer.
///
/// # Errors
/// If the id is taken or none, or the text is no registry.
pub fn add(
    text: &str,
    id: &str,
    key: &PublicKey,
    valid_from: Option<SystemTime>,
    valid_until: Option<SystemTime>,
) -> Result<String, EditError> {
    if !is_id(id) {
        return Err(EditError::NoId(id.to_owned()));
    }
    if Registry::parse(text)?.get(id).is_some() {
        return Err(EditError::Taken(id.to_owned()));
    }
    let mut document = document(text)?;
    let mut entry = Table::new();
    entry.insert("public_key", value(write_key(key)));
    entry.insert("status", value(Status::Active.name()));
    for (field, moment) in [("valid_from", valid_from), ("valid_until", valid_until)] {
        if let Some(moment) = moment {
            entry.insert(field, value(datetime(moment)?));
        }
    }
    signers(&mut document)?.insert(id, Item::Table(entry));
    sound(document)
}

/// The registry in `text` with a signer retired at a moment: it signs no more, and what it signed before still counts.
///
/// # Errors
/// If there is no such signer, it is retired already, or the text is no registry.
pub fn retire(text: &str, id: &str, at: SystemTime) -> Result<String, EditError> {
    let registry = Registry::parse(text)?;
    let signer = registry
        .get(id)
        .ok_or_else(|| EditError::Unknown(id.to_owned()))?;
    if signer.status == Status::Retired {
        return Err(EditError::Retired(id.to_owned()));
    }
    let mut document = document(text)?;
    let entry = signers(&mut document)?
        .get_mut(id)
        .and_then(Item::as_table_like_mut)
        .ok_or_else(|| EditError::Unknown(id.to_owned()))?;
    entry.insert("status", value(Status::Retired.name()));
    // One that ended before it was retired does not live on.
    if signer.valid_until.is_none_or(|until| until > at) {
        entry.insert("valid_until", value(datetime(at)?));
    }
    sound(document)
}

fn document(text: &str) -> Result<DocumentMut, EditError> {
    text.parse()
        .map_err(|error: toml_edit::TomlError| FileError::Form(error.to_string()).into())
}

fn signers(document: &mut DocumentMut) -> Result<&mut dyn toml_edit::TableLike, EditError> {
    let mut table = Table::new();
    // No line of its own: the entries have theirs.
    table.set_implicit(true);
    document
        .entry("signers")
        .or_insert(Item::Table(table))
        .as_table_like_mut()
        .ok_or_else(|| FileError::Form("signers is no table".to_owned()).into())
}

fn datetime(moment: SystemTime) -> Result<Datetime, EditError> {
    if moment < SystemTime::UNIX_EPOCH {
        return Err(EditError::Time);
    }
    // Whole seconds: an end that is rounded down ends no later than was meant.
    let seconds = moment
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(|_| EditError::Time)?
        .as_secs();
    if seconds >= 253_402_300_800 {
        return Err(EditError::Time);
    }
    humantime::format_rfc3339_seconds(moment)
        .to_string()
        .parse()
        .map_err(|_| EditError::Time)
}

fn sound(document: DocumentMut) -> Result<String, EditError> {
    let text = document.to_string();
    Registry::parse(&text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::parse_key;

    fn key() -> PublicKey {
        parse_key("ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=").unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_signer_is_added_and_retired_and_the_rest_stays() {
        let first = add("# ours\n", "old", &key(), None, None).unwrap();
        assert_eq!(
            first,
            "# ours\n\n[signers.old]\npublic_key = \"ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"\n\
             status = \"active\"\n"
                .replace("# ours\n\n", if first.starts_with("# ours\n\n") { "# ours\n\n" } else { "# ours\n" })
        );
        let both = add(&first, "new", &key(), Some(at(0)), Some(at(4_000_000_000))).unwrap();
        let retired = retire(&both, "old", at(1_767_225_600)).unwrap();
        assert!(retired.contains("# ours"), "{retired}");
        let registry = Registry::parse(&retired).unwrap();
        let old = registry.get("old").unwrap();
        assert_eq!((old.status, old.valid_until), (Status::Retired, Some(at(1_767_225_600))));
        assert_eq!(registry.get("new").unwrap().status, Status::Active);
    }

    #[test]
    fn one_that_ended_is_not_prolonged() {
        let text = add("", "a", &key(), None, Some(at(100))).unwrap();
        let text = retire(&text, "a", at(200)).unwrap();
        assert_eq!(Registry::parse(&text).unwrap().get("a").unwrap().valid_until, Some(at(100)));
    }

    #[test]
    fn what_is_refused() {
        let one = add("", "a", &key(), None, None).unwrap();
        let gone = retire(&one, "a", at(100)).unwrap();
        assert_eq!(add(&one, "a", &key(), None, None), Err(EditError::Taken("a".to_owned())));
        assert_eq!(add(&one, "a b", &key(), None, None), Err(EditError::NoId("a b".to_owned())));
        assert_eq!(retire(&one, "b", at(1)), Err(EditError::Unknown("b".to_owned())));
        assert_eq!(retire(&gone, "a", at(1)), Err(EditError::Retired("a".to_owned())));
        assert!(matches!(add("[", "a", &key(), None, None), Err(EditError::File(_))));
        assert!(matches!(add(&one, "b", &key(), Some(at(9)), Some(at(9))), Err(EditError::File(_))));
    }
}

//! The current registry of signers, and the changes that a reload makes.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use postern_signers::{ReadError, Registry, Signer, Status};

/// The current registry, which a reload replaces.
#[derive(Debug)]
pub(crate) struct LiveRegistry {
    /// The registry's file; `None` for development signers.
    file: Option<PathBuf>,
    current: ArcSwap<Registry>,
}

impl LiveRegistry {
    pub(crate) fn read(file: PathBuf) -> Result<Self, ReadError> {
        let registry = Registry::read(&file)?;
        Ok(Self {
            file: Some(file),
            current: ArcSwap::from_pointee(registry),
        })
    }

    /// A registry without a file: that of the development signers.
    pub(crate) fn in_memory(registry: Registry) -> Self {
        Self {
            file: None,
            current: ArcSwap::from_pointee(registry),
        }
    }

    pub(crate) fn current(&self) -> Arc<Registry> {
        self.current.load_full()
    }

    /// Reads the file; `None` without one.
    pub(crate) fn read_file(&self) -> Result<Option<Registry>, ReadError> {
        self.file.as_deref().map(Registry::read).transpose()
    }

    /// Replaces the current registry. Returns what changed.
    pub(crate) fn replace(&self, new: Registry) -> Vec<SignerChange> {
        let new = Arc::new(new);
        let old = self.current.swap(Arc::clone(&new));
        signer_changes(&old, &new)
    }
}

/// A signer that a reload changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerChange {
    pub signer_id: String,
    pub kind: SignerChangeKind,
}

/// How a reload changed a signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignerChangeKind {
    /// The id is new.
    Added,
    /// The signer is now retired.
    Retired,
    /// The id was removed: its signatures no longer verify.
    Removed,
    /// The signer has another key: its earlier signatures no longer verify. A new key needs a new id.
    KeyChanged,
    /// The signer is no longer retired.
    Reactivated,
    /// The signer's validity or uses changed.
    Changed,
}

impl SignerChangeKind {
    /// The name in logs and audit events.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Retired => "retired",
            Self::Removed => "removed",
            Self::KeyChanged => "key_changed",
            Self::Reactivated => "reactivated",
            Self::Changed => "changed",
        }
    }
}

/// The changed signers, sorted by id.
fn signer_changes(old: &Registry, new: &Registry) -> Vec<SignerChange> {
    let change = |id: &str, kind| SignerChange {
        signer_id: id.to_owned(),
        kind,
    };
    let removed = old
        .iter()
        .filter(|(id, _)| new.get(id).is_none())
        .map(|(id, _)| change(id, SignerChangeKind::Removed));
    let added_or_changed = new.iter().filter_map(|(id, signer)| match old.get(id) {
        None => Some(change(id, SignerChangeKind::Added)),
        Some(before) => change_kind(before, signer).map(|kind| change(id, kind)),
    });
    let mut all: Vec<_> = removed.chain(added_or_changed).collect();
    all.sort_by(|a, b| a.signer_id.cmp(&b.signer_id));
    all
}

fn change_kind(before: &Signer, after: &Signer) -> Option<SignerChangeKind> {
    if before == after {
        None
    } else if before.key != after.key {
        Some(SignerChangeKind::KeyChanged)
    } else {
        Some(match (before.status, after.status) {
            (Status::Active, Status::Retired) => SignerChangeKind::Retired,
            (Status::Retired, Status::Active) => SignerChangeKind::Reactivated,
            _ => SignerChangeKind::Changed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "public_key = \"ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"";
    const B: &str = "public_key = \"ed25519:PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=\"";
    const ACTIVE: &str = "status = \"active\"";
    const RETIRED: &str = "status = \"retired\"\nvalid_until = 2026-01-01T00:00:00Z";

    fn registry(signers: &[(&str, &str, &str)]) -> Registry {
        let text: String = signers
            .iter()
            .map(|(id, key, status)| format!("[signers.{id}]\n{key}\n{status}\n"))
            .collect();
        Registry::parse(&text).unwrap()
    }

    #[test]
    fn a_reload_reports_each_changed_signer() {
        let until = format!("{ACTIVE}\nvalid_until = 2030-01-01T00:00:00Z");
        let old = registry(&[
            ("gone", A, ACTIVE),
            ("same", A, ACTIVE),
            ("tired", A, ACTIVE),
            ("window", A, ACTIVE),
            ("woken", A, RETIRED),
            ("zapped", A, ACTIVE),
        ]);
        let new = registry(&[
            ("fresh", A, ACTIVE),
            ("same", A, ACTIVE),
            ("tired", A, RETIRED),
            ("window", A, &until),
            ("woken", A, ACTIVE),
            ("zapped", B, ACTIVE),
        ]);
        let found: Vec<_> = signer_changes(&old, &new)
            .into_iter()
            .map(|change| (change.signer_id, change.kind.name()))
            .collect();
        let expected = [
            ("fresh", "added"),
            ("gone", "removed"),
            ("tired", "retired"),
            ("window", "changed"),
            ("woken", "reactivated"),
            ("zapped", "key_changed"),
        ];
        assert_eq!(found, expected.map(|(id, name)| (id.to_owned(), name)));
        assert!(signer_changes(&new, &new).is_empty());
    }
}

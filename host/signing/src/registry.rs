//! The registry in service, and what a reload changed.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use postern_signers::{ReadError, Registry, Signer, Status};

/// The registry in service.
#[derive(Debug)]
pub(crate) struct LiveRegistry {
    /// Where it came from, if from a file.
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

    /// The development signers'.
    pub(crate) fn in_memory(registry: Registry) -> Self {
        Self {
            file: None,
            current: ArcSwap::from_pointee(registry),
        }
    }

    pub(crate) fn current(&self) -> Arc<Registry> {
        self.current.load_full()
    }

    /// Reads the file again; nothing, if there is none.
    pub(crate) fn read_file(&self) -> Result<Option<Registry>, ReadError> {
        self.file.as_deref().map(Registry::read).transpose()
    }

    /// Puts another one into service at once; what changed.
    pub(crate) fn replace(&self, new: Registry) -> Vec<SignerChange> {
        let new = Arc::new(new);
        let old = self.current.swap(Arc::clone(&new));
        signer_changes(&old, &new)
    }
}

/// A signer that a reload changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerChange {
    /// Whose.
    pub signer_id: String,
    /// What became of it.
    pub kind: SignerChangeKind,
}

/// What became of a signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignerChangeKind {
    /// There was none of this id.
    Added,
    /// It is retired now.
    Retired,
    /// There is none of this id any more: what it signed does not verify.
    Removed,
    /// It has another key: what it signed does not verify. A new key needs a new id.
    KeyChanged,
    /// It is not retired any more.
    Reactivated,
    /// It is valid at other times or for other uses.
    Changed,
}

impl SignerChangeKind {
    /// Its name in logs and audit events.
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

/// What is different, by id.
fn signer_changes(old: &Registry, new: &Registry) -> Vec<SignerChange> {
    let change = |id: &str, kind| SignerChange {
        signer_id: id.to_owned(),
        kind,
    };
    let gone = old
        .iter()
        .filter(|(id, _)| new.get(id).is_none())
        .map(|(id, _)| change(id, SignerChangeKind::Removed));
    let here = new.iter().filter_map(|(id, signer)| match old.get(id) {
        None => Some(change(id, SignerChangeKind::Added)),
        Some(before) => change_kind(before, signer).map(|kind| change(id, kind)),
    });
    let mut all: Vec<_> = gone.chain(here).collect();
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
    fn what_a_reload_changed() {
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

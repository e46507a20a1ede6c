//! What a signer's signatures count for.

use std::fmt;

/// What a signature is made for. A key that serves one use cannot be talked into another: what it signed counts for
/// nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// Payloads of services and policies: `/sign`.
    Payload,
    /// The hashes of manifests: `/sign/manifest`.
    Manifest,
    /// Checkpoints of the audit log.
    Checkpoint,
    /// Statements that one signer follows another.
    Rotation,
}

impl Use {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Payload, Self::Manifest, Self::Checkpoint, Self::Rotation];

    /// Its name in `signers.toml`, `host.yaml` and `kms-proxy.yaml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Payload => "payload",
            Self::Manifest => "manifest",
            Self::Checkpoint => "checkpoint",
            Self::Rotation => "rotation",
        }
    }

    /// The use of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of uses.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Uses(u8);

impl Uses {
    /// No use.
    pub const NONE: Self = Self(0);
    /// Every use: what an entry without `uses` has.
    pub const ALL: Self = Self(0b1111);

    /// Whether a use is among them.
    #[must_use]
    pub fn contains(self, one: Use) -> bool {
        self.0 & one.bit() != 0
    }

    /// Whether all of these are among them.
    #[must_use]
    pub fn contains_all(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// These and others.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// One after another.
    pub fn iter(self) -> impl Iterator<Item = Use> {
        Use::ALL.into_iter().filter(move |one| self.contains(*one))
    }

    /// Reads names.
    ///
    /// # Errors
    /// What is wrong, to be read after the name of the field.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut uses = Self::NONE;
        for name in names {
            let Some(one) = Use::from_name(name) else {
                // Not repeated: it may be a key in the wrong place.
                return Err(
                    "names an unknown use: there are payload, manifest, checkpoint and rotation".into(),
                );
            };
            if uses.contains(one) {
                return Err(format!("names {one} twice"));
            }
            uses = uses.with(one.into());
        }
        if uses.is_empty() {
            return Err("is empty: name one of payload, manifest, checkpoint and rotation".to_owned());
        }
        Ok(uses)
    }
}

impl From<Use> for Uses {
    fn from(one: Use) -> Self {
        Self(one.bit())
    }
}

impl FromIterator<Use> for Uses {
    fn from_iter<I: IntoIterator<Item = Use>>(uses: I) -> Self {
        uses.into_iter().fold(Self::NONE, |all, one| all.with(one.into()))
    }
}

impl fmt::Display for Uses {
    /// The names: `payload, manifest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, one) in self.iter().enumerate() {
            if place > 0 {
                f.write_str(", ")?;
            }
            f.write_str(one.name())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_uses() {
        let two = Uses::parse(["rotation", "payload"]).unwrap();
        assert_eq!(two.to_string(), "payload, rotation");
        assert!(two.contains(Use::Payload) && !two.contains(Use::Checkpoint));
        assert!(Uses::ALL.contains_all(two) && !two.contains_all(Uses::ALL));
        assert_eq!(Use::ALL.into_iter().collect::<Uses>(), Uses::ALL);
        for (names, expected) in [
            (&["payload", "payload"][..], "twice"),
            (&["s3cret"], "unknown use"),
            (&[], "is empty"),
        ] {
            let error = Uses::parse(names.iter().copied()).unwrap_err();
            assert!(error.contains(expected) && !error.contains("s3cret"), "{error}");
        }
    }
}

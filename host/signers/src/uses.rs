//! The uses that a signer's signatures are valid for.

use std::fmt;

/// What a signature is for. A key with a single use cannot be misused for another: its signatures are valid for no other
/// use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// Payloads of services and policies: `POST /sign`.
    Payload,
    /// Hashes of manifests: `POST /sign/manifest`.
    Manifest,
    /// Checkpoints of the audit log.
    Checkpoint,
    /// Statements that one signer replaces another.
    Rotation,
}

impl Use {
    /// All uses, in the order of their names in texts.
    pub const ALL: [Self; 4] = [Self::Payload, Self::Manifest, Self::Checkpoint, Self::Rotation];

    /// The name in `signers.toml`, `host.yaml` and `kms-proxy.yaml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Payload => "payload",
            Self::Manifest => "manifest",
            Self::Checkpoint => "checkpoint",
            Self::Rotation => "rotation",
        }
    }

    /// The use with a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|item| item.name() == name)
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
    /// Every use. A registry entry without `uses` has them all.
    pub const ALL: Self = Self(0b1111);

    /// Whether a use is in the set.
    #[must_use]
    pub fn contains(self, item: Use) -> bool {
        self.0 & item.bit() != 0
    }

    /// Whether all of `others` are in the set.
    #[must_use]
    pub fn contains_all(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The union with `others`.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// The uses, in the order of [`Use::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Use> {
        Use::ALL.into_iter().filter(move |item| self.contains(*item))
    }

    /// Parses names of uses.
    ///
    /// # Errors
    /// The problem, as text that follows the name of the field.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut uses = Self::NONE;
        for name in names {
            let Some(item) = Use::from_name(name) else {
                // The name is not quoted: it may be a key in the wrong place.
                return Err(
                    "names an unknown use: the uses are payload, manifest, checkpoint and rotation".into(),
                );
            };
            if uses.contains(item) {
                return Err(format!("names {item} twice"));
            }
            uses = uses.with(item.into());
        }
        if uses.is_empty() {
            return Err("is empty: name one of payload, manifest, checkpoint and rotation".to_owned());
        }
        Ok(uses)
    }
}

impl From<Use> for Uses {
    fn from(item: Use) -> Self {
        Self(item.bit())
    }
}

impl FromIterator<Use> for Uses {
    fn from_iter<I: IntoIterator<Item = Use>>(uses: I) -> Self {
        uses.into_iter()
            .fold(Self::NONE, |all, item| all.with(item.into()))
    }
}

impl fmt::Display for Uses {
    /// The names, as in `payload, manifest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            f.write_str(item.name())?;
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
    fn sets_are_parsed_and_formatted() {
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

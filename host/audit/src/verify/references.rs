//! The trusted references that a log is verified against: signers, and heads that are kept out of reach of the store.

use std::io::{self, BufRead};
use std::str::FromStr;

use postern_signers::Registry;

use super::checkpoint_file::{self, CheckpointFileReport};
use super::problem::{Code, Problem};
use super::retirement::RetiredSignature;
use super::signatures;
use crate::checkpoint::Note;
use crate::{Hash, Time};

/// The references that a log is verified against. The report says which were missing.
#[derive(Debug, Clone, Default)]
pub struct TrustedReferences {
    pub(crate) registry: Option<Registry>,
    pub(crate) origin: Option<String>,
    pub(crate) list: Vec<Reference>,
    /// The signatures of some of these, by signers that are retired.
    pub(crate) retired: Vec<RetiredSignature>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) checkpoint_file: Option<CheckpointFileReport>,
    pub(crate) stored_checkpoint_size: Option<u64>,
}

/// A head that is kept outside the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) size: u64,
    pub(crate) hash: Hash,
    /// When the checkpoint was made; `None` for a head without a checkpoint.
    pub(crate) made: Option<Time>,
    /// Whether its signature was verified.
    pub(crate) verified: bool,
    /// The index of its signature in [`TrustedReferences::retired`].
    pub(crate) retired: Option<usize>,
}

impl Reference {
    /// Describes the reference in a problem.
    pub(crate) fn name(&self) -> String {
        match self.made {
            Some(made) => format!("the external checkpoint of {made} over {} events", self.size),
            None => format!("the trusted head {}:{}", self.size, self.hash),
        }
    }
}

/// A head that an auditor wrote down: `SIZE:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedHead {
    /// The number of events in the log.
    pub size: u64,
    /// The hash of the last event.
    pub hash: Hash,
}

/// The text is not a [`TrustedHead`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write SIZE:HASH as `postern audit head` prints it: a number, a colon and 64 hexadecimal digits")]
pub struct ParseHeadError;

impl FromStr for TrustedHead {
    type Err = ParseHeadError;

    fn from_str(text: &str) -> Result<Self, ParseHeadError> {
        let (size, hash) = text.split_once(':').ok_or(ParseHeadError)?;
        let size = size.parse().map_err(|_| ParseHeadError)?;
        let hash = Hash::parse(hash).ok_or(ParseHeadError)?;
        Ok(Self { size, hash })
    }
}

impl TrustedReferences {
    /// No references.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds the trusted signers. Call this before [`Self::checkpoint_file`], which verifies signatures at once.
    #[must_use]
    pub fn signers(mut self, registry: Registry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Sets the name of the log. By default it is that of the first checkpoint.
    #[must_use]
    pub fn origin(mut self, origin: &str) -> Self {
        self.origin = Some(origin.to_owned());
        self
    }

    /// Adds a trusted head.
    #[must_use]
    pub fn head(mut self, head: TrustedHead) -> Self {
        self.list.push(Reference {
            size: head.size,
            hash: head.hash,
            made: None,
            verified: false,
            retired: None,
        });
        self
    }

    /// Adds the checkpoints of an external checkpoint file. Incomplete notes are counted.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn checkpoint_file(mut self, file: impl BufRead) -> io::Result<Self> {
        let report = checkpoint_file::read(file, |note| self.add_note(&note))?;
        self.checkpoint_file = Some(report);
        Ok(self)
    }

    /// Sets the size of the log's last checkpoint before the file was read: the file must have this checkpoint too. By default
    /// the file must have all checkpoints of the log, as for an export, which was made earlier.
    #[must_use]
    pub fn stored_checkpoint_size(mut self, size: u64) -> Self {
        self.stored_checkpoint_size = Some(size);
        self
    }

    /// The report about the external checkpoint file, if one was read.
    #[must_use]
    pub fn checkpoint_file_report(&self) -> Option<&CheckpointFileReport> {
        self.checkpoint_file.as_ref()
    }

    fn add_note(&mut self, note: &Note) {
        let checkpoint = &note.checkpoint;
        let origin = self.origin.get_or_insert_with(|| checkpoint.origin.clone());
        let verified = if *origin == checkpoint.origin {
            self.registry
                .as_ref()
                .map(|registry| signatures::checkpoint(note, registry))
                .transpose()
        } else {
            Err((Code::CheckpointOrigin, other_log(origin, &checkpoint.origin)))
        };
        let mut reference = Reference {
            size: checkpoint.size,
            hash: checkpoint.hash,
            made: Some(checkpoint.time),
            verified: false,
            retired: None,
        };
        match verified {
            Ok(verified) => {
                reference.verified = verified.is_some();
                if let Some(retired) = verified.flatten() {
                    reference.retired = Some(self.retired.len());
                    self.retired.push(retired);
                }
                self.list.push(reference);
            }
            Err((code, detail)) => self.problems.push(Problem::at(
                checkpoint.size,
                code,
                format!("{} {detail}", reference.name()),
            )),
        }
    }
}

pub(crate) fn other_log(origin: &str, found: &str) -> String {
    format!("is of the log \"{found}\", not of \"{origin}\"")
}

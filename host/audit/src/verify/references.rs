//! What a log is held against: things that were signed, or kept where whoever changed the log could not reach them.

use std::io::{self, BufRead};
use std::str::FromStr;

use postern_signers::Registry;

use super::checkpoint_file::{self, Outside};
use super::problem::{Code, Problem};
use super::retirement::Doubt;
use super::signed;
use crate::checkpoint::Note;
use crate::{Hash, Time};

/// What a log is held against. What is not here is not verified, and the report says so.
#[derive(Debug, Clone, Default)]
pub struct TrustedReferences {
    pub(crate) registry: Option<Registry>,
    pub(crate) origin: Option<String>,
    pub(crate) kept: Vec<Kept>,
    /// What is left to be judged of the signatures of some of these.
    pub(crate) doubts: Vec<Doubt>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) outside: Option<Outside>,
    pub(crate) stored_before: Option<u64>,
}

/// A head that was kept outside the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) size: u64,
    pub(crate) hash: Hash,
    /// When the checkpoint was made; nothing, if somebody wrote down the head alone.
    pub(crate) made: Option<Time>,
    /// Whether its signature was verified.
    pub(crate) signed: bool,
    /// Which of the doubts is about it.
    pub(crate) doubt: Option<usize>,
}

impl Kept {
    /// What to call it.
    pub(crate) fn name(&self) -> String {
        match self.made {
            Some(made) => format!(
                "the checkpoint of {made}, kept outside, over {} events",
                self.size
            ),
            None => format!("the head kept outside, {}:{}", self.size, self.hash),
        }
    }
}

/// A head as an auditor keeps it: `SIZE:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptHead {
    /// How many events the log had.
    pub size: u64,
    /// The hash of the last.
    pub hash: Hash,
}

/// A text that is no [`KeptHead`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write SIZE:HASH as `postern audit head` prints it: a number, a colon and 64 hexadecimal digits")]
pub struct NoHead;

impl FromStr for KeptHead {
    type Err = NoHead;

    fn from_str(text: &str) -> Result<Self, NoHead> {
        let (size, hash) = text.split_once(':').ok_or(NoHead)?;
        let size = size.parse().map_err(|_| NoHead)?;
        let hash = Hash::parse(hash).ok_or(NoHead)?;
        Ok(Self { size, hash })
    }
}

impl TrustedReferences {
    /// Nothing but the log itself.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// The signers whose checkpoints count. Give them first: what is read from a file is verified at once.
    #[must_use]
    pub fn signers(mut self, registry: Registry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// The name of the log. Without it, the first checkpoint says what all must be of.
    #[must_use]
    pub fn origin(mut self, origin: &str) -> Self {
        self.origin = Some(origin.to_owned());
        self
    }

    /// A head that somebody wrote down.
    #[must_use]
    pub fn head(mut self, head: KeptHead) -> Self {
        self.kept.push(Kept {
            size: head.size,
            hash: head.hash,
            made: None,
            signed: false,
            doubt: None,
        });
        self
    }

    /// The checkpoints of the file that is kept outside the store: notes one after another.
    ///
    /// # Errors
    /// If it cannot be read, or is no UTF-8 text. What is no note in it is counted.
    pub fn outside(mut self, file: impl BufRead) -> io::Result<Self> {
        let read = checkpoint_file::read(file, |note| self.keep(&note))?;
        self.outside = Some(read);
        Ok(self)
    }

    /// The log's own newest checkpoint was over so many events before the file was read: the file must have it too. Without
    /// it, all that the log has count, as in an export, which was made before.
    #[must_use]
    pub fn stored_before(mut self, size: u64) -> Self {
        self.stored_before = Some(size);
        self
    }

    /// How the file outside was, if one was read.
    #[must_use]
    pub fn file(&self) -> Option<&Outside> {
        self.outside.as_ref()
    }

    fn keep(&mut self, note: &Note) {
        let checkpoint = &note.checkpoint;
        let origin = self.origin.get_or_insert_with(|| checkpoint.origin.clone());
        let verified = if *origin == checkpoint.origin {
            self.registry
                .as_ref()
                .map(|registry| signed::checkpoint(note, registry))
                .transpose()
        } else {
            Err((Code::CheckpointOrigin, other_log(origin, &checkpoint.origin)))
        };
        let mut kept = Kept {
            size: checkpoint.size,
            hash: checkpoint.hash,
            made: Some(checkpoint.time),
            signed: false,
            doubt: None,
        };
        match verified {
            Ok(verified) => {
                kept.signed = verified.is_some();
                if let Some(doubt) = verified.flatten() {
                    kept.doubt = Some(self.doubts.len());
                    self.doubts.push(doubt);
                }
                self.kept.push(kept);
            }
            Err((code, detail)) => self.problems.push(Problem::at(
                checkpoint.size,
                code,
                format!("{} {detail}", kept.name()),
            )),
        }
    }
}

pub(crate) fn other_log(origin: &str, found: &str) -> String {
    format!("is of the log \"{found}\", not of \"{origin}\"")
}

//! What a command has to say, and the exit code that scripts branch on.

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::style::Style;
use crate::text::printable;

/// The exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Valid, made, or admitted.
    Allowed,
    /// The gate refuses the request.
    Denied,
    /// Bad configuration, unreadable file, bad usage.
    Invalid,
    /// Nothing wrong was found, and nothing proves that all is well.
    Unproven,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Allowed => 0,
            Exit::Denied => 2,
            Exit::Invalid => 3,
            Exit::Unproven => 4,
        })
    }
}

/// What a command prints, and how it ends.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) exit: Exit,
}

impl Output {
    pub(crate) fn ok(out: String) -> Self {
        Self {
            out,
            err: String::new(),
            exit: Exit::Allowed,
        }
    }

    /// What could not be done, and why.
    pub(crate) fn failure(error: &anyhow::Error) -> Self {
        let head = Style::stderr().error("error:");
        Self {
            out: String::new(),
            err: format!("{head} {}\n", printable(&error_chain(error))),
            exit: Exit::Invalid,
        }
    }

    /// A reader that has gone, as in `postern ... | head -1`, is no failure.
    pub(crate) fn print(&self) -> ExitCode {
        let _ = io::stderr().write_all(self.err.as_bytes());
        let mut stdout = io::stdout();
        match stdout
            .write_all(self.out.as_bytes())
            .and_then(|()| stdout.flush())
        {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                let _ = writeln!(io::stderr(), "error: cannot write to standard output: {error}");
                Exit::Invalid.into()
            }
            _ => self.exit.into(),
        }
    }
}

/// A document for `--json`.
pub(crate) fn json(document: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(document)? + "\n")
}

/// An error and its causes, each once: some errors repeat their cause in their own words, others leave it to the reader.
fn error_chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

//! What a command has to say, and the exit code that scripts branch on.

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::paint::Paint;
use crate::text::{counted, printable};

/// The exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
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
pub struct Output {
    /// For standard output.
    pub out: String,
    /// For standard error.
    pub err: String,
    /// How the process ends.
    pub exit: Exit,
}

impl Output {
    /// What was asked for.
    #[must_use]
    pub fn ok(out: String) -> Self {
        Self {
            out,
            err: String::new(),
            exit: Exit::Allowed,
        }
    }

    /// What could not be done, and why.
    #[must_use]
    pub fn failure(error: &anyhow::Error) -> Self {
        let head = Paint::stderr().bad("error:");
        Self {
            out: String::new(),
            err: format!("{head} {}\n", printable(&told(error))),
            exit: Exit::Invalid,
        }
    }

    /// A file that is invalid: each of its problems, with the file's name before it, and how many there are.
    #[must_use]
    pub fn invalid(file: &str, problems: &[String]) -> Self {
        let head = Paint::stderr().bad("error:");
        let mut err = String::new();
        for problem in problems {
            err.push_str(&format!("{head} {}\n", printable(&format!("{file}: {problem}"))));
        }
        err.push_str(&format!("{}\n", counted(problems.len(), "error", "errors")));
        Self {
            out: String::new(),
            err,
            exit: Exit::Invalid,
        }
    }

    /// Prints it. A reader that has gone, as in `postern ... | head -1`, is no failure.
    pub fn print(&self) -> ExitCode {
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
///
/// # Errors
/// If it cannot be written as JSON.
pub fn json(document: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(document)? + "\n")
}

/// An error and its causes, each once: some errors repeat their cause in their own words, others leave it to the reader.
fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.contains(&cause) {
            continue;
        }
        if !told.is_empty() {
            told.push_str(": ");
        }
        told.push_str(&cause);
    }
    told
}

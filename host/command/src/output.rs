//! The output of a command, and the exit code that scripts branch on.

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::style::Style;
use crate::text::{counted, printable};

/// The exit code of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: success.
    Allowed,
    /// 2: a request is denied, a check or a test fails, or a log was tampered with.
    Denied,
    /// 3: bad configuration, unreadable file or bad usage.
    Invalid,
    /// 4: an audit log shows no error, but nothing proves that it is intact.
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

/// What a command prints, and its exit code.
#[derive(Debug)]
pub struct Output {
    /// Text for standard output.
    pub out: String,
    /// Text for standard error.
    pub err: String,
    /// The exit code.
    pub exit: Exit,
}

impl Output {
    /// The output of a successful command.
    #[must_use]
    pub fn ok(out: String) -> Self {
        Self {
            out,
            err: String::new(),
            exit: Exit::Allowed,
        }
    }

    /// The output of a failed command: the error and its causes.
    #[must_use]
    pub fn failure(error: &anyhow::Error) -> Self {
        let head = Style::stderr().error("error:");
        Self {
            out: String::new(),
            err: format!("{head} {}\n", printable(&error_chain(error))),
            exit: Exit::Invalid,
        }
    }

    /// The output for an invalid file: each problem, preceded by the name of the file, and their number.
    #[must_use]
    pub fn invalid(file: &str, problems: &[String]) -> Self {
        let head = Style::stderr().error("error:");
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

    /// Prints both streams. A closed pipe, as in `postern ... | head -1`, is not an error.
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

/// Formats the document of `--json`.
///
/// # Errors
/// If it cannot be serialised.
pub fn json(document: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(document)? + "\n")
}

/// The error and its causes, each once: some errors include the text of their cause, others do not.
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

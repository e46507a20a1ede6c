//! Reading what a command line names.

use std::fs;
use std::io::{self, Read};

use anyhow::{Context, Result};

/// The text of a file, or of standard input for `-`.
pub(crate) fn text(path: &str) -> Result<String> {
    String::from_utf8(bytes(path)?).with_context(|| format!("{} is not UTF-8 text", name(path)))
}

/// The bytes of a file, or of standard input for `-`.
pub(crate) fn bytes(path: &str) -> Result<Vec<u8>> {
    let read = if path == "-" {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    read.with_context(|| format!("cannot read {}", name(path)))
}

/// A request's body as curl's `--data-binary` takes it: the text itself, `@file`, or `@-` for standard input.
pub(crate) fn body(data: &str) -> Result<Vec<u8>> {
    match data.strip_prefix('@') {
        Some(path) => bytes(path),
        None => Ok(data.as_bytes().to_vec()),
    }
}

/// What to call a file in messages.
pub(crate) fn name(path: &str) -> &str {
    if path == "-" { "standard input" } else { path }
}

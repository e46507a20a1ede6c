//! Secrets that settings name: in the environment, or in a file.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use postern_config::{ConfigErrors, NOT_A_VARIABLE, is_variable_name};
use secrecy::SecretString;
use zeroize::Zeroizing;

/// Read and written by anybody.
const OTHERS: u32 = 0o007;
/// No PIN is longer.
const LONGEST: u64 = 4096;

/// The secret in the variable of this name; the errors are told at `at`.
pub(super) fn in_variable(
    at: &str,
    name: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    errors: &mut ConfigErrors,
) -> Option<SecretString> {
    if !is_variable_name(name) {
        errors.add(at, NOT_A_VARIABLE);
        return None;
    }
    // Copied once more, into a string that is wiped when it goes, and wiped here.
    let value = variable(name).map(Zeroizing::new);
    let value = value.filter(|value| !value.is_empty());
    if value.is_none() {
        errors.add(at, format!("{name} is not set"));
    }
    value.map(|value| SecretString::from(value.as_str()))
}

/// The secret in a file, without the end of its line; the errors are told at `at`.
pub(super) fn in_file(at: &str, file: &Path, errors: &mut ConfigErrors) -> Option<SecretString> {
    match read(file) {
        Ok(text) => Some(text),
        Err(reason) => {
            errors.add(at, format!("{}: {reason}", file.display()));
            None
        }
    }
}

fn read(file: &Path) -> Result<SecretString, String> {
    let found = std::fs::metadata(file).map_err(|error| error.to_string())?;
    if found.mode() & OTHERS != 0 {
        return Err("is open to everybody on this machine: chmod o= it".to_owned());
    }
    if found.len() > LONGEST {
        return Err(format!("is larger than {LONGEST} bytes: that is no PIN"));
    }
    // With room for all of it from the start: one that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(
        usize::try_from(LONGEST).unwrap_or_default() + 1,
    ));
    std::fs::File::open(file)
        .and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text))
        .map_err(|error| error.to_string())?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err("is empty".to_owned()),
        secret => Ok(SecretString::from(secret)),
    }
}

//! Reads files that hold one secret.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroizing;

/// The maximum size of a secret, in bytes.
const MAX_SIZE: u64 = 4096;

/// Who may have access to the file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Access {
    /// Only its owner.
    Owner,
    /// Its owner and its group.
    Group,
}

/// Reads the file. Errors do not contain its text.
pub(crate) fn read(file: &Path, access: Access) -> Result<Zeroizing<String>, String> {
    // A FIFO would block the start, or every later reload.
    let opened = postern_files::open(file).map_err(|error| error.to_string())?;
    let found = opened.metadata().map_err(|error| error.to_string())?;
    let (others, problem) = match access {
        Access::Owner => (0o077, "is accessible to users other than its owner: chmod 600 it"),
        Access::Group => (0o007, "is accessible to all users of this machine: chmod o= it"),
    };
    if found.mode() & others != 0 {
        return Err(problem.to_owned());
    }
    if found.len() > MAX_SIZE {
        return Err(format!("is larger than {MAX_SIZE} bytes, so it is not a secret"));
    }
    // Allocated at full size: a string that grows leaves copies of the secret behind.
    let room = usize::try_from(MAX_SIZE).unwrap_or_default() + 1;
    let mut text = Zeroizing::new(String::with_capacity(room));
    opened
        .take(MAX_SIZE + 1)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    Ok(text)
}

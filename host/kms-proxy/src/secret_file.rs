//! Files that hold one secret.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroizing;

/// No secret is longer, in bytes.
const MAX_SIZE: u64 = 4096;

/// Who may read and write a file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Access {
    /// Its owner alone.
    Owner,
    /// Its owner and group.
    Group,
}

/// The text of a file. Errors repeat nothing of it.
pub(crate) fn read(file: &Path, access: Access) -> Result<Zeroizing<String>, String> {
    let found = std::fs::metadata(file).map_err(|error| error.to_string())?;
    let (others, problem) = match access {
        Access::Owner => (0o077, "others than its owner can read it: chmod 600 it"),
        Access::Group => (0o007, "is open to everybody on this machine: chmod o= it"),
    };
    if found.mode() & others != 0 {
        return Err(problem.to_owned());
    }
    if found.len() > MAX_SIZE {
        return Err(format!("is larger than {MAX_SIZE} bytes: that is no secret"));
    }
    // With room for all of it from the start: one that grows leaves copies behind.
    let room = usize::try_from(MAX_SIZE).unwrap_or_default() + 1;
    let mut text = Zeroizing::new(String::with_capacity(room));
    File::open(file)
        .and_then(|file| file.take(MAX_SIZE + 1).read_to_string(&mut text))
        .map_err(|error| error.to_string())?;
    Ok(text)
}

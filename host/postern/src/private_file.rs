//! Files that only their owner can read.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

/// Creates the file with mode 0600; fails if it exists.
pub(crate) fn create(file: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(file)?;
    writeln!(file, "{}", text.trim_end())
}

//! Reads the files and the standard input that a command line names.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt as _;

use anyhow::{Context, Result, bail, ensure};

/// The largest accepted input, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// The text of a file, or of standard input for `-`.
pub(crate) fn text(path: &str) -> Result<String> {
    String::from_utf8(bytes(path)?).with_context(|| format!("{} is not UTF-8 text", display_name(path)))
}

/// The bytes of a file, or of standard input for `-`.
pub(crate) fn bytes(path: &str) -> Result<Vec<u8>> {
    let read = if path == "-" {
        read_limited(io::stdin().lock(), MAX_BYTES)
    } else {
        open(path).and_then(|file| read_limited(file, MAX_BYTES))
    };
    read.with_context(|| format!("cannot read {}", display_name(path)))
}

/// Opens a file or a pipe. Devices are rejected: opening one can have side effects, and reading one may never end.
fn open(path: &str) -> Result<File> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_dir() {
        bail!("it is a directory; a file is expected");
    }
    if kind.is_char_device() || kind.is_block_device() {
        bail!("it is a device; a file is expected, or `-` for standard input");
    }
    Ok(File::open(path)?)
}

/// Reads everything; more than `limit` bytes are an error.
fn read_limited(from: impl Read, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let count = from.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    ensure!(
        u64::try_from(count).is_ok_and(|count| count <= limit),
        "it is larger than {} MiB, the limit",
        limit >> 20
    );
    Ok(bytes)
}

/// A request body in the form of curl's `--data-binary`: the text itself, `@file`, or `@-` for standard input.
pub(crate) fn body(data: &str) -> Result<Vec<u8>> {
    match data.strip_prefix('@') {
        Some(path) => bytes(path),
        None => Ok(data.as_bytes().to_vec()),
    }
}

/// The name of an input in messages.
pub(crate) fn display_name(path: &str) -> &str {
    if path == "-" { "standard input" } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_over_the_limit_is_rejected() {
        assert_eq!(
            read_limited(io::repeat(7).take(1 << 20), 1 << 20).unwrap().len(),
            1 << 20
        );
        let error = read_limited(io::repeat(7), 1 << 20).unwrap_err().to_string();
        assert!(error.contains("larger than 1 MiB"), "{error}");
    }

    #[test]
    fn directories_and_devices_are_rejected() {
        for (path, expected) in [
            ("/", "is a directory"),
            ("/dev/zero", "is a device"),
            ("/nowhere", "No such file"),
        ] {
            let error = format!("{:#}", bytes(path).unwrap_err());
            assert!(
                error.contains(expected) && error.contains(path),
                "{path}: {error}"
            );
        }
    }

    #[test]
    fn a_pipe_is_accepted() {
        let (reader, mut writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        io::Write::write_all(&mut writer, b"text").unwrap();
        drop(writer);
        assert_eq!(text(&path).unwrap(), "text");
    }
}

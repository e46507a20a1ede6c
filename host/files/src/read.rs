//! Reads regular files up to a maximum size.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Opens a regular file for reading. Symbolic links are followed, because mounted ConfigMaps and release directories use
/// them; their target must be a regular file.
///
/// # Errors
/// If it cannot be opened, or is not a regular file but a directory, a FIFO, a socket or a device.
pub fn open(path: &Path) -> io::Result<File> {
    // Opening a device can have side effects, so the type is checked before opening.
    check_regular(&std::fs::metadata(path)?)?;
    // The path may name another file by now, so opening does not block, and the type is checked again.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    check_regular(&file.metadata()?)?;
    Ok(file)
}

/// Reads a regular file of at most `max_len` bytes.
///
/// # Errors
/// As for [`open`], and if it cannot be read or is larger.
pub fn read(path: &Path, max_len: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    if file.metadata()?.len() > max_len {
        return Err(too_large(max_len));
    }
    let mut bytes = Vec::new();
    // The file may grow during the read.
    file.take(max_len.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_len {
        return Err(too_large(max_len));
    }
    Ok(bytes)
}

/// Like [`read`], for text.
///
/// # Errors
/// As for [`read`], and if it is not UTF-8.
pub fn read_to_string(path: &Path, max_len: u64) -> io::Result<String> {
    String::from_utf8(read(path, max_len)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "is not UTF-8 text"))
}

fn check_regular(metadata: &std::fs::Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let problem = if metadata.is_dir() {
        "is a directory"
    } else {
        "is not a regular file but a FIFO, socket or device"
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
}

fn too_large(max_len: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("is larger than {max_len} bytes"),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, mknodat};

    use super::*;

    #[test]
    fn links_are_followed_to_regular_files_up_to_the_maximum_size() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("file"), "12345").unwrap();
        symlink("file", path("link")).unwrap();
        assert_eq!(read(&path("link"), 5).unwrap(), b"12345");
        assert_eq!(read_to_string(&path("file"), 9).unwrap(), "12345");
        let error = read(&path("file"), 4).unwrap_err();
        assert_eq!(error.to_string(), "is larger than 4 bytes");
        std::fs::write(path("file"), b"\xff").unwrap();
        assert!(read_to_string(&path("file"), 9).is_err());
    }

    #[test]
    fn other_file_types_are_rejected_without_blocking() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        mknodat(CWD, path("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        symlink("fifo", path("link")).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        for name in ["fifo", "link", "socket", "."] {
            let error = read(&path(name), 9).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}: {error}");
        }
        for device in ["/dev/zero", "/dev/tty"] {
            assert!(read(Path::new(device), 9).is_err(), "{device}");
        }
        assert_eq!(
            read(&path("none"), 9).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}

//! Regular files, up to a bound.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Opens a regular file to read it. Symbolic links are followed, as mounted ConfigMaps and release directories need them;
/// what they lead to must be a regular file.
///
/// # Errors
/// If it cannot be opened, or is no regular file: a directory, a FIFO, a socket, a device.
pub fn open(path: &Path) -> io::Result<File> {
    // Opening can act by itself, on a device for example, so what is not regular is not even opened.
    regular(&std::fs::metadata(path)?)?;
    // Another file may have taken its place meanwhile: nothing is waited for, and it is looked at again.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    regular(&file.metadata()?)?;
    Ok(file)
}

/// Reads a file that [`open`] opens, of at most `max_len` bytes.
///
/// # Errors
/// As [`open`], and if it cannot be read or is larger.
pub fn read(path: &Path, max_len: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    if file.metadata()?.len() > max_len {
        return Err(too_large(max_len));
    }
    let mut bytes = Vec::new();
    // The file may grow while it is read.
    file.take(max_len.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_len {
        return Err(too_large(max_len));
    }
    Ok(bytes)
}

/// As [`read`], for text.
///
/// # Errors
/// As [`read`], and if it is not UTF-8.
pub fn read_to_string(path: &Path, max_len: u64) -> io::Result<String> {
    String::from_utf8(read(path, max_len)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "is not UTF-8 text"))
}

fn regular(found: &std::fs::Metadata) -> io::Result<()> {
    if found.is_file() {
        return Ok(());
    }
    let what = if found.is_dir() {
        "is a directory"
    } else {
        "is no regular file, but a FIFO, socket or device"
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
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
    fn links_are_followed_to_regular_files_up_to_the_bound() {
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
    fn what_is_no_regular_file_is_refused_at_once() {
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

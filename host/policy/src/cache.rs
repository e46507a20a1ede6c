//! Compiled modules on disk, so that a restart does not compile them again.
//!
//! What is read back is executed as it stands: the directory is made by us, closed to others, and a file in it is
//! used only if it carries the digest of its own bytes under the key it was asked for. Someone who can write there as
//! our user could as well replace this program.

use std::fs::{self, DirBuilder, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use wasmtime::Engine;

use crate::Digest;

/// The largest compiled module that is kept, in bytes.
const MAX_SIZE: u64 = 1 << 30;

/// A directory of compiled modules.
#[derive(Debug, Clone)]
pub struct Cache {
    directory: PathBuf,
}

/// Why a directory cannot be used for compiled modules.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// It cannot be made or looked at.
    #[error("{0}: {1}")]
    Io(PathBuf, #[source] io::Error),
    /// Others may write there.
    #[error(
        "{0} must belong to the user that runs this program and be closed to others (chmod 700): compiled code is run as it is found there"
    )]
    Permissions(PathBuf),
}

impl Cache {
    /// Uses a directory, made with mode 0700 if it is not there.
    ///
    /// # Errors
    /// If it cannot be made, is another user's, or lets others in.
    pub fn open(directory: &Path) -> Result<Self, CacheError> {
        let io = |error| CacheError::Io(directory.to_owned(), error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(io)?;
        let found = fs::symlink_metadata(directory).map_err(io)?;
        // A file of our own tells who we are without asking the system for it.
        let probe = tempfile::NamedTempFile::new_in(directory).map_err(io)?;
        let our_uid = probe.as_file().metadata().map_err(io)?.uid();
        if !found.is_dir() || found.uid() != our_uid || found.permissions().mode() & 0o077 != 0 {
            return Err(CacheError::Permissions(directory.to_owned()));
        }
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// The compiled form of a module: read if it is there, made and kept otherwise.
    ///
    /// # Errors
    /// What the compiler says of the module. A file that cannot be read or written costs time, not the module.
    pub(crate) fn get_or_compile<E>(
        &self,
        engine: &Engine,
        digest: Digest,
        compile: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        let key = Key::of(engine, digest);
        let path = self.directory.join(key.file());
        match read(&path, &key) {
            Ok(Some(code)) => return Ok(code),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "compiled module not usable; compiling anew")
            }
        }
        let code = compile()?;
        if let Err(error) = self.write(&path, &key, &code) {
            tracing::warn!(path = %path.display(), %error, "compiled module not kept");
        }
        Ok(code)
    }

    /// Written aside and renamed, so that a file that is there is whole.
    fn write(&self, path: &Path, key: &Key, code: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(key.file_digest(code).as_bytes())?;
        file.write_all(code)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(&self.directory)?.sync_all()
    }
}

/// The code in a file, if the file is there and its seal is that of the key.
fn read(path: &Path, key: &Key) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = match postern_files::read(path, MAX_SIZE) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let (file_digest, code) = bytes
        .split_at_checked(DIGEST_LEN)
        .ok_or_else(|| io::Error::other("it is cut short"))?;
    if key.file_digest(code).as_bytes() != file_digest {
        return Err(io::Error::other("it is not what was written for this module"));
    }
    Ok(Some(bytes.split_off(DIGEST_LEN)))
}

/// Length of a file's seal: a digest in hexadecimal.
const DIGEST_LEN: usize = 64;

/// What code was compiled from: the module, and what it depends on besides: wasmtime's version, the CPU's features, the
/// engine's settings.
struct Key {
    module: Digest,
    compiler: u64,
}

impl Key {
    fn of(engine: &Engine, module: Digest) -> Self {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self {
            module,
            compiler: hasher.finish(),
        }
    }

    fn file(&self) -> String {
        format!("{}-{:016x}.cwasm", self.module.hex(), self.compiler)
    }

    /// Binds code to what it was compiled from: under another module's name it is not used.
    fn file_digest(&self, code: &[u8]) -> String {
        let key = format!("postern compiled module v2\n{}\n", self.file());
        Digest::of_parts([key.as_bytes(), code]).hex()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Engines;

    #[test]
    fn a_compiled_module_is_kept_and_a_damaged_one_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("compiled");
        let cache = Cache::open(&directory).unwrap();
        let engine = Engines::new(4, 1 << 20).unwrap().plain;
        let digest = Digest::of(b"a module");
        let compile = || Ok::<_, ()>(b"its code".to_vec());
        let key = Key::of(&engine, digest);
        cache.get_or_compile(&engine, digest, compile).unwrap();
        let files = || -> Vec<_> {
            fs::read_dir(&directory)
                .unwrap()
                .map(|f| f.unwrap().path())
                .collect()
        };
        let [file] = <[PathBuf; 1]>::try_from(files()).unwrap();
        assert_eq!(read(&file, &key).unwrap().unwrap(), b"its code");
        let kept = cache.get_or_compile(&engine, digest, || Err(())).unwrap();
        assert_eq!(kept, b"its code", "not compiled again");

        let whole = fs::read(&file).unwrap();
        let mut changed = whole.clone();
        *changed.last_mut().unwrap() ^= 1;
        for damaged in [&changed[..], &whole[..20], &whole[..whole.len() - 1], b""] {
            fs::write(&file, damaged).unwrap();
            assert!(read(&file, &key).is_err());
            cache.get_or_compile(&engine, digest, compile).unwrap();
            assert_eq!(fs::read(&file).unwrap(), whole, "made anew");
        }
        assert_eq!(files().len(), 1, "no temporary file stays");

        // Code of another module in its place.
        let other = Key::of(&engine, Digest::of(b"another module"));
        fs::rename(&file, directory.join(other.file())).unwrap();
        assert!(read(&directory.join(other.file()), &other).is_err());
    }

    #[test]
    fn a_directory_that_lets_others_in_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Cache::open(directory.path()).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(
            Cache::open(directory.path()),
            Err(CacheError::Permissions(_))
        ));
    }
}

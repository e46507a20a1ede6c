//! A disk cache of compiled modules, so that a restart does not recompile them.
//!
//! Cached code is executed as read. The directory is therefore created by this process and closed to other users, and a
//! file is used only if it starts with the digest of its code and key. Anyone who can write there as this user could
//! also replace this program.

use std::fs::{self, DirBuilder, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use wasmtime::Engine;

use crate::Digest;

/// Maximum size of a cached module, in bytes.
const MAX_SIZE: u64 = 1 << 30;

/// A directory of compiled modules.
#[derive(Debug, Clone)]
pub struct Cache {
    directory: PathBuf,
}

/// A directory cannot be used as a cache.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// It cannot be created or inspected.
    #[error("{0}: {1}")]
    Io(PathBuf, #[source] io::Error),
    /// It belongs to another user, or its mode lets other users in.
    #[error(
        "{0} must belong to the user that runs this program and be closed to others (chmod 700): compiled code is executed from there"
    )]
    Permissions(PathBuf),
}

impl Cache {
    /// Opens a cache directory; creates it with mode 0700 if it does not exist.
    ///
    /// # Errors
    /// If it cannot be created, belongs to another user, or its mode lets other users in.
    pub fn open(directory: &Path) -> Result<Self, CacheError> {
        let io = |error| CacheError::Io(directory.to_owned(), error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(io)?;
        let found = fs::symlink_metadata(directory).map_err(io)?;
        // The owner of a new file is this process's user.
        let probe = tempfile::NamedTempFile::new_in(directory).map_err(io)?;
        let our_uid = probe.as_file().metadata().map_err(io)?.uid();
        if !found.is_dir() || found.uid() != our_uid || found.permissions().mode() & 0o077 != 0 {
            return Err(CacheError::Permissions(directory.to_owned()));
        }
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// Returns a module's compiled code from the cache, or compiles and caches it.
    ///
    /// # Errors
    /// The error of `compile`. A file that cannot be read or written is logged and the module is compiled.
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
                tracing::warn!(path = %path.display(), %error, "cached module is unusable; compiling it again")
            }
        }
        let code = compile()?;
        if let Err(error) = self.write(&path, &key, &code) {
            tracing::warn!(path = %path.display(), %error, "compiled module could not be cached");
        }
        Ok(code)
    }

    /// Writes to a temporary file and renames it, so that cached files are always complete.
    fn write(&self, path: &Path, key: &Key, code: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(key.file_digest(code).as_bytes())?;
        file.write_all(code)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(&self.directory)?.sync_all()
    }
}

/// Reads the code from a file and verifies its digest. `None` if there is no file.
fn read(path: &Path, key: &Key) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = match postern_files::read(path, MAX_SIZE) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let (file_digest, code) = bytes
        .split_at_checked(DIGEST_LEN)
        .ok_or_else(|| io::Error::other("the file is truncated"))?;
    if key.file_digest(code).as_bytes() != file_digest {
        return Err(io::Error::other("the digest does not match the module"));
    }
    Ok(Some(bytes.split_off(DIGEST_LEN)))
}

/// Length of the digest at the start of a file, in hexadecimal digits.
const DIGEST_LEN: usize = 64;

/// What compiled code depends on: the module, and wasmtime's version, CPU features and engine settings, which wasmtime
/// hashes.
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

    /// Digest over key and code: code stored under another module's name is rejected.
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
    fn a_compiled_module_is_cached_and_a_damaged_one_is_recompiled() {
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
        let cached = cache.get_or_compile(&engine, digest, || Err(())).unwrap();
        assert_eq!(cached, b"its code", "not recompiled");

        let whole = fs::read(&file).unwrap();
        let mut changed = whole.clone();
        *changed.last_mut().unwrap() ^= 1;
        for damaged in [&changed[..], &whole[..20], &whole[..whole.len() - 1], b""] {
            fs::write(&file, damaged).unwrap();
            assert!(read(&file, &key).is_err());
            cache.get_or_compile(&engine, digest, compile).unwrap();
            assert_eq!(fs::read(&file).unwrap(), whole, "recompiled");
        }
        assert_eq!(files().len(), 1, "no temporary file is left");

        // Code stored under another module's name.
        let other = Key::of(&engine, Digest::of(b"another module"));
        fs::rename(&file, directory.join(other.file())).unwrap();
        assert!(read(&directory.join(other.file()), &other).is_err());
    }

    #[test]
    fn a_directory_open_to_other_users_is_rejected() {
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

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
use wasmtime::component::Component;

use crate::Digest;

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
    Open(PathBuf),
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
        let ours = tempfile::NamedTempFile::new_in(directory).map_err(io)?;
        let us = ours.as_file().metadata().map_err(io)?.uid();
        if !found.is_dir() || found.uid() != us || found.permissions().mode() & 0o077 != 0 {
            return Err(CacheError::Open(directory.to_owned()));
        }
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// The compiled form of a module: read if it is there, made and kept otherwise.
    ///
    /// # Errors
    /// What the compiler says of the module. A file that cannot be read or written costs time, not the module.
    pub(crate) fn component(
        &self,
        engine: &Engine,
        digest: Digest,
        wasm: &[u8],
    ) -> wasmtime::Result<Component> {
        let path = self
            .directory
            .join(format!("{}-{:016x}.cwasm", digest.hex(), compiler(engine)));
        match self.read(engine, &path) {
            Ok(Some(component)) => return Ok(component),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "compiled module not usable; compiling anew")
            }
        }
        let component = Component::from_binary(engine, wasm)?;
        if let Err(error) = self.write(&path, &component) {
            tracing::warn!(path = %path.display(), %error, "compiled module not kept");
        }
        Ok(component)
    }

    fn read(&self, engine: &Engine, path: &Path) -> wasmtime::Result<Option<Component>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some((digest, code)) = bytes.split_at_checked(SEAL) else {
            wasmtime::bail!("it is cut short");
        };
        if seal(code) != digest {
            wasmtime::bail!("it is not what was written");
        }
        #[expect(
            unsafe_code,
            reason = "written by `write` below into a directory that only we can write to, and unchanged since"
        )]
        // SAFETY: the bytes are what `Component::serialize` gave, see the reason.
        let component = unsafe { Component::deserialize(engine, code) }?;
        Ok(Some(component))
    }

    /// Written aside and renamed, so that a file that is there is whole.
    fn write(&self, path: &Path, component: &Component) -> wasmtime::Result<()> {
        let code = component.serialize()?;
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(&seal(&code))?;
        file.write_all(&code)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(&self.directory)?.sync_all()?;
        Ok(())
    }
}

/// Length of a file's seal: the digest of what follows, in hexadecimal.
const SEAL: usize = 64;

fn seal(code: &[u8]) -> Vec<u8> {
    Digest::of(code).hex().into_bytes()
}

/// What compiled code depends on besides the module: wasmtime's version, the CPU's features, the engine's settings.
fn compiler(engine: &Engine) -> u64 {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Engines;

    const EMPTY: &str = "(component)";

    #[test]
    fn a_compiled_module_is_kept_and_a_damaged_one_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("compiled");
        let cache = Cache::open(&directory).unwrap();
        let engine = Engines::new(4, 1 << 20).unwrap().plain;
        let wasm = wat::parse_str(EMPTY).unwrap();
        let digest = Digest::of(&wasm);
        cache.component(&engine, digest, &wasm).unwrap();
        let files = || -> Vec<_> {
            fs::read_dir(&directory)
                .unwrap()
                .map(|f| f.unwrap().path())
                .collect()
        };
        let [file] = <[PathBuf; 1]>::try_from(files()).unwrap();
        assert!(cache.read(&engine, &file).unwrap().is_some());

        let whole = fs::read(&file).unwrap();
        let mut changed = whole.clone();
        *changed.last_mut().unwrap() ^= 1;
        for damaged in [&changed[..], &whole[..20], &whole[..whole.len() - 1], b""] {
            fs::write(&file, damaged).unwrap();
            assert!(cache.read(&engine, &file).is_err());
            cache.component(&engine, digest, &wasm).unwrap();
            assert_eq!(fs::read(&file).unwrap(), whole, "made anew");
        }
        assert_eq!(files().len(), 1, "no temporary file stays");
    }

    #[test]
    fn a_directory_that_lets_others_in_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        Cache::open(directory.path()).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(Cache::open(directory.path()), Err(CacheError::Open(_))));
    }
}

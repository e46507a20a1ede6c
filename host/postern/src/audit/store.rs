//! The `--store` argument.

use std::num::NonZero;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use postern_audit::read::Reader;
use postern_audit::{Store, check_postgres_url};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Runtime;

/// Names the store. Every command but `restore` only reads it.
#[derive(Debug, clap::Args)]
pub(super) struct StoreArgs {
    /// The store: sqlite:PATH, or postgres://user:password@host/database
    #[arg(
        long = "store",
        value_name = "URL",
        env = "AUDIT_STORE_URL",
        hide_env_values = true,
        value_parser = secret
    )]
    url: Option<SecretString>,
}

fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(SecretString::from(text))
}

impl StoreArgs {
    fn url(&self) -> Result<&SecretString> {
        let Some(url) = &self.url else {
            bail!("no store given: pass --store sqlite:PATH or postgres://…, or set AUDIT_STORE_URL");
        };
        Ok(url)
    }

    /// The store to write to.
    pub(super) fn target(&self) -> Result<Store> {
        let url = self.url()?;
        if let Some(path) = url.expose_secret().strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return Ok(Store::Sqlite(PathBuf::from(path)));
        }
        check_postgres_url(url.expose_secret())?;
        Ok(Store::Postgres(url.clone()))
    }

    /// Opens the store for `readers` concurrent reads.
    pub(super) fn open(&self, runtime: &Runtime, readers: usize) -> Result<Reader> {
        let url = self.url()?;
        let readers = u32::try_from(readers).unwrap_or(u32::MAX);
        Ok(runtime.block_on(Reader::open(url.expose_secret(), readers))?)
    }
}

/// A multi-threaded runtime for the store.
pub(super) fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")
}

/// The number of ranges of a log that are read in parallel: each needs a thread to read and one to verify.
pub(super) fn readers() -> usize {
    std::thread::available_parallelism()
        .map_or(2, NonZero::get)
        .clamp(2, 8)
}

/// A warning about the store, or nothing.
pub(super) fn warning(reader: &Reader) -> String {
    if reader.wal_missing() {
        "warning: the database was in use when it was copied, and its -wal file is not beside it: the last events may be \
         missing\n"
            .to_owned()
    } else {
        String::new()
    }
}

//! A PKCS#11 token in software, SoftHSM2, in a folder of its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// Where Debian's package and others put the module.
const MODULES: [&str; 5] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

/// The token's label.
pub const LABEL: &str = "testbed";
/// The user's PIN.
pub const PIN: &str = "user-pin-4711";
/// The security officer's.
const SO_PIN: &str = "officer-pin-4712";

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Files or processes.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not installed.
    #[error("SoftHSM2 is not installed; `cargo xtask setup` installs it (Debian: softhsm2)")]
    NotInstalled,
    /// One of its tools, or `postern-kms-proxy keygen`, failed.
    #[error("{0}")]
    Failed(String),
}

/// An initialised token.
#[derive(Debug)]
pub struct SoftHsm {
    folder: TempDir,
    module: PathBuf,
}

impl SoftHsm {
    /// Makes a token without keys.
    ///
    /// # Errors
    ///
    /// When SoftHSM2 is not installed, or cannot make one.
    pub fn start() -> Result<Self, Error> {
        let module = MODULES.iter().map(PathBuf::from).find(|path| path.is_file());
        let hsm = Self {
            folder: TempDir::with_prefix("postern-softhsm-")?,
            module: module.ok_or(Error::NotInstalled)?,
        };
        fs::create_dir(hsm.tokens())?;
        fs::write(
            hsm.conf(),
            format!(
                "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
                hsm.tokens().display()
            ),
        )?;
        hsm.init(LABEL)?;
        Ok(hsm)
    }

    /// Makes one more token in the same place, with the same PIN.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn init(&self, label: &str) -> Result<(), Error> {
        let args = [
            "--init-token",
            "--free",
            "--label",
            label,
            "--pin",
            PIN,
            "--so-pin",
        ];
        self.util(&[&args[..], &[SO_PIN]].concat())
    }

    /// Runs `softhsm2-util` on it.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn util(&self, args: &[&str]) -> Result<(), Error> {
        let run = Command::new("softhsm2-util")
            .args(args)
            .env("SOFTHSM2_CONF", self.conf())
            .output();
        match run {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NotInstalled),
            Err(error) => Err(error.into()),
            Ok(output) => succeeded("softhsm2-util", &output).map(drop),
        }
    }

    /// Makes an Ed25519 key in it with `postern-kms-proxy keygen` and returns its public key, `ed25519:` and Base64.
    ///
    /// # Errors
    ///
    /// When the key is not made.
    pub fn keygen(&self, kms_proxy: &Path, label: &str) -> Result<String, Error> {
        let settings = self.folder.path().join("keygen.yaml");
        fs::write(
            &settings,
            format!(
                "listen: unix:unused.sock\ntoken: {}",
                self.settings(&serde_json::json!({}))
            ),
        )?;
        let output = Command::new(kms_proxy)
            .args(["keygen", "--json", "--label", label, "--config"])
            .arg(&settings)
            .env("SOFTHSM2_CONF", self.conf())
            .env("KMS_PROXY_PIN", PIN)
            .output()?;
        let document = succeeded("postern-kms-proxy keygen", &output)?;
        let made: serde_json::Value = serde_json::from_str(&document)
            .map_err(|error| Error::Failed(format!("postern-kms-proxy keygen: {error}: {document}")))?;
        let key = made.get("public_key").and_then(serde_json::Value::as_str);
        key.map(ToOwned::to_owned).ok_or(Error::Failed(document))
    }

    /// The `token` of a KMS proxy's settings, which finds the PIN in `KMS_PROXY_PIN`; `more` goes before what is usual.
    #[must_use]
    pub fn settings(&self, more: &serde_json::Value) -> serde_json::Value {
        let mut settings = serde_json::json!({
            "module": self.module,
            "label": LABEL,
            "pin": {"env": "KMS_PROXY_PIN"},
        });
        if let (Some(all), Some(more)) = (settings.as_object_mut(), more.as_object()) {
            all.extend(more.clone());
        }
        settings
    }

    /// What `SOFTHSM2_CONF` must name for whoever uses the module.
    #[must_use]
    pub fn conf(&self) -> PathBuf {
        self.folder.path().join("softhsm2.conf")
    }

    /// The PKCS#11 module.
    #[must_use]
    pub fn module(&self) -> &Path {
        &self.module
    }

    /// Where the tokens are.
    #[must_use]
    pub fn tokens(&self) -> PathBuf {
        self.folder.path().join("tokens")
    }

    /// Takes the tokens away, as if someone pulled the plug.
    ///
    /// # Errors
    ///
    /// When they are not there.
    pub fn remove(&self) -> io::Result<()> {
        fs::rename(self.tokens(), self.folder.path().join("removed"))?;
        fs::create_dir(self.tokens())
    }

    /// Puts them back.
    ///
    /// # Errors
    ///
    /// When they were not taken away.
    pub fn restore(&self) -> io::Result<()> {
        fs::remove_dir(self.tokens())?;
        fs::rename(self.folder.path().join("removed"), self.tokens())
    }
}

fn succeeded(what: &str, output: &Output) -> Result<String, Error> {
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(out)
    } else {
        let err = String::from_utf8_lossy(&output.stderr);
        Err(Error::Failed(format!("{what}: {}: {out}{err}", output.status)))
    }
}

//! A PKCS#11 software token, SoftHSM2, in its own folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// Where Debian and other distributions install the module.
const MODULES: [&str; 5] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

/// The label of the token.
pub const LABEL: &str = "testbed";
/// The user PIN.
pub const PIN: &str = "user-pin-4711";
/// The PIN of the security officer.
const SO_PIN: &str = "officer-pin-4712";

/// The token cannot be created or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or process operation failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// SoftHSM2 is not installed.
    #[error("SoftHSM2 is not installed; `cargo xtask setup` installs it (Debian: softhsm2)")]
    NotInstalled,
    /// `softhsm2-util` or `postern-kms-proxy keygen` failed.
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
    /// Creates a token without keys.
    ///
    /// # Errors
    ///
    /// When SoftHSM2 is not installed, or creating the token fails.
    pub fn create() -> Result<Self, Error> {
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

    /// Creates another token in the same folder, with the same PIN.
    ///
    /// # Errors
    ///
    /// When creating the token fails.
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

    /// Runs `softhsm2-util` on the tokens.
    ///
    /// # Errors
    ///
    /// When it cannot be run or fails.
    pub fn util(&self, args: &[&str]) -> Result<(), Error> {
        let run = Command::new("softhsm2-util")
            .args(args)
            .env("SOFTHSM2_CONF", self.conf())
            .output();
        match run {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NotInstalled),
            Err(error) => Err(error.into()),
            Ok(output) => stdout_of("softhsm2-util", &output).map(drop),
        }
    }

    /// Generates an Ed25519 key in the token with `postern-kms-proxy keygen`. Returns the public key, `ed25519:` and
    /// Base64.
    ///
    /// # Errors
    ///
    /// When the key cannot be generated.
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
        let document = stdout_of("postern-kms-proxy keygen", &output)?;
        let report: serde_json::Value = serde_json::from_str(&document)
            .map_err(|error| Error::Failed(format!("postern-kms-proxy keygen: {error}: {document}")))?;
        let key = report.get("public_key").and_then(serde_json::Value::as_str);
        key.map(ToOwned::to_owned).ok_or(Error::Failed(document))
    }

    /// The `token` section for the settings of a KMS proxy, with the PIN in `KMS_PROXY_PIN`. Members of `overrides` are
    /// added and take precedence.
    #[must_use]
    pub fn settings(&self, overrides: &serde_json::Value) -> serde_json::Value {
        let mut settings = serde_json::json!({
            "module": self.module,
            "label": LABEL,
            "pin": {"env": "KMS_PROXY_PIN"},
        });
        if let (Some(members), Some(overrides)) = (settings.as_object_mut(), overrides.as_object()) {
            members.extend(overrides.clone());
        }
        settings
    }

    /// The configuration file; processes that load the module need its path in `SOFTHSM2_CONF`.
    #[must_use]
    pub fn conf(&self) -> PathBuf {
        self.folder.path().join("softhsm2.conf")
    }

    /// The path of the PKCS#11 module.
    #[must_use]
    pub fn module(&self) -> &Path {
        &self.module
    }

    /// The folder of the tokens.
    #[must_use]
    pub fn tokens(&self) -> PathBuf {
        self.folder.path().join("tokens")
    }

    /// Removes the tokens, as if the device were unplugged.
    ///
    /// # Errors
    ///
    /// When they are already removed.
    pub fn remove(&self) -> io::Result<()> {
        fs::rename(self.tokens(), self.folder.path().join("removed"))?;
        fs::create_dir(self.tokens())
    }

    /// Restores the tokens.
    ///
    /// # Errors
    ///
    /// When they are not removed.
    pub fn restore(&self) -> io::Result<()> {
        fs::remove_dir(self.tokens())?;
        fs::rename(self.folder.path().join("removed"), self.tokens())
    }
}

fn stdout_of(program: &str, output: &Output) -> Result<String, Error> {
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(out)
    } else {
        let err = String::from_utf8_lossy(&output.stderr);
        Err(Error::Failed(format!("{program}: {}: {out}{err}", output.status)))
    }
}

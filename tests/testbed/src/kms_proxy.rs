//! The KMS proxy, `postern kms-proxy`, as a child process that can be killed and restarted.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ct_codecs::{Base64, Encoder as _};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::certificates::Identity;
use crate::softhsm::{self, SoftHsm};
use crate::{http, ports};

const START_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// The bearer token of callers in the default settings.
pub const TOKEN: &str = "a-bearer-token-for-the-kms-proxy";

/// The KMS proxy cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or process operation failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The PKCS#11 token cannot be created or used.
    #[error(transparent)]
    Token(#[from] softhsm::Error),
    /// The process exited before it was ready.
    #[error("the KMS proxy exited ({status}) before it was ready:\n{log}")]
    Exited {
        /// Its exit status.
        status: ExitStatus,
        /// Its log.
        log: String,
    },
    /// The process runs, but is not ready in time.
    #[error("the KMS proxy is not ready after half a minute:\n{0}")]
    NotReady(String),
}

/// A KMS proxy on a free port of the loopback address, with its own token, which holds a key for each signer.
#[derive(Debug)]
pub struct KmsProxy {
    binary: PathBuf,
    folder: TempDir,
    hsm: SoftHsm,
    addr: SocketAddr,
    child: Option<Child>,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl KmsProxy {
    /// Creates a token with a key for each of these signers and starts `postern kms-proxy`. The first signer is the
    /// current one; callers authenticate with [`TOKEN`].
    ///
    /// # Errors
    ///
    /// When the token cannot be created, or the proxy cannot be started.
    pub fn start(binary: PathBuf, signers: &[&str]) -> Result<Self, Error> {
        let mut proxy = Self::prepare(binary, signers)?;
        let settings = proxy.settings(signers);
        proxy.configure(&settings)?;
        proxy.restart()?;
        Ok(proxy)
    }

    /// As [`KmsProxy::start`], with the uses that each key is restricted to.
    ///
    /// # Errors
    ///
    /// As [`KmsProxy::start`].
    pub fn start_with_uses(binary: PathBuf, signers: &[(&str, &[&str])]) -> Result<Self, Error> {
        let labels: Vec<_> = signers.iter().map(|(label, _)| *label).collect();
        let mut proxy = Self::prepare(binary, &labels)?;
        let mut settings = proxy.settings(&labels);
        for (label, uses) in signers {
            if let Some(signer) = settings.pointer_mut(&format!("/signers/{label}")) {
                *signer = json!({"label": label, "uses": uses});
            }
        }
        proxy.configure(&settings)?;
        proxy.restart()?;
        Ok(proxy)
    }

    /// As [`KmsProxy::start`], but without settings and not started.
    ///
    /// # Errors
    ///
    /// When the token or one of the keys cannot be created.
    pub fn prepare(binary: PathBuf, labels: &[&str]) -> Result<Self, Error> {
        let hsm = SoftHsm::create()?;
        for label in labels {
            hsm.keygen(&binary, label)?;
        }
        Ok(Self {
            binary,
            folder: TempDir::with_prefix("postern-kms-proxy-")?,
            hsm,
            addr: SocketAddr::from(([127, 0, 0, 1], ports::free_port()?)),
            child: None,
            args: Vec::new(),
            env: vec![
                ("KMS_PROXY_PIN".to_owned(), softhsm::PIN.to_owned()),
                ("KMS_PROXY_TOKEN".to_owned(), TOKEN.to_owned()),
            ],
        })
    }

    /// Settings with these key labels as signer ids; the first is the current signer.
    #[must_use]
    pub fn settings(&self, signers: &[&str]) -> Value {
        let entries: serde_json::Map<_, _> = signers
            .iter()
            .map(|label| ((*label).to_owned(), json!({"label": label})))
            .collect();
        json!({
            "listen": self.addr.to_string(),
            "callers": {"gate": {"env": "KMS_PROXY_TOKEN"}},
            "token": self.hsm.settings(&json!({})),
            "signers": entries,
            "current": signers.first(),
        })
    }

    /// Writes the settings for the next start or [`KmsProxy::reload`].
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn configure(&self, settings: &Value) -> io::Result<()> {
        // JSON is valid YAML.
        fs::write(self.config(), settings.to_string())
    }

    /// Adds an argument to the command line of the next start.
    pub fn arg(&mut self, arg: &str) {
        self.args.push(arg.to_owned());
    }

    /// Sets an environment variable for the next start.
    pub fn env(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Starts the process, on the same port each time.
    ///
    /// # Errors
    ///
    /// When it cannot be spawned, exits, or is not ready after half a minute.
    pub fn restart(&mut self) -> Result<(), Error> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))?;
        let offset = log.metadata()?.len();
        let child = Command::new(&self.binary)
            .args(["kms-proxy", "--config"])
            .arg(self.config())
            .args(&self.args)
            .env("SOFTHSM2_CONF", self.hsm.conf())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let child = self.child.insert(child);
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                let log = self.log();
                return Err(Error::Exited { status, log });
            }
            if log_from(self.folder.path(), offset).contains("\"message\":\"serving\"") {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::NotReady(self.log()));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Sends a signal, named without `SIG`.
    ///
    /// # Errors
    ///
    /// When the process does not run, or the signal cannot be sent.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        let not_running = || io::Error::other("the KMS proxy does not run");
        let id = self.child.as_ref().ok_or_else(not_running)?.id();
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(id.to_string())
            .status()?;
        if status.success() {
            Ok(())
        } else {
            Err(not_running())
        }
    }

    /// Reloads its settings by SIGHUP.
    ///
    /// # Errors
    ///
    /// As [`KmsProxy::signal`].
    pub fn reload(&self) -> io::Result<()> {
        self.signal("HUP")
    }

    /// Waits until the process exits, after [`KmsProxy::signal`].
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        let not_running = || io::Error::other("the KMS proxy does not run");
        self.child.take().ok_or_else(not_running)?.wait()
    }

    /// The process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It fails if the process has already exited.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The address it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its `http` URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Its PKCS#11 token.
    #[must_use]
    pub fn hsm(&self) -> &SoftHsm {
        &self.hsm
    }

    /// The folder of its settings and log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file of its settings.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("kms-proxy.yaml")
    }

    /// Its standard output and error so far, of all its processes.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The public key of a signer according to the log, `ed25519:` and Base64.
    #[must_use]
    pub fn public_key(&self, signer: &str) -> Option<String> {
        let log = self.log();
        let lines = log.lines().rev();
        lines
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find_map(|line| {
                let matches = line.get("message")? == "signer" && line.get("signer_id")? == signer;
                matches.then(|| line.get("public_key")?.as_str().map(ToOwned::to_owned))?
            })
    }
}

impl Drop for KmsProxy {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the KMS proxy's log:\n{}", self.log());
        }
    }
}

/// The log from this offset on, in bytes.
fn log_from(folder: &Path, offset: u64) -> String {
    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    log.get(offset..).unwrap_or_default().to_owned()
}

/// A client of a KMS proxy, with its own connection pool.
#[derive(Debug, Clone)]
pub struct KmsClient {
    client: reqwest::Client,
    url: String,
    token: Option<String>,
}

/// A response of a KMS proxy.
#[derive(Debug, Clone)]
pub struct KmsResponse {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    /// The body.
    pub text: String,
}

impl KmsResponse {
    /// A string member of the JSON body.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<String> {
        let document: Value = serde_json::from_str(&self.text).ok()?;
        document.get(name)?.as_str().map(ToOwned::to_owned)
    }

    /// The value of a header; `name` is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }
}

impl KmsClient {
    /// A client without TLS that sends [`TOKEN`].
    ///
    /// # Errors
    ///
    /// When the client cannot be built.
    pub fn new(proxy: &KmsProxy) -> reqwest::Result<Self> {
        Ok(Self {
            client: http::builder().timeout(Duration::from_secs(20)).build()?,
            url: proxy.url(),
            token: Some(TOKEN.to_owned()),
        })
    }

    /// A client of the Unix socket with this name in the proxy's folder, without a token.
    ///
    /// # Errors
    ///
    /// When the client cannot be built.
    pub fn at_socket(proxy: &KmsProxy, name: &str) -> reqwest::Result<Self> {
        let builder = http::builder().timeout(Duration::from_secs(20));
        Ok(Self {
            client: builder.unix_socket(proxy.folder().join(name)).build()?,
            url: "http://kms-proxy".to_owned(),
            token: None,
        })
    }

    /// A client with TLS and without a token, which trusts this authority (PEM).
    ///
    /// # Errors
    ///
    /// When a certificate is invalid.
    pub fn with_tls(proxy: &KmsProxy, authority: &str, identity: Option<&Identity>) -> reqwest::Result<Self> {
        let authority = reqwest::Certificate::from_pem(authority.as_bytes())?;
        let mut builder = http::builder()
            .timeout(Duration::from_secs(20))
            .tls_certs_only([authority]);
        if let Some(Identity {
            certificate_pem,
            key_pem,
        }) = identity
        {
            let pem = format!("{certificate_pem}{key_pem}");
            builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes())?);
        }
        Ok(Self {
            client: builder.build()?,
            url: format!("https://{}", proxy.addr()),
            token: None,
        })
    }

    /// The same client with another token, or none.
    #[must_use]
    pub fn with_token(&self, token: Option<&str>) -> Self {
        Self {
            token: token.map(ToOwned::to_owned),
            ..self.clone()
        }
    }

    /// GETs a path.
    ///
    /// # Errors
    ///
    /// When there is no response.
    pub async fn get(&self, path: &str) -> reqwest::Result<KmsResponse> {
        self.send(self.client.get(format!("{}{path}", self.url))).await
    }

    /// POSTs a body to a path, with this `x-request-id`.
    ///
    /// # Errors
    ///
    /// When there is no response.
    pub async fn post(&self, path: &str, body: impl Into<Vec<u8>>, id: &str) -> reqwest::Result<KmsResponse> {
        let request = self.client.post(format!("{}{path}", self.url));
        self.send(request.header("x-request-id", id).body(body.into()))
            .await
    }

    /// Requests a signature over the payload by this signer, or by the current one.
    ///
    /// # Errors
    ///
    /// When there is no response.
    pub async fn sign(&self, payload: &[u8], signer: Option<&str>) -> reqwest::Result<KmsResponse> {
        let payload = Base64::encode_to_string(payload).unwrap_or_default();
        let body = match signer {
            Some(signer) => json!({"payload_b64": payload, "signer_id": signer}),
            None => json!({"payload_b64": payload}),
        };
        self.post("/sign", body.to_string(), "testbed").await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<KmsResponse> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let response = request.send().await?;
        let headers = response.headers().iter();
        Ok(KmsResponse {
            status: response.status().as_u16(),
            headers: headers
                .map(|(name, value)| {
                    let value = String::from_utf8_lossy(value.as_bytes());
                    (name.as_str().to_owned(), value.into_owned())
                })
                .collect(),
            text: response.text().await?,
        })
    }
}

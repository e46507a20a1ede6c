//! The KMS proxy, `postern-kms-proxy`, as a process of its own that can be killed and brought back.

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
use crate::{http, paths, ports};

const START_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// What a caller shows, unless settings say otherwise.
pub const TOKEN: &str = "a-bearer-token-for-the-kms-proxy";

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Files or processes.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The token.
    #[error(transparent)]
    Token(#[from] softhsm::Error),
    /// There is no binary.
    #[error("no postern-kms-proxy at {0}; run `cargo xtask build`, or set POSTERN_KMS_PROXY_BIN")]
    NotBuilt(String),
    /// It ended instead of serving.
    #[error("the KMS proxy ended ({status}) instead of serving:\n{log}")]
    Exited {
        /// How.
        status: ExitStatus,
        /// What it wrote.
        log: String,
    },
    /// It does not serve.
    #[error("the KMS proxy does not serve:\n{0}")]
    Late(String),
}

/// The binary: `POSTERN_KMS_PROXY_BIN`, else the one that cargo built for tests.
///
/// # Errors
///
/// When it is not there.
pub fn binary() -> Result<PathBuf, Error> {
    let path = match std::env::var_os("POSTERN_KMS_PROXY_BIN").filter(|value| !value.is_empty()) {
        Some(set) => PathBuf::from(set),
        None => paths::target().join("debug").join("postern-kms-proxy"),
    };
    if path.is_file() {
        Ok(path)
    } else {
        Err(Error::NotBuilt(path.display().to_string()))
    }
}

/// A KMS proxy on a free port of the loopback address, with a token of its own, which holds a key for each signer.
#[derive(Debug)]
pub struct KmsProxy {
    binary: PathBuf,
    folder: TempDir,
    hsm: SoftHsm,
    addr: SocketAddr,
    child: Option<Child>,
    args: Vec<String>,
    variables: Vec<(String, String)>,
}

impl KmsProxy {
    /// Makes a token with a key for each of these signers, and starts this binary, `postern-kms-proxy`, with it. The
    /// first is current; callers show [`TOKEN`].
    ///
    /// # Errors
    ///
    /// When the token cannot be made, or the proxy does not serve.
    pub fn start(binary: PathBuf, signers: &[&str]) -> Result<Self, Error> {
        let mut proxy = Self::prepare(binary, signers)?;
        let settings = proxy.settings(signers);
        proxy.configure(&settings)?;
        proxy.restart()?;
        Ok(proxy)
    }

    /// As [`KmsProxy::start`], with keys that are held to their uses.
    ///
    /// # Errors
    ///
    /// As [`KmsProxy::start`].
    pub fn start_for(binary: PathBuf, signers: &[(&str, &[&str])]) -> Result<Self, Error> {
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
    /// When the token or one of the keys cannot be made.
    pub fn prepare(binary: PathBuf, labels: &[&str]) -> Result<Self, Error> {
        let hsm = SoftHsm::start()?;
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
            variables: vec![
                ("KMS_PROXY_PIN".to_owned(), softhsm::PIN.to_owned()),
                ("KMS_PROXY_TOKEN".to_owned(), TOKEN.to_owned()),
            ],
        })
    }

    /// Settings in which these labels are signers' ids, and the first is current.
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

    /// Writes other settings, for the next start or [`KmsProxy::reload`].
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub fn configure(&self, settings: &Value) -> io::Result<()> {
        // JSON is YAML.
        fs::write(self.config(), settings.to_string())
    }

    /// Adds an argument to the command line of the next start.
    pub fn arg(&mut self, arg: &str) {
        self.args.push(arg.to_owned());
    }

    /// Sets an environment variable for the next start.
    pub fn variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it, again on the same port after [`KmsProxy::kill`].
    ///
    /// # Errors
    ///
    /// When it cannot be run, ends, or does not listen after half a minute.
    pub fn restart(&mut self) -> Result<(), Error> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))?;
        let before = log.metadata()?.len();
        let child = Command::new(&self.binary)
            .arg("--config")
            .arg(self.config())
            .args(&self.args)
            .env("SOFTHSM2_CONF", self.hsm.conf())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
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
            if log_after(self.folder.path(), before).contains("\"message\":\"serving\"") {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::Late(self.log()));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Sends it a signal by name, `HUP` or `TERM`.
    ///
    /// # Errors
    ///
    /// When it does not run, or the signal cannot be sent.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        let gone = || io::Error::other("the KMS proxy does not run");
        let id = self.child.as_ref().ok_or_else(gone)?.id();
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(id.to_string())
            .status()?;
        if status.success() { Ok(()) } else { Err(gone()) }
    }

    /// Has it read its settings again.
    ///
    /// # Errors
    ///
    /// As [`KmsProxy::signal`].
    pub fn reload(&self) -> io::Result<()> {
        self.signal("HUP")
    }

    /// Waits for its end, after [`KmsProxy::signal`].
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        let gone = || io::Error::other("the KMS proxy does not run");
        self.child.take().ok_or_else(gone)?.wait()
    }

    /// Its process, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Ends it as `kill -9` does: without a word.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its URL, without TLS.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Its token.
    #[must_use]
    pub fn hsm(&self) -> &SoftHsm {
        &self.hsm
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its settings' file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("kms-proxy.yaml")
    }

    /// What it has written.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A signer's public key as its log tells it, `ed25519:` and Base64.
    #[must_use]
    pub fn public_key(&self, signer: &str) -> Option<String> {
        let log = self.log();
        let lines = log.lines().rev();
        lines
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find_map(|line| {
                let is_it = line.get("message")? == "signer" && line.get("signer_id")? == signer;
                is_it.then(|| line.get("public_key")?.as_str().map(ToOwned::to_owned))?
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

/// What was written after so many bytes.
fn log_after(folder: &Path, before: u64) -> String {
    let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
    let before = usize::try_from(before).unwrap_or(usize::MAX);
    log.get(before..).unwrap_or_default().to_owned()
}

/// Someone who asks a proxy, over connections of its own.
#[derive(Debug, Clone)]
pub struct Caller {
    client: reqwest::Client,
    url: String,
    token: Option<String>,
}

/// What a proxy answers.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub text: String,
}

impl Reply {
    /// A field of the JSON document, as text.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<String> {
        let document: Value = serde_json::from_str(&self.text).ok()?;
        document.get(name)?.as_str().map(ToOwned::to_owned)
    }

    /// A header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }
}

impl Caller {
    /// Asks without TLS and shows [`TOKEN`].
    ///
    /// # Errors
    ///
    /// When there can be no client.
    pub fn new(proxy: &KmsProxy) -> reqwest::Result<Self> {
        Ok(Self {
            client: http::builder().timeout(Duration::from_secs(20)).build()?,
            url: proxy.url(),
            token: Some(TOKEN.to_owned()),
        })
    }

    /// Asks over the Unix socket of this name in the proxy's folder, and shows no token.
    ///
    /// # Errors
    ///
    /// When there can be no client.
    pub fn at_socket(proxy: &KmsProxy, name: &str) -> reqwest::Result<Self> {
        let builder = http::builder().timeout(Duration::from_secs(20));
        Ok(Self {
            client: builder.unix_socket(proxy.folder().join(name)).build()?,
            url: "http://kms-proxy".to_owned(),
            token: None,
        })
    }

    /// Asks with TLS, shows no token, and trusts who this authority (PEM) vouches for.
    ///
    /// # Errors
    ///
    /// When the certificates are none.
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

    /// Shows another token, or none.
    #[must_use]
    pub fn showing(&self, token: Option<&str>) -> Self {
        Self {
            token: token.map(ToOwned::to_owned),
            ..self.clone()
        }
    }

    /// GETs a path.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn get(&self, path: &str) -> reqwest::Result<Reply> {
        self.send(self.client.get(format!("{}{path}", self.url))).await
    }

    /// POSTs a body to a path, with an id of the request.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn post(&self, path: &str, body: impl Into<Vec<u8>>, id: &str) -> reqwest::Result<Reply> {
        let request = self.client.post(format!("{}{path}", self.url));
        self.send(request.header("x-request-id", id).body(body.into()))
            .await
    }

    /// Asks for a signature of the payload, by a signer or whoever is current.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn sign(&self, payload: &[u8], signer: Option<&str>) -> reqwest::Result<Reply> {
        let payload = Base64::encode_to_string(payload).unwrap_or_default();
        let question = match signer {
            Some(signer) => json!({"payload_b64": payload, "signer_id": signer}),
            None => json!({"payload_b64": payload}),
        };
        self.post("/sign", question.to_string(), "testbed").await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Reply> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let response = request.send().await?;
        let headers = response.headers().iter();
        Ok(Reply {
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

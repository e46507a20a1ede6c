//! A proxy whose log fails: it withholds signatures that are not recorded, and still stops on SIGTERM.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail this way"
)]

use std::io::{self, Read as _, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use postern_kms_proxy::settings::Keys;
use postern_kms_proxy::{Proxy, Settings};
use postern_serve::log::LogSettings;
use postern_serve::{Address, LogQueue, catch_file_size_signal, serve};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// The environment variable with the folder of a test that runs in a child process.
const FOLDER_ENV: &str = "POSTERN_TEST_FOLDER";
const SIGN: &str = "POST /sign HTTP/1.1\r\nhost: kms\r\nconnection: close\r\ncontent-length: 26\r\n\r\n\
    {\"payload_b64\":\"aGVsbG8=\"} ";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Reader {
    Active,
    Closed,
    Stalled,
}

/// A pipe for the log: the state of its reader, and the text that was read.
#[derive(Clone)]
struct Pipe(Arc<(Mutex<(Reader, String)>, Condvar)>);

impl Pipe {
    fn new() -> Self {
        Self(Arc::new((
            Mutex::new((Reader::Active, String::new())),
            Condvar::new(),
        )))
    }

    fn set_reader(&self, reader: Reader) {
        self.0.0.lock().unwrap().0 = reader;
        self.0.1.notify_all();
    }

    fn text(&self) -> String {
        self.0.0.lock().unwrap().1.clone()
    }
}

impl Write for Pipe {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let state = self.0.0.lock().unwrap();
        let mut state = self
            .0
            .1
            .wait_while(state, |state| state.0 == Reader::Stalled)
            .unwrap();
        if state.0 == Reader::Closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        state.1.push_str(str::from_utf8(text).unwrap());
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn subscribe(log: &LogQueue) {
    let log = log.clone();
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .log_internal_errors(false)
        .with_writer(move || log.clone())
        .init();
}

/// Settings with a software key, and a socket in this folder.
fn settings(folder: &Path) -> Settings {
    Settings {
        listen: Address::Unix(folder.join("s")),
        tls: None,
        callers: Vec::new(),
        keys: Keys::Software(None),
        log: LogSettings::default(),
    }
}

async fn send(folder: &Path, request: &str) -> String {
    let mut socket = UnixStream::connect(folder.join("s")).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    socket.read_to_string(&mut response).await.unwrap();
    response
}

async fn get(folder: &Path, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: kms\r\nconnection: close\r\n\r\n");
    send(folder, &request).await
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(Instant::now() < deadline, "not after 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn until_healthy(folder: &Path) {
    let healthy = async || get(folder, "/healthz").await.starts_with("HTTP/1.1 200");
    until("healthy", healthy).await;
}

fn is_withheld(response: &str) -> bool {
    response.starts_with("HTTP/1.1 503")
        && response.contains("\"record_unavailable\"")
        && !response.contains("signature_b64")
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_that_are_not_recorded_are_withheld() {
    let (folder, pipe) = (tempfile::tempdir().unwrap(), Pipe::new());
    let folder = folder.path();
    let log = LogQueue::start(pipe.clone()).unwrap();
    subscribe(&log);
    let proxy = Proxy::start(settings(folder), log).await.unwrap();

    // The line is written before the response.
    let response = send(folder, SIGN).await;
    let lines = pipe.text();
    assert!(response.contains("signature_b64"), "{response}");
    assert_eq!(lines.matches("\"result\":\"ok\"").count(), 1, "{lines}");
    send(folder, &SIGN.replace("aGVsbG8=", "aGVsbG8!")).await;
    let lines = pipe.text();
    assert_eq!(lines.matches("\"result\":\"bad_request\"").count(), 1, "{lines}");

    pipe.set_reader(Reader::Closed);
    for _ in 0..3 {
        let response = send(folder, SIGN).await;
        assert!(is_withheld(&response), "{response}");
    }
    let health = get(folder, "/healthz").await;
    assert!(
        is_withheld(&health) && health.contains("cannot be written"),
        "{health}"
    );
    let metrics = get(folder, "/metrics").await;
    for expected in [
        "postern_kms_proxy_log_up 0\n",
        "postern_kms_proxy_requests_total{result=\"record_unavailable\"} 3\n",
    ] {
        assert!(metrics.contains(expected), "{metrics}");
    }
    assert!(
        !metrics.contains("postern_kms_proxy_log_lines_lost_total 0\n"),
        "{metrics}"
    );

    // The proxy detects by itself that the log can be written again, and logs how many lines are missing.
    pipe.set_reader(Reader::Active);
    until_healthy(folder).await;
    let reported = async || pipe.text().contains("lines of this log were lost");
    until("the lost lines are reported", reported).await;
    let response = send(folder, SIGN).await;
    assert!(response.contains("signature_b64"), "{response}");

    pipe.set_reader(Reader::Stalled);
    let started = Instant::now();
    let response = send(folder, SIGN).await;
    assert!(is_withheld(&response), "{response}");
    // Logging never blocks, however many lines there are.
    for _ in 0..20_000 {
        tracing::info!("a line of some length, as most of them are");
    }
    for _ in 0..100 {
        assert!(is_withheld(&send(folder, SIGN).await));
    }
    let health = get(folder, "/healthz").await;
    assert!(is_withheld(&health) && health.contains("has stalled"), "{health}");
    assert!(started.elapsed() < Duration::from_secs(10));

    pipe.set_reader(Reader::Active);
    until_healthy(folder).await;
    let response = send(folder, SIGN).await;
    assert!(response.contains("signature_b64"), "{response}");

    pipe.set_reader(Reader::Stalled);
    let started = Instant::now();
    proxy.stop().await;
    assert!(started.elapsed() < Duration::from_secs(2));
}

/// Runs a test of this file in a child process.
fn run(test: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(FOLDER_ENV, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The folder in a child process that `run` started; `None` in the parent.
fn child_folder() -> Option<std::path::PathBuf> {
    std::env::var_os(FOLDER_ENV).map(Into::into)
}

fn wait_for_exit(mut child: Child, within: Duration) -> ExitStatus {
    let deadline = Instant::now() + within;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the process does not exit");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_stops_a_proxy_whose_log_is_not_read() {
    const NAME: &str = "sigterm_stops_a_proxy_whose_log_is_not_read";
    if let Some(folder) = child_folder() {
        let log = LogQueue::stderr().unwrap();
        subscribe(&log);
        let proxy = Proxy::start(settings(&folder), log.clone()).await.unwrap();
        serve(proxy, || Err("no settings".to_owned())).await.unwrap();
        return log.finish(Duration::from_millis(300));
    }
    for is_closed in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = run(NAME, folder.path());
        let listens = async || UnixStream::connect(folder.path().join("s")).await.is_ok();
        until("it listens", listens).await;
        if is_closed {
            // The reader exits.
            drop(child.stderr.take());
        } else {
            // The reader stalls. The pipe holds 64 KiB.
            for _ in 0..400 {
                get(folder.path(), "/signers").await;
            }
        }
        let response = send(folder.path(), SIGN).await;
        assert!(is_withheld(&response), "{response}");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let status = wait_for_exit(child, Duration::from_secs(5));
        assert!(status.success(), "{status}");
    }
}

#[tokio::test]
async fn exceeding_the_file_size_limit_is_only_an_error() {
    const NAME: &str = "exceeding_the_file_size_limit_is_only_an_error";
    let Some(folder) = child_folder() else {
        let folder = tempfile::tempdir().unwrap();
        let mut child = run(NAME, folder.path());
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        let status = wait_for_exit(child, Duration::from_secs(10));
        assert!(status.success() && text.contains("1 passed"), "{status}: {text}");
        return;
    };
    catch_file_size_signal().unwrap();
    let limit = Rlimit {
        current: Some(4),
        maximum: Some(4),
    };
    setrlimit(Resource::Fsize, limit).unwrap();
    let mut file = std::fs::File::create(folder.join("f")).unwrap();
    let error = file.write_all(b"too much").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
}

//! A proxy whose log fails: it signs nothing that is not on record, and ends when it is told to.
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

/// Where a test that runs in a process of its own has its files.
const INSIDE: &str = "POSTERN_TEST_FOLDER";
const SIGN: &str = "POST /sign HTTP/1.1\r\nhost: kms\r\nconnection: close\r\ncontent-length: 26\r\n\r\n\
    {\"payload_b64\":\"aGVsbG8=\"} ";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Reader {
    Reads,
    Gone,
    Sleeps,
}

/// What reads the log, and what it has read.
#[derive(Clone)]
struct Pipe(Arc<(Mutex<(Reader, String)>, Condvar)>);

impl Pipe {
    fn new() -> Self {
        Self(Arc::new((
            Mutex::new((Reader::Reads, String::new())),
            Condvar::new(),
        )))
    }

    fn reader(&self, reader: Reader) {
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
            .wait_while(state, |state| state.0 == Reader::Sleeps)
            .unwrap();
        if state.0 == Reader::Gone {
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

/// With a key in software, on a socket in this folder.
fn settings(folder: &Path) -> Settings {
    Settings {
        listen: Address::Unix(folder.join("s")),
        tls: None,
        callers: Vec::new(),
        keys: Keys::Software(None),
        log: LogSettings::default(),
    }
}

async fn ask(folder: &Path, request: &str) -> String {
    let mut socket = UnixStream::connect(folder.join("s")).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn get(folder: &Path, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: kms\r\nconnection: close\r\n\r\n");
    ask(folder, &request).await
}

async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !so().await {
        assert!(Instant::now() < deadline, "not after 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn until_well(folder: &Path) {
    let well = async || get(folder, "/healthz").await.starts_with("HTTP/1.1 200");
    until("it is well", well).await;
}

fn is_withheld(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 503")
        && answer.contains("\"record_unavailable\"")
        && !answer.contains("signature_b64")
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_signed_that_is_not_on_record() {
    let (folder, pipe) = (tempfile::tempdir().unwrap(), Pipe::new());
    let folder = folder.path();
    let log = LogQueue::start(pipe.clone()).unwrap();
    subscribe(&log);
    let proxy = Proxy::start(settings(folder), log).await.unwrap();

    // The line is there before the answer is.
    let answer = ask(folder, SIGN).await;
    let lines = pipe.text();
    assert!(answer.contains("signature_b64"), "{answer}");
    assert_eq!(lines.matches("\"result\":\"ok\"").count(), 1, "{lines}");
    ask(folder, &SIGN.replace("aGVsbG8=", "aGVsbG8!")).await;
    let lines = pipe.text();
    assert_eq!(lines.matches("\"result\":\"bad_request\"").count(), 1, "{lines}");

    pipe.reader(Reader::Gone);
    for _ in 0..3 {
        let answer = ask(folder, SIGN).await;
        assert!(is_withheld(&answer), "{answer}");
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

    // It finds out by itself that the log can be written again, and the log says what is missing.
    pipe.reader(Reader::Reads);
    until_well(folder).await;
    let noted = async || pipe.text().contains("lines of this log were lost");
    until("the log says what is missing", noted).await;
    let answer = ask(folder, SIGN).await;
    assert!(answer.contains("signature_b64"), "{answer}");

    pipe.reader(Reader::Sleeps);
    let started = Instant::now();
    let answer = ask(folder, SIGN).await;
    assert!(is_withheld(&answer), "{answer}");
    // Nobody who logs waits, however much it is.
    for _ in 0..20_000 {
        tracing::info!("a line of some length, as most of them are");
    }
    for _ in 0..100 {
        assert!(is_withheld(&ask(folder, SIGN).await));
    }
    let health = get(folder, "/healthz").await;
    assert!(is_withheld(&health) && health.contains("has stalled"), "{health}");
    assert!(started.elapsed() < Duration::from_secs(10));

    pipe.reader(Reader::Reads);
    until_well(folder).await;
    let answer = ask(folder, SIGN).await;
    assert!(answer.contains("signature_b64"), "{answer}");

    pipe.reader(Reader::Sleeps);
    let started = Instant::now();
    proxy.stop().await;
    assert!(started.elapsed() < Duration::from_secs(2));
}

/// Runs a test of this program in a process of its own.
fn run(test: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The folder, in a process that `run` started.
fn inside() -> Option<std::path::PathBuf> {
    std::env::var_os(INSIDE).map(Into::into)
}

fn end(mut child: Child, within: Duration) -> ExitStatus {
    let deadline = Instant::now() + within;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_a_proxy_whose_log_nobody_reads() {
    const NAME: &str = "sigterm_ends_a_proxy_whose_log_nobody_reads";
    if let Some(folder) = inside() {
        let log = LogQueue::stderr().unwrap();
        subscribe(&log);
        let proxy = Proxy::start(settings(&folder), log.clone()).await.unwrap();
        serve(proxy, || Err("no settings".to_owned())).await.unwrap();
        return log.finish(Duration::from_millis(300));
    }
    for is_gone in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = run(NAME, folder.path());
        let listens = async || UnixStream::connect(folder.path().join("s")).await.is_ok();
        until("it listens", listens).await;
        if is_gone {
            // The reader dies.
            drop(child.stderr.take());
        } else {
            // It sleeps. The pipe has 64 KiB.
            for _ in 0..400 {
                get(folder.path(), "/signers").await;
            }
        }
        let answer = ask(folder.path(), SIGN).await;
        assert!(is_withheld(&answer), "{answer}");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let status = end(child, Duration::from_secs(5));
        assert!(status.success(), "{status}");
    }
}

#[tokio::test]
async fn a_file_size_limit_is_an_error_and_not_the_end() {
    const NAME: &str = "a_file_size_limit_is_an_error_and_not_the_end";
    let Some(folder) = inside() else {
        let folder = tempfile::tempdir().unwrap();
        let mut child = run(NAME, folder.path());
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        let status = end(child, Duration::from_secs(10));
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

//! A writing process to kill, or to inject system call failures into: the test binary, run again.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use postern_audit::AppendError;
use rustix::process::{Signal, set_parent_process_death_signal};
use uuid::Uuid;

/// The variable with the path of the store.
const STORE: &str = "POSTERN_TEST_AUDIT_STORE";
/// The variable with the number of calls of each caller.
const CALLS: &str = "POSTERN_TEST_AUDIT_CALLS";
/// The test that runs as the process.
const TEST: &str = "crash::writer_process";
/// The number of callers.
const CALLERS: usize = 6;

/// The body of the test [`TEST`]. Does nothing unless [`Writer`] started it.
pub(crate) fn main() {
    let (Some(path), Ok(calls)) = (std::env::var_os(STORE), std::env::var(CALLS)) else {
        return;
    };
    // The wrapper's end, too, is this process's end.
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let calls = calls.parse().unwrap();
    // Ends the line with the name of the test.
    println!();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(write(Path::new(&path), calls));
}

async fn write(path: &Path, calls: usize) {
    let mut settings = super::sqlite(path);
    settings.deadline = Duration::from_millis(500);
    settings.checkpoints.every_events = 20;
    settings.checkpoints.every = Duration::from_millis(100);
    settings.checkpoints.file = Some(path.with_extension("checkpoints"));
    let opened = postern_audit::Log::open(settings, super::Signer::new(), postern_audit::Metrics::default());
    let log = match opened.await {
        Ok(log) => log,
        Err(error) => {
            eprintln!("not opened: {error}");
            std::process::exit(3);
        }
    };
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let log = log.clone();
            tokio::spawn(async move {
                for call in 0..calls {
                    log.enqueue(super::event("/noted"));
                    let events: Vec<_> = (0..=call % 4)
                        .map(|n| super::event(format!("/{caller}/{call}/{n}")))
                        .collect();
                    let result = log.append_all(events.clone()).await;
                    // Retries the same events, as a gate does.
                    let result = match result {
                        Err(AppendError::DeadlineExceeded | AppendError::Unavailable(_)) => {
                            log.append_all(events.clone()).await
                        }
                        result => result,
                    };
                    if result.is_ok() {
                        acknowledge(&events);
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    log.close().await;
}

/// Prints all ids with one write: those that the parent reads were acknowledged.
fn acknowledge(events: &[postern_audit::Event]) {
    let lines: String = events.iter().map(|event| format!("ack {}\n", event.id)).collect();
    // The injected fault may hit this write.
    let _ = std::io::stdout().lock().write_all(lines.as_bytes());
    let _ = std::io::stdout().lock().flush();
}

/// The writing process.
pub(crate) struct Writer {
    pub(crate) child: Child,
    first: Receiver<()>,
    reader: JoinHandle<BTreeSet<Uuid>>,
}

impl Writer {
    /// Starts the process, under another program if `wrapper` is not empty.
    pub(crate) fn start(store: &Path, calls: usize, wrapper: &[String]) -> Self {
        let own = std::env::current_exe().unwrap();
        let mut command = match wrapper {
            [] => Command::new(&own),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(&own);
                command
            }
        };
        let mut child = command
            .args(["--exact", TEST, "--nocapture", "--test-threads=1"])
            .env(STORE, store)
            .env(CALLS, calls.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{wrapper:?}: {error}; `cargo xtask setup` installs what tests need")
            });
        let out = BufReader::new(child.stdout.take().unwrap());
        let (began, first) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut acknowledged = BTreeSet::new();
            for line in out.lines().map_while(Result::ok) {
                if let Some(id) = line.strip_prefix("ack ").and_then(|id| Uuid::parse_str(id).ok()) {
                    acknowledged.insert(id);
                    let _ = began.send(());
                }
            }
            acknowledged
        });
        Self { child, first, reader }
    }

    /// Waits for the first acknowledgement.
    pub(crate) fn began(&self) {
        self.first
            .recv_timeout(Duration::from_secs(30))
            .expect("nothing acknowledged within 30 s");
    }

    /// Waits for the end. Returns the acknowledged ids and the exit code.
    pub(crate) fn acknowledged(mut self) -> (BTreeSet<Uuid>, Option<i32>) {
        let ended = self.ended(Duration::from_secs(60));
        if ended.is_none() {
            self.child.kill().unwrap();
        }
        assert!(ended.is_some(), "the writing process did not end within 60 s");
        (
            self.reader.join().unwrap(),
            ended.and_then(|status| status.code()),
        )
    }

    fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            let status = self.child.try_wait().unwrap();
            if status.is_some() || Instant::now() > deadline {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

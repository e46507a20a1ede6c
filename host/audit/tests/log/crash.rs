//! Nothing acknowledged is lost when the writing process is killed at random times, or when any one of its writing system
//! calls fails.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::writer::{self, Writer};
use crate::support::{chain, event, open, sqlite};
use uuid::Uuid;

/// Not a test, but the process that the tests below start.
#[test]
fn writer_process() {
    writer::main();
}

/// Checks that each acknowledged event is there once, the chain is intact, and the log can be written to.
async fn check(path: &Path, acknowledged: &BTreeSet<Uuid>, what: &str) {
    let mut settings = sqlite(path);
    settings.checkpoints.file = Some(path.with_extension("checkpoints"));
    let log = open(settings).await;
    log.append(event("/after")).await.unwrap();
    log.close().await;
    // Also checks that no id is a duplicate.
    let there: BTreeSet<Uuid> = chain(path).await.iter().map(|row| row.id).collect();
    let missing: Vec<_> = acknowledged.difference(&there).collect();
    assert!(
        missing.is_empty(),
        "{what}: {} acknowledged and not there: {missing:?}",
        missing.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_at_any_time_loses_nothing_acknowledged() {
    let mut all = 0;
    for _ in 0..10 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.db");
        let mut acknowledged = BTreeSet::new();
        for _ in 0..5 {
            let mut process = Writer::start(&path, usize::MAX, &[]);
            process.began();
            let delay = u64::try_from(Uuid::new_v4().as_u128() % 200_000).unwrap();
            std::thread::sleep(Duration::from_micros(delay));
            process.child.kill().unwrap();
            let (ids, code) = process.acknowledged();
            assert_eq!(code, None, "it was killed");
            acknowledged.extend(ids);
            check(&path, &acknowledged, "killed").await;
        }
        all += acknowledged.len();
    }
    assert!(all > 1000, "under load: {all} acknowledged");
}

/// The number of calls of each caller, and the number of events in all.
const ROUNDS: usize = 3;
const ALL: usize = 36;

/// The system calls that write the SQLite files and the external checkpoint file.
const CALLS: [&str; 6] = ["pwrite64", "write", "fsync", "fdatasync", "ftruncate", "unlink"];

/// The command that traces a process's calls on the files of the store at `path`. A fault in another call, such as the one
/// by which tokio wakes its driver, hangs the process instead of the log.
fn strace(path: &Path, arguments: &[&str]) -> Vec<String> {
    let mut command = ["strace", "-f", "-qq"].map(str::to_owned).to_vec();
    for extension in ["db", "db-wal", "db-shm", "db-journal", "checkpoints"] {
        command.push("-P".into());
        command.push(path.with_extension(extension).to_str().unwrap().to_owned());
    }
    command.extend(arguments.iter().map(|&argument| argument.to_owned()));
    command
}

/// The number of calls of each, by the thread that makes most of them.
fn counts(path: &Path) -> Vec<(&'static str, usize)> {
    let log = path.with_extension("strace");
    let trace = format!("trace={}", CALLS.join(","));
    let strace = strace(path, &["-e", &trace, "-o", log.to_str().unwrap()]);
    let (acknowledged, code) = Writer::start(path, ROUNDS, &strace).acknowledged();
    assert_eq!(
        (code, acknowledged.len()),
        (Some(0), ALL),
        "without a fault, all events are acknowledged"
    );
    let log = std::fs::read_to_string(log).unwrap();
    let most = |call: &str| {
        let mut threads = std::collections::BTreeMap::<&str, usize>::new();
        for line in log.lines() {
            let mut words = line.split_whitespace();
            let thread = words.next().unwrap_or_default();
            if words
                .next()
                .is_some_and(|word| word.starts_with(&format!("{call}(")))
            {
                *threads.entry(thread).or_default() += 1;
            }
        }
        threads.into_values().max().unwrap_or(0)
    };
    CALLS.iter().map(|call| (*call, most(call))).collect()
}

/// The faults of the test below: each call fails once, alternately with an I/O error, a full disk, and a kill; and the disk
/// is full from some call on.
fn faults(counts: &[(&'static str, usize)]) -> Vec<String> {
    let kinds = ["error=EIO", "error=ENOSPC", "signal=KILL"];
    let mut faults = Vec::new();
    for (call, count) in counts {
        let every = kinds.iter().cycle().zip(1..=*count);
        faults.extend(every.map(|(fault, at)| format!("{call}:{fault}:when={at}")));
        let from = [count / 4, count / 2, count * 3 / 4].map(|at| at + 1);
        faults.extend(from.map(|at| format!("{call}:error=ENOSPC:when={at}+")));
    }
    faults
}

fn next(faults: &Mutex<Vec<String>>) -> Option<String> {
    faults.lock().unwrap().pop()
}

#[test]
fn a_failing_write_loses_nothing_acknowledged() {
    let version = Command::new("strace").arg("-V").output();
    assert!(
        version.is_ok(),
        "strace is missing: `cargo xtask setup` installs it"
    );
    let directory = tempfile::tempdir().unwrap();
    let counts = counts(&directory.path().join("counted.db"));
    let faults = Mutex::new(faults(&counts));
    let (recovered, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // Runs are mostly idle, so several run in parallel.
    let worker = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        while let Some(fault) = next(&faults) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("audit.db");
            let inject = format!("inject={fault}");
            let strace = strace(&path, &["-e", &inject, "-o", "/dev/null"]);
            let (acknowledged, code) = Writer::start(&path, ROUNDS, &strace).acknowledged();
            runtime.block_on(check(&path, &acknowledged, &fault));
            let all = code == Some(0) && acknowledged.len() == ALL;
            if all { &recovered } else { &failed }.fetch_add(1, Ordering::AcqRel);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(worker);
        }
    });
    let (recovered, failed) = (recovered.load(Ordering::Acquire), failed.load(Ordering::Acquire));
    eprintln!(
        "{counts:?}: the process acknowledged all events after {recovered} faults, and not after {failed}"
    );
    assert!(
        recovered > 20,
        "the process must recover from most faults: only {recovered} of {}",
        recovered + failed
    );
}

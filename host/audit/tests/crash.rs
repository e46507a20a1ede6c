//! Nothing acknowledged is lost: the writing process is killed at random moments, and each of its system calls that
//! writes fails once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail this way"
)]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::writer::{self, Writer};
use support::{chain, event, open, sqlite};
use uuid::Uuid;

/// Not a test but the process that the tests below start.
#[test]
fn writer_process() {
    writer::main();
}

/// What was acknowledged is there once, the chain is whole, and the log can be written to.
async fn check(path: &Path, acknowledged: &BTreeSet<Uuid>, what: &str) {
    let mut settings = sqlite(path);
    settings.checkpoints.file = Some(path.with_extension("checkpoints"));
    let log = open(settings).await;
    log.append(event("/after")).await.unwrap();
    log.close().await;
    // Also sees to it that no id stands there twice.
    let there: BTreeSet<Uuid> = chain(path).await.iter().map(|row| row.id).collect();
    let missing: Vec<_> = acknowledged.difference(&there).collect();
    assert!(
        missing.is_empty(),
        "{what}: {} acknowledged and not there: {missing:?}",
        missing.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_it_loses_nothing_acknowledged() {
    let mut all = 0;
    for _ in 0..10 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.db");
        let mut acknowledged = BTreeSet::new();
        for _ in 0..5 {
            let mut process = Writer::start(&path, usize::MAX, &[]);
            process.began();
            let moment = u64::try_from(Uuid::new_v4().as_u128() % 200_000).unwrap();
            std::thread::sleep(Duration::from_micros(moment));
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

/// How many calls each caller makes before the process ends, and how many events they are in all.
const ROUNDS: usize = 3;
const ALL: usize = 36;

/// What SQLite, and the file of checkpoints, write with.
const CALLS: [&str; 6] = ["pwrite64", "write", "fsync", "fdatasync", "ftruncate", "unlink"];

fn strace(arguments: &[String]) -> Vec<String> {
    let mut behind = vec!["strace".to_owned(), "-f".into(), "-qq".into()];
    behind.extend_from_slice(arguments);
    behind
}

/// How often the thread that calls it most calls each.
fn counts(path: &Path) -> Vec<(&'static str, usize)> {
    let log = path.with_extension("strace");
    let trace = format!("trace={}", CALLS.join(","));
    let arguments = ["-e", &trace, "-o", log.to_str().unwrap()].map(str::to_owned);
    let (acknowledged, code) = Writer::start(path, ROUNDS, &strace(&arguments)).acknowledged();
    assert_eq!(
        (code, acknowledged.len()),
        (Some(0), ALL),
        "without a fault all is acknowledged"
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

/// The faults of the test below: each call of each kind fails once, in turn as the disk breaks, as it is full, and as
/// the power goes; and the disk is full from some moment on.
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
fn whichever_write_fails_nothing_acknowledged_is_lost() {
    let version = Command::new("strace").arg("-V").output();
    assert!(
        version.is_ok(),
        "strace is missing: `cargo xtask setup` installs it"
    );
    let directory = tempfile::tempdir().unwrap();
    let counts = counts(&directory.path().join("counted.db"));
    let faults = Mutex::new(faults(&counts));
    let (went_on, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // Most of a run is waiting.
    let lane = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        while let Some(fault) = next(&faults) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("audit.db");
            let inject = format!("inject={fault}");
            let arguments = ["-e", &inject, "-o", "/dev/null"].map(str::to_owned);
            let (acknowledged, code) = Writer::start(&path, ROUNDS, &strace(&arguments)).acknowledged();
            runtime.block_on(check(&path, &acknowledged, &fault));
            let all = code == Some(0) && acknowledged.len() == ALL;
            if all { &went_on } else { &ended }.fetch_add(1, Ordering::AcqRel);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(lane);
        }
    });
    let (went_on, ended) = (went_on.load(Ordering::Acquire), ended.load(Ordering::Acquire));
    eprintln!("{counts:?}: after {went_on} faults the same process acknowledged all, after {ended} not");
    assert!(
        went_on > 20,
        "the same process goes on after a fault: only {went_on} of {}",
        went_on + ended
    );
}

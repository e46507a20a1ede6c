//! With a real Postgres: many hosts append to one chain, and nothing acknowledged is lost when the server fails.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Signer, event, manifest_signature, open, postgres, postgres_chain, until};
use postern_audit::{Event, Log, Metrics, OpenError, StoreError};
use postern_testbed::postgres::Postgres;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

/// Opens a log as a host that writes to this database.
async fn host(url: &str, name: &str) -> Log {
    let mut settings = postgres(url);
    settings.host = name.to_owned();
    settings.deadline = Duration::from_secs(20);
    open(settings).await
}

fn events(host: usize, call: usize, count: usize) -> Vec<Event> {
    (0..count).map(|n| event(format!("/{host}/{call}/{n}"))).collect()
}

/// Takes the advisory lock and keeps it, as any role that can log in may.
async fn hold_lock(url: &str) -> PgConnection {
    let mut owner = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql("CREATE ROLE nobody LOGIN")
        .execute(&mut owner)
        .await
        .unwrap();
    owner.close().await.unwrap();
    let mut session = PgConnection::connect(&url.replacen("postgres@", "nobody@", 1))
        .await
        .unwrap();
    sqlx::query("SELECT pg_advisory_lock($1)")
        .bind(0x706f_7374_6572_6e01_i64)
        .execute(&mut session)
        .await
        .unwrap();
    session
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_keeps_the_lock_delays_no_host() {
    let server = Postgres::start().unwrap();
    let url = server.url();
    let log = open(postgres(&url)).await;
    log.append(event("/before")).await.unwrap();
    let session = hold_lock(&url).await;
    let began = Instant::now();
    for number in 0..20 {
        log.append(event(format!("/{number}"))).await.unwrap();
    }
    let waited = began.elapsed();
    assert!(
        waited < Duration::from_millis(1500),
        "{waited:?}: the host must wait once, not for each event"
    );
    assert_eq!(log.state().store_failure, None);
    session.close().await.unwrap();
    log.append(event("/after")).await.unwrap();
    log.close().await;
    let rows = postgres_chain(&url).await;
    assert_eq!(rows.len(), 22);
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_append_concurrently_without_the_lock_make_one_chain() {
    let server = Postgres::start().unwrap();
    let url = server.url();
    let (one, two) = tokio::join!(host(&url, "host-1"), host(&url, "host-2"));
    let hosts = [one, two];
    let session = hold_lock(&url).await;
    let tasks: Vec<_> = (0..8)
        .map(|caller| {
            let log = hosts[caller % 2].clone();
            let other = hosts[(caller + 1) % 2].clone();
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for call in 0..40 {
                    let batch = events(caller, call, 5);
                    ids.extend(batch.iter().map(|event| event.id));
                    // The same events to both at once: each is in the log once.
                    let (here, there) = tokio::join!(log.append_all(batch.clone()), other.append_all(batch));
                    assert_eq!(here.unwrap(), there.unwrap());
                }
                ids
            })
        })
        .collect();
    let mut acknowledged = BTreeSet::new();
    for task in tasks {
        acknowledged.extend(task.await.unwrap());
    }
    for host in hosts {
        assert_eq!(host.state().store_failure, None);
        host.close().await;
    }
    session.close().await.unwrap();
    let rows = postgres_chain(&url).await;
    let stored: BTreeSet<Uuid> = rows.iter().map(|row| row.id).collect();
    assert_eq!(rows.len(), 8 * 40 * 5, "without an event of a failure");
    assert_eq!(stored, acknowledged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_another_origin_writes_no_checkpoint() {
    let server = Postgres::start().unwrap();
    let url = server.url();
    let settings = |name: &str, origin: &str| {
        let mut settings = postgres(&url);
        settings.host = name.into();
        settings.origin = origin.into();
        settings.checkpoints.every = Duration::from_millis(200);
        settings
    };
    // Both open an empty log, which has no origin yet.
    let one = open(settings("host-1", "postern.example/audit")).await;
    let two = open(settings("host-2", "postern.example/other")).await;
    one.append(event("/one")).await.unwrap();
    until("a checkpoint", || one.state().checkpoint.is_some()).await;
    two.append(event("/two")).await.unwrap();
    until("the fault", || two.state().checkpoint_error.is_some()).await;
    let fault = two.state().checkpoint_error.unwrap();
    assert!(fault.starts_with("no checkpoint: store: "), "{fault}");
    assert!(fault.contains("one origin"), "{fault}");
    assert_eq!(two.state().store_failure, None, "events are still written");
    two.append(event("/again")).await.unwrap();
    two.close().await;
    one.close().await;
    let mut store = PgConnection::connect(&url).await.unwrap();
    let notes: Vec<String> = sqlx::query_scalar("SELECT note FROM audit_checkpoints")
        .fetch_all(&mut store)
        .await
        .unwrap();
    assert!(
        notes
            .iter()
            .all(|note| note.starts_with("postern.example/audit\n"))
    );
    let again = settings("host-2", "postern.example/other");
    let again = Log::open(again, Signer::new(), Metrics::default()).await;
    assert!(
        matches!(again, Err(OpenError::OriginMismatch { .. })),
        "{again:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_rule_drops_are_not_acknowledged() {
    let server = Postgres::start().unwrap();
    let url = server.url();
    let mut settings = postgres(&url);
    settings.deadline = Duration::from_millis(400);
    let log = open(settings).await;
    let mut store = PgConnection::connect(&url).await.unwrap();
    let rule = "CREATE RULE dropping AS ON INSERT TO audit_events DO INSTEAD NOTHING";
    sqlx::raw_sql(rule).execute(&mut store).await.unwrap();
    let dropped = event("/dropped");
    let refused = log.append(dropped.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("rule or trigger"), "{refused}");
    sqlx::raw_sql("DROP RULE dropping ON audit_events")
        .execute(&mut store)
        .await
        .unwrap();
    until("it works again", || log.state().store_failure.is_none()).await;
    log.append(dropped.clone()).await.unwrap();
    log.close().await;
    let rows = postgres_chain(&url).await;
    assert_eq!(rows.iter().filter(|row| row.id == dropped.id).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_append_concurrently_make_one_chain() {
    let server = Postgres::start().unwrap();
    let url = server.url();
    // They start at the same time: one creates the tables, the other waits for it.
    let (one, two) = tokio::join!(host(&url, "host-1"), host(&url, "host-2"));
    let hosts = [one, two];
    let began = Instant::now();
    let tasks: Vec<_> = (0..40)
        .map(|caller| {
            let log = hosts[caller % 2].clone();
            let other = hosts[(caller + 1) % 2].clone();
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for call in 0..10 {
                    let batch = events(caller, call, 50);
                    ids.extend(batch.iter().map(|event| event.id));
                    let receipts = log.append_all(batch.clone()).await.unwrap();
                    if call == 5 {
                        // A gate that lost the acknowledgement retries with the other host.
                        assert_eq!(other.append_all(batch).await.unwrap(), receipts);
                    }
                }
                ids
            })
        })
        .collect();
    let mut acknowledged = BTreeSet::new();
    for task in tasks {
        acknowledged.extend(task.await.unwrap());
    }
    let rate = 20_000.0 / began.elapsed().as_secs_f64();
    eprintln!("two hosts, one Postgres: {rate:.0} events/s");
    for host in hosts {
        host.close().await;
    }
    let rows = postgres_chain(&url).await;
    let stored: BTreeSet<Uuid> = rows.iter().map(|row| row.id).collect();
    assert_eq!(rows.len(), 20_000);
    assert_eq!(stored, acknowledged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_nothing_acknowledged_and_hosts_resume() {
    let mut server = Postgres::start().unwrap();
    let url = server.url();
    let hosts = [host(&url, "host-1").await, host(&url, "host-2").await];
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..8)
        .map(|caller| {
            let log = hosts[caller % 2].clone();
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            tokio::spawn(async move {
                let (mut ids, mut call) = (Vec::new(), 0);
                while !stop.load(Ordering::Acquire) {
                    let batch = events(caller, call, 5);
                    if log.append_all(batch.clone()).await.is_ok() {
                        ids.extend(batch.iter().map(|event| event.id));
                        done.fetch_add(1, Ordering::AcqRel);
                    }
                    call += 1;
                }
                ids
            })
        })
        .collect();
    for _ in 0..3 {
        let before = done.load(Ordering::Acquire);
        until("events are acknowledged", || {
            done.load(Ordering::Acquire) > before + 100
        })
        .await;
        server.kill().unwrap();
        until("both notice", || {
            hosts.iter().all(|host| host.state().store_failure.is_some())
        })
        .await;
        server.restart().unwrap();
        until("both go on", || {
            hosts.iter().all(|host| host.state().store_failure.is_none())
        })
        .await;
    }
    stop.store(true, Ordering::Release);
    let mut acknowledged = BTreeSet::new();
    for task in tasks {
        acknowledged.extend(task.await.unwrap());
    }
    for host in hosts {
        host.close().await;
    }
    let rows = postgres_chain(&url).await;
    let stored: BTreeSet<Uuid> = rows.iter().map(|row| row.id).collect();
    assert_eq!(
        acknowledged.difference(&stored).count(),
        0,
        "of {}",
        acknowledged.len()
    );
    let recorded = rows
        .iter()
        .filter(|row| row.text("reason") == "audit_store_failed");
    assert!(recorded.count() >= 6, "each host records each outage");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_store_rejects_calls_within_the_deadline_and_keeps_queued_events() {
    let mut server = Postgres::start().unwrap();
    let url = server.url();
    let mut settings = postgres(&url);
    settings.deadline = Duration::from_millis(400);
    let log = open(settings).await;
    log.append(event("/before")).await.unwrap();
    server.kill().unwrap();
    for _ in 0..3 {
        let refused = log.append(event("/while")).await.unwrap_err();
        assert_eq!(refused.code(), "audit_unavailable", "{refused}");
    }
    for _ in 0..100 {
        log.enqueue(event("/noted"));
    }
    server.restart().unwrap();
    until("it works again", || log.state().store_failure.is_none()).await;
    log.append(event("/after")).await.unwrap();
    assert_eq!(log.state().lost, 0);
    log.close().await;
    let rows = postgres_chain(&url).await;
    let paths: Vec<_> = rows.iter().map(|row| row.text("path")).collect();
    assert_eq!(paths.iter().filter(|path| **path == "/noted").count(), 100);
    assert!(!paths.contains(&"/while"), "its callers got an error");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_checkpoints_and_errors_are_as_in_sqlite() {
    let server = Postgres::start().unwrap();
    let url = server.url();
    let log = open(postgres(&url)).await;
    let (signature, manifest_event) = manifest_signature();
    for _ in 0..2 {
        let receipt = log
            .record_manifest(signature.clone(), manifest_event.clone())
            .await
            .unwrap();
        assert_eq!(receipt.seq, 1);
    }
    log.append_all(events(0, 0, 9)).await.unwrap();
    log.close().await;
    let mut store = PgConnection::connect(&url).await.unwrap();
    let sizes: Vec<i64> = sqlx::query_scalar("SELECT size FROM audit_checkpoints")
        .fetch_all(&mut store)
        .await
        .unwrap();
    assert_eq!(sizes, [10], "made when the log closed");
    let manifests: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM manifest_signatures")
        .fetch_all(&mut store)
        .await
        .unwrap();
    assert_eq!(manifests, [manifest_event.id]);

    let open = || Log::open(postgres(&url), Signer::new(), Metrics::default());
    sqlx::raw_sql("CREATE TABLE kept AS SELECT seq, id, payload, hash FROM audit_events WHERE seq > 8")
        .execute(&mut store)
        .await
        .unwrap();
    let cut = "DELETE FROM audit_events WHERE seq > 8";
    sqlx::raw_sql(cut).execute(&mut store).await.unwrap();
    assert!(matches!(
        open().await,
        Err(OpenError::Truncated {
            size: 10,
            found: 8,
            ..
        })
    ));
    sqlx::raw_sql("INSERT INTO audit_events (seq, id, payload, hash) SELECT * FROM kept")
        .execute(&mut store)
        .await
        .unwrap();
    // Also while a host runs.
    let log = open().await.unwrap();
    sqlx::raw_sql(cut).execute(&mut store).await.unwrap();
    let refused = log.append(event("/after")).await.unwrap_err();
    assert!(refused.to_string().contains("cut or replaced"), "{refused}");
    drop(log);

    let none = postgres("postgres://user:secret@nowhere:port/audit");
    let wrong = Log::open(none, Signer::new(), Metrics::default())
        .await
        .unwrap_err();
    assert!(
        matches!(wrong, OpenError::Store(StoreError::InvalidUrl(_))),
        "{wrong}"
    );
    assert!(!wrong.to_string().contains("secret"));
}

/// Once the tables exist, a host needs no privilege to change or delete rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_only_append_suffices_for_a_host() {
    let server = Postgres::start().unwrap();
    let url = server.url();
    host(&url, "owner").await.close().await;
    let mut owner = PgConnection::connect(&url).await.unwrap();
    let grants = "CREATE ROLE appender LOGIN;
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
        GRANT SELECT ON _sqlx_migrations TO appender;
        GRANT SELECT, INSERT ON audit_events, audit_checkpoints, manifest_signatures TO appender;";
    sqlx::raw_sql(grants).execute(&mut owner).await.unwrap();
    let (before, after) = url.split_once("postgres@").unwrap();
    let limited = format!("{before}appender@{after}");
    let log = host(&limited, "host-1").await;
    log.append(event("/x".to_owned())).await.unwrap();
    log.close().await;
    let mut appender = PgConnection::connect(&limited).await.unwrap();
    for change in [
        "UPDATE audit_events SET payload = ''",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
    ] {
        assert!(
            sqlx::query(change).execute(&mut appender).await.is_err(),
            "{change}"
        );
    }
}

//! The `keyvalue` capability with a real Redis: values are shared between hosts, separate per entry, expire, and a
//! failed Redis fails the policy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "for tests: what does not work ends the test"
)]

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use postern_policy::{Engines, HostServices, Limits, Policies, Store};
use redis::AsyncCommands as _;
use support::{entry, module, request, settings};

/// A Redis server of this test; `cargo xtask setup` installs it.
struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    fn start(port: u16, folder: &Path) -> Self {
        let child = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
            ])
            .arg(folder)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server runs: install it with `cargo xtask test` or from your system's packages");
        Self { child, port }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    async fn client(&self) -> redis::aio::MultiplexedConnection {
        let deadline = Instant::now() + Duration::from_secs(10);
        let client = redis::Client::open(self.url()).unwrap();
        loop {
            match client.get_multiplexed_async_connection().await {
                Ok(connection) => return connection,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A module that increments the counter `{}` with a TTL of one minute and denies; traps if the store fails.
fn counter() -> Vec<u8> {
    let (fields, deny) = support::denial("counted");
    let import = r#"(import "postern:policy/keyvalue@0.1.0" "increment"
        (func $add (param i32 i32 i64 i32 i64 i32)))"#;
    let authorize = format!(
        "(call $add (i32.const 2048) (i32.const 2) (i64.const 1) (i32.const 1) (i64.const 60000) (i32.const 4096))
         (if (i32.load8_u (i32.const 4096)) (then unreachable))
         {deny}"
    );
    module(&format!("{import} {fields}"), &authorize)
}

async fn host(folder: &Path, redis: &Redis) -> Policies {
    std::fs::write(folder.join("c.wasm"), counter()).unwrap();
    let mut slow = entry("c.wasm");
    slow.limits.deadline = Duration::from_secs(5);
    let entries = [("one", slow.clone()), ("two", slow)];
    let services = HostServices {
        store: Store::redis(&redis.url()).unwrap(),
        client: postern_policy::http_client().unwrap(),
        signer: None,
    };
    let engines = Engines::new(4, Limits::default().memory).unwrap();
    let host = Policies::new(engines, None, services, settings(folder, entries));
    assert_eq!(host.load().await.errors().count(), 0);
    host
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_stored_in_redis_per_entry() {
    let folder = tempfile::tempdir().unwrap();
    let redis = Redis::start(postern_testbed::ports::free_port().unwrap(), folder.path());
    let mut client = redis.client().await;
    // Two hosts with one Redis.
    let (a, b) = (
        host(folder.path(), &redis).await,
        host(folder.path(), &redis).await,
    );
    for _ in 0..3 {
        a.decide("one", &request()).await.unwrap();
        b.decide("one", &request()).await.unwrap();
        a.decide("two", &request()).await.unwrap();
    }
    for (key, count) in [("postern:kv:one:{}", 6), ("postern:kv:two:{}", 3)] {
        assert_eq!(client.get::<_, i64>(key).await.unwrap(), count, "{key}");
        let life: i64 = client.pttl(key).await.unwrap();
        assert!((1..=60_000).contains(&life), "{key} expires in {life} ms");
    }

    // The policy fails without its store and recovers with it.
    let port = redis.port;
    drop(redis);
    let failure = a.decide("one", &request()).await.unwrap_err();
    assert!(failure.was_stopped(), "{failure}");
    let redis = Redis::start(port, folder.path());
    redis.client().await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(failure) = a.decide("one", &request()).await {
        assert!(Instant::now() < deadline, "{failure}");
    }
}

//! The `keyvalue` capability: values that outlive a request, in memory or shared by several hosts in Redis.

mod memory_store;

use std::net::IpAddr;
use std::time::Duration;

use redis::AsyncCommands as _;
use redis::aio::ConnectionManager;

use crate::bindings::keyvalue::{self, Error};

pub(crate) use memory_store::MemoryStore;

use super::State;

/// Maximum size of a key, in bytes.
const MAX_KEY: usize = 512;
/// Maximum size of a value, in bytes.
const MAX_VALUE: usize = 64 << 10;
/// Maximum size of one entry's in-memory store, in bytes: keys, values and the overhead of each.
const MAX_STORED: usize = 8 << 20;

/// The backend of the `keyvalue` capability.
#[derive(Clone)]
pub enum Store {
    /// In this process: lost at exit and not shared with other hosts. Each entry has a store of its own.
    Memory,
    /// In Redis, under `postern:kv:<entry>:<key>`.
    Redis(ConnectionManager),
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Memory => "Memory",
            Self::Redis(_) => "Redis",
        })
    }
}

/// Whether connections to this Redis URL leave the machine without TLS, or with TLS that verifies no certificate.
/// Anyone on the network path could then read and change the data that policies decide on.
///
/// # Errors
/// If the Redis URL is invalid.
pub fn is_insecure(url: &str) -> Result<bool, redis::RedisError> {
    use redis::ConnectionAddr;
    let client = redis::Client::open(url)?;
    let on_this_machine = |host: &str| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    };
    Ok(match client.get_connection_info().addr() {
        ConnectionAddr::Tcp(host, _) => !on_this_machine(host),
        ConnectionAddr::TcpTls { host, insecure, .. } => *insecure && !on_this_machine(host),
        ConnectionAddr::Unix(_) => false,
        _ => true,
    })
}

impl Store {
    /// A store in Redis. It connects on first use, and again after a failure, so that an unreachable server is not an
    /// error here.
    ///
    /// # Errors
    /// If the Redis URL is invalid.
    pub fn redis(url: &str) -> Result<Self, redis::RedisError> {
        let settings = redis::aio::ConnectionManagerConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(2)))
            .set_response_timeout(Some(Duration::from_secs(2)));
        ConnectionManager::new_lazy_with_config(redis::Client::open(url)?, settings).map(Self::Redis)
    }
}

fn parse_counter(bytes: &[u8]) -> Result<i64, Error> {
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::Unavailable("the value of this key is not a counter".into()))
}

fn overflow() -> Error {
    Error::Unavailable("the counter would overflow".into())
}

fn check_size(key: &str, value: &[u8]) -> Result<(), Error> {
    if key.len() > MAX_KEY {
        return Err(Error::TooLarge(format!(
            "the key has {} bytes; the limit is {MAX_KEY}",
            key.len()
        )));
    }
    if value.len() > MAX_VALUE {
        return Err(Error::TooLarge(format!(
            "the value has {} bytes; the limit is {MAX_VALUE}",
            value.len()
        )));
    }
    Ok(())
}

/// Logs the error and hides it from the policy. Redis errors may contain the address, but never the password.
fn unavailable(error: redis::RedisError) -> Error {
    tracing::warn!(%error, "the key-value store failed");
    Error::Unavailable("the key-value store is unavailable".into())
}

/// Adds to a counter and sets the expiry of a new key atomically: a key left without expiry would never be removed.
const INCREMENT: &str = r"
local sum = redis.call('INCRBY', KEYS[1], ARGV[1])
if ARGV[2] ~= '' and redis.call('PTTL', KEYS[1]) == -1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return sum";

impl State {
    fn redis_key(&self, key: &str) -> String {
        format!("postern:kv:{}:{key}", self.entry.name)
    }
}

impl keyvalue::Host for State {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        Ok(match &self.entry.store {
            Store::Memory => Ok(self.entry.memory_store.get(&key)),
            Store::Redis(redis) => redis.clone().get(self.redis_key(&key)).await.map_err(unavailable),
        })
    }

    async fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<(), Error>> {
        if let Err(error) = check_size(&key, &value) {
            return Ok(Err(error));
        }
        Ok(match &self.entry.store {
            Store::Memory => {
                let ttl = ttl_ms.map(Duration::from_millis);
                self.entry.memory_store.set(&key, value, ttl)
            }
            Store::Redis(redis) => {
                let (mut redis, key) = (redis.clone(), self.redis_key(&key));
                match ttl_ms {
                    Some(ms) => redis.pset_ex(key, value, ms.max(1)).await,
                    None => redis.set(key, value).await,
                }
                .map_err(unavailable)
            }
        })
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), Error>> {
        Ok(match &self.entry.store {
            Store::Memory => {
                self.entry.memory_store.delete(&key);
                Ok(())
            }
            Store::Redis(redis) => redis.clone().del(self.redis_key(&key)).await.map_err(unavailable),
        })
    }

    async fn increment(
        &mut self,
        key: String,
        by: i64,
        ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<i64, Error>> {
        if let Err(error) = check_size(&key, b"") {
            return Ok(Err(error));
        }
        Ok(match &self.entry.store {
            Store::Memory => self
                .entry
                .memory_store
                .increment(&key, by, ttl_ms.map(Duration::from_millis)),
            Store::Redis(redis) => redis::cmd("EVAL")
                .arg(INCREMENT)
                .arg(1)
                .arg(self.redis_key(&key))
                .arg(by)
                .arg(ttl_ms.map_or_else(String::new, |ms| ms.max(1).to_string()))
                .query_async(&mut redis.clone())
                .await
                .map_err(unavailable),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::is_insecure;

    #[test]
    fn redis_without_tls_is_secure_only_on_this_machine() {
        for url in [
            "redis://localhost",
            "redis://:secret@127.0.0.1:6380/1",
            "redis://[::1]/",
            "rediss://db.example.com",
            "rediss://:secret@10.0.0.1:6380",
            "rediss://localhost/#insecure",
            "redis+unix:///run/redis.sock",
        ] {
            assert!(!is_insecure(url).unwrap(), "{url}");
        }
        for url in [
            "redis://db.example.com",
            "redis://10.0.0.1",
            "redis://localhost.example.com",
            "redis://127.0.0.1.example.com",
            "rediss://db.example.com/#insecure",
        ] {
            assert!(is_insecure(url).unwrap(), "{url}");
        }
        assert!(is_insecure("http://localhost").is_err());
    }
}

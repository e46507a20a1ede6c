//! Values that outlive a request: in memory, or in Redis where several hosts share them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::AsyncCommands as _;
use redis::aio::ConnectionManager;

use crate::contract::keyvalue::{self, Error};

use super::State;

/// The longest key, in bytes.
const KEY: usize = 512;
/// The largest value, in bytes.
const VALUE: usize = 64 << 10;
/// What one entry may keep in memory, keys and values, in bytes.
const KEPT: usize = 8 << 20;

/// Where values are kept.
#[derive(Clone)]
pub enum Store {
    /// In this process: lost when it ends, seen by no other host. Each entry gets a shelf of its own.
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

impl Store {
    /// A store in Redis.
    ///
    /// # Errors
    /// If the URL is none of Redis. A server that does not answer is no error: it is asked again when it is needed.
    pub fn redis(url: &str) -> Result<Self, redis::RedisError> {
        let settings = redis::aio::ConnectionManagerConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(2)))
            .set_response_timeout(Some(Duration::from_secs(2)));
        ConnectionManager::new_lazy_with_config(redis::Client::open(url)?, settings).map(Self::Redis)
    }
}

/// What one entry keeps in memory.
#[derive(Default)]
pub(crate) struct Shelf {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    values: HashMap<String, Value>,
    bytes: usize,
}

struct Value {
    bytes: Vec<u8>,
    until: Option<Instant>,
}

impl Value {
    fn lives(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl Kept {
    fn get(&self, key: &str, now: Instant) -> Option<&Value> {
        self.values.get(key).filter(|value| value.lives(now))
    }

    fn remove(&mut self, key: &str) {
        if let Some(value) = self.values.remove(key) {
            self.bytes -= key.len() + value.bytes.len();
        }
    }

    fn set(&mut self, key: String, value: Value, now: Instant) -> Result<(), Error> {
        self.remove(&key);
        let size = key.len() + value.bytes.len();
        if self.bytes + size > KEPT {
            // Only a full store is searched for what has ended.
            self.values.retain(|_, value| value.lives(now));
            self.bytes = self
                .values
                .iter()
                .map(|(key, value)| key.len() + value.bytes.len())
                .sum();
        }
        if self.bytes + size > KEPT {
            return Err(Error::TooLarge(format!(
                "the store of this policy is full: {KEPT} bytes"
            )));
        }
        self.bytes += size;
        self.values.insert(key, value);
        Ok(())
    }
}

impl Shelf {
    fn with<R>(&self, act: impl FnOnce(&mut Kept, Instant) -> R) -> R {
        act(
            &mut self.kept.lock().unwrap_or_else(PoisonError::into_inner),
            Instant::now(),
        )
    }

    fn increment(&self, key: String, by: i64, ttl: Option<Duration>) -> Result<i64, Error> {
        self.with(|kept, now| {
            let (before, until) = match kept.get(&key, now) {
                Some(value) => (number(&value.bytes)?, value.until),
                None => (0, ttl.and_then(|ttl| now.checked_add(ttl))),
            };
            let sum = before.checked_add(by).ok_or_else(overflow)?;
            let bytes = sum.to_string().into_bytes();
            kept.set(key, Value { bytes, until }, now)?;
            Ok(sum)
        })
    }
}

fn number(bytes: &[u8]) -> Result<i64, Error> {
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::Unavailable("the value under this key is no counter".into()))
}

fn overflow() -> Error {
    Error::Unavailable("the counter would overflow".into())
}

fn bounded(key: &str, value: &[u8]) -> Result<(), Error> {
    if key.len() > KEY {
        return Err(Error::TooLarge(format!(
            "a key of {} bytes; {KEY} are allowed",
            key.len()
        )));
    }
    if value.len() > VALUE {
        return Err(Error::TooLarge(format!(
            "a value of {} bytes; {VALUE} are allowed",
            value.len()
        )));
    }
    Ok(())
}

/// Redis' own words may name its address, never its password.
fn unavailable(error: redis::RedisError) -> Error {
    tracing::warn!(%error, "key-value store");
    Error::Unavailable("the key-value store did not answer".into())
}

/// Adds, and starts the life of a new key in the same step: a key without its end would never be forgotten.
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
            Store::Memory => Ok(self
                .entry
                .shelf
                .with(|kept, now| kept.get(&key, now).map(|value| value.bytes.clone()))),
            Store::Redis(redis) => redis.clone().get(self.redis_key(&key)).await.map_err(unavailable),
        })
    }

    async fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<(), Error>> {
        if let Err(error) = bounded(&key, &value) {
            return Ok(Err(error));
        }
        Ok(match &self.entry.store {
            Store::Memory => self.entry.shelf.with(|kept, now| {
                let until = ttl_ms.and_then(|ms| now.checked_add(Duration::from_millis(ms)));
                kept.set(key, Value { bytes: value, until }, now)
            }),
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
                self.entry.shelf.with(|kept, _| kept.remove(&key));
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
        if let Err(error) = bounded(&key, b"") {
            return Ok(Err(error));
        }
        Ok(match &self.entry.store {
            Store::Memory => self
                .entry
                .shelf
                .increment(key, by, ttl_ms.map(Duration::from_millis)),
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
    use super::*;

    #[test]
    fn a_shelf_is_bounded_and_forgets_what_has_ended() {
        let mut kept = Kept::default();
        let now = Instant::now();
        let value = |ttl: Option<u64>| Value {
            bytes: vec![0; VALUE],
            until: ttl.map(|s| now + Duration::from_secs(s)),
        };
        let mut stored = 0;
        while kept.set(format!("{stored:06}"), value(Some(1)), now).is_ok() {
            stored += 1;
        }
        assert_eq!(stored, KEPT / (VALUE + 6));
        assert!(kept.get("000000", now).is_some());
        let later = now + Duration::from_secs(2);
        assert!(kept.get("000000", later).is_none());
        kept.set("fresh".into(), value(None), later).unwrap();
        assert_eq!(
            (kept.values.len(), kept.bytes),
            (1, VALUE + 5),
            "what had ended made room"
        );
        kept.set("fresh".into(), value(None), later).unwrap();
        assert_eq!(kept.bytes, VALUE + 5, "replaced, not added");
        kept.remove("fresh");
        assert_eq!(kept.bytes, 0);
    }

    #[test]
    fn a_counter_counts_from_nothing_and_keeps_its_end() {
        let shelf = Shelf::default();
        let minute = Some(Duration::from_secs(60));
        assert_eq!(shelf.increment("n".into(), 2, minute).unwrap(), 2);
        let end = |shelf: &Shelf| shelf.with(|kept, now| kept.get("n", now).unwrap().until);
        let first = end(&shelf);
        assert_eq!(
            shelf
                .increment("n".into(), -3, Some(Duration::from_secs(999)))
                .unwrap(),
            -1
        );
        assert_eq!(end(&shelf), first);
        assert!(
            shelf.increment("n".into(), i64::MIN, None).is_err(),
            "no wrap-around"
        );
        shelf.with(|kept, now| {
            let value = Value {
                bytes: b"text".to_vec(),
                until: None,
            };
            kept.set("t".into(), value, now).unwrap();
        });
        assert!(shelf.increment("t".into(), 1, None).is_err());
    }
}

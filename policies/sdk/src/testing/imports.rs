//! The host functions that the generated bindings import, with the same names and types, backed by the in-memory
//! [`Host`](super::Host).

pub(crate) mod config {
    use crate::testing::host::current;

    pub(crate) fn get() -> String {
        current().config.borrow().clone().unwrap_or_else(|| "{}".into())
    }
}

pub(crate) mod log {
    use crate::Level;
    use crate::testing::host::current;

    pub(crate) fn write(level: Level, message: &str) {
        current().logs.borrow_mut().push((level, message.to_owned()));
    }
}

pub(crate) mod clock {
    use crate::testing::host::current;

    pub(crate) fn now() -> u64 {
        current().now.get()
    }
}

pub(crate) mod keyvalue {
    use crate::keyvalue::Error;
    use crate::testing::host::{StoredValue, current};

    pub(crate) fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(current().stored(key))
    }

    pub(crate) fn set(key: &str, value: &[u8], ttl_ms: Option<u64>) -> Result<(), Error> {
        let host = current();
        let stored = StoredValue {
            bytes: value.to_vec(),
            expires_at: host.expiry(ttl_ms),
        };
        host.values.borrow_mut().insert(key.to_owned(), stored);
        Ok(())
    }

    pub(crate) fn delete(key: &str) -> Result<(), Error> {
        current().values.borrow_mut().remove(key);
        Ok(())
    }

    /// Counters are stored as decimal text.
    pub(crate) fn increment(key: &str, by: i64, ttl_ms: Option<u64>) -> Result<i64, Error> {
        let host = current();
        let stored = host.stored(key);
        let sum = match &stored {
            None => by,
            Some(bytes) => str::from_utf8(bytes)
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
                .ok_or_else(|| Error::Unavailable(format!("{key} is not a counter")))?
                .saturating_add(by),
        };
        let mut values = host.values.borrow_mut();
        let expires_at = match stored {
            Some(_) => values.get(key).and_then(|stored| stored.expires_at),
            None => host.expiry(ttl_ms),
        };
        let bytes = sum.to_string().into_bytes();
        values.insert(key.to_owned(), StoredValue { bytes, expires_at });
        Ok(sum)
    }
}

pub(crate) mod http {
    use crate::http::{Error, Incoming, Outgoing};
    use crate::testing::host::current;

    pub(crate) fn send(request: &Outgoing) -> Result<Incoming, Error> {
        match &*current().http.borrow() {
            Some(handler) => handler(request),
            None => Err(Error::NotGranted(request.url.clone())),
        }
    }
}

pub(crate) mod signer {
    use crate::signer::{Error, Signature};
    use crate::testing::host::current;

    pub(crate) fn sign(payload: &[u8]) -> Result<Signature, Error> {
        match &*current().signer.borrow() {
            Some(sign) => sign(payload),
            None => Err(Error::Unavailable("no signer is configured".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::testing::{Host, request};
    use crate::{Error, Header, Level, clock, http, keyvalue, signer};

    #[test]
    fn values_expire() {
        let host = Host::new().now(1_000).value("kept", "x");
        let run = |policy: fn()| host.call(|_| policy(), &request().build());
        run(|| {
            let second = Some(Duration::from_secs(1));
            assert_eq!(clock::now(), 1_000);
            assert_eq!(keyvalue::get("kept"), Ok(Some(b"x".to_vec())));
            keyvalue::set("short", b"y", second).unwrap();
            assert_eq!(keyvalue::increment("count", 2, second), Ok(2));
            assert_eq!(keyvalue::increment("count", -5, second), Ok(-3));
            assert!(keyvalue::increment("kept", 1, None).is_err());
            keyvalue::delete("kept").unwrap();
        });
        assert_eq!(host.stored("short").as_deref(), Some(&b"y"[..]));
        assert_eq!(host.stored("kept"), None);
        host.set_now(2_000);
        run(|| {
            assert_eq!(keyvalue::get("short"), Ok(None));
            assert_eq!(keyvalue::increment("count", 1, None), Ok(1));
        });
    }

    #[test]
    fn missing_capabilities_are_errors() {
        let request = http::Outgoing::new("GET", "https://other.example/").header("accept", "*/*");
        assert_eq!(clock::now(), 0);
        let error = http::send(&request).unwrap_err();
        assert!(matches!(Error::from(error), Error::Misconfigured(_)));
        let error = signer::sign(b"x").unwrap_err();
        assert!(matches!(Error::from(error), Error::Unavailable(_)));
    }

    #[test]
    fn handlers_and_log_lines() {
        let host = Host::new()
            .http(|request| {
                assert_eq!(request.headers, [Header::new("accept", "*/*")]);
                let body = request.body.clone();
                Ok(http::Incoming {
                    status: 201,
                    headers: Vec::new(),
                    body,
                })
            })
            .signer(|payload| {
                Ok(signer::Signature {
                    bytes: payload.to_vec(),
                    signer_id: "kms-1".into(),
                })
            });
        host.call(
            |_| {
                let request = http::Outgoing::new("POST", "https://other.example/")
                    .header("accept", "*/*")
                    .body("hello");
                assert_eq!(http::send(&request).unwrap().body, b"hello");
                assert_eq!(signer::sign(b"x").unwrap().signer_id, "kms-1");
                crate::warn!("answered {}", 201);
            },
            &request().build(),
        );
        assert_eq!(host.logs(), [(Level::Warn, "answered 201".to_owned())]);
        assert!(Host::new().logs().is_empty());
    }
}

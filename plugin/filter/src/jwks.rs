//! The client of issuers' JWKS endpoints. One worker at a time fetches an issuer's keys, and shares them with all workers
//! through the shared data.

use std::time::Duration;

use postern_gate::ports::{Clock, SharedState};
use postern_gate::{FetchRecord, Gate, IssuerId, Remote, split_uri};
use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType};

use crate::engine::Engine;
use crate::ports::{ProxyClock, SharedData};

/// Larger key sets are rejected. In bytes.
const MAX_DOCUMENT: usize = 256 * 1024;

/// Consecutive failures after which requests no longer wait for keys.
const PATIENT_FAILURES: u32 = 2;

/// A fetch that ended.
pub(crate) struct FetchResult {
    pub(crate) issuer: IssuerId,
    /// When it began, if it yielded keys.
    pub(crate) begun: Option<Duration>,
}

/// The client of one worker.
pub(crate) struct JwksClient {
    issuers: Vec<Issuer>,
}

struct Issuer {
    id: IssuerId,
    /// The name in the configuration.
    name: String,
    remote: Remote,
    /// Keys of the fetch record and the document in the shared data.
    record_key: String,
    document_key: String,
    /// When the fetch of this worker's current keys began.
    installed: Option<Duration>,
    /// A request named a key that this worker does not have.
    wanted: bool,
    /// The token of this worker's call in flight.
    call: Option<u32>,
}

impl JwksClient {
    pub(crate) fn new(gate: &Gate) -> Self {
        let issuer = |(id, remote): (IssuerId, &Remote)| {
            // Two issuers may use different keys of one set: a set that is unusable for one is no failure of the other.
            let shared = format!(
                "postern.jwks.{}.{}.{}",
                remote.cluster, remote.uri, remote.algorithms
            );
            Issuer {
                id,
                name: remote.name.clone(),
                remote: remote.clone(),
                record_key: format!("{shared}.record"),
                document_key: format!("{shared}.document"),
                installed: None,
                wanted: false,
                call: None,
            }
        };
        Self {
            issuers: gate.remotes().map(issuer).collect(),
        }
    }

    /// Creates missing fetch records, so that later writes can compare versions.
    pub(crate) fn prepare(&self) {
        for issuer in &self.issuers {
            if SharedData.get(&issuer.record_key).is_none() {
                let _ = SharedData.set(&issuer.record_key, &FetchRecord::default().encode(), None);
            }
        }
    }

    /// Requests newer keys of an issuer. Returns how long a request may wait for them; `None` if no fetch is expected.
    pub(crate) fn request(&mut self, id: IssuerId, now: Duration) -> Option<Duration> {
        let issuer = self.issuers.iter_mut().find(|issuer| issuer.id == id)?;
        let record = issuer.record().0;
        let behind = record.fetched > issuer.installed;
        let coming = record.pending || issuer.remote.schedule.due(&record, true, now);
        let retried_soon = record.fetched.is_none() && record.failures <= PATIENT_FAILURES;
        if !(behind || coming || retried_soon) {
            return None;
        }
        issuer.wanted = true;
        Some(issuer.remote.schedule.timeout)
    }

    /// Installs keys that another worker fetched, and begins the fetches that are due. Returns the fetches that ended.
    pub(crate) fn tick(&mut self, engine: &Engine) -> Vec<FetchResult> {
        let now = ProxyClock.monotonic();
        let mut ended = Vec::new();
        for issuer in &mut self.issuers {
            let installed = issuer.install_shared(&engine.gate);
            let begun = issuer.fetch_if_due(now);
            if begun.is_err() {
                issuer.report(&begun, engine);
            }
            if installed || begun.is_err() {
                ended.push(issuer.result(installed));
            }
        }
        ended
    }

    /// Handles the end of a call. `None` if the call was not this client's.
    pub(crate) fn call_ended(
        &mut self,
        token: u32,
        headers: usize,
        body_size: usize,
        engine: &Engine,
    ) -> Option<FetchResult> {
        let issuer = self
            .issuers
            .iter_mut()
            .find(|issuer| issuer.call == Some(token))?;
        issuer.call = None;
        issuer.wanted = false;
        let installed = issuer.install_response(headers, body_size, &engine.gate);
        issuer.report(&installed, engine);
        Some(issuer.result(installed.is_ok()))
    }
}

/// The proxy drops the responses to the calls of a replaced configuration: other workers must not wait for them.
impl Drop for JwksClient {
    fn drop(&mut self) {
        for issuer in self.issuers.iter().filter(|issuer| issuer.call.is_some()) {
            let (record, version) = issuer.record();
            let _ = SharedData.set(&issuer.record_key, &record.abandon().encode(), version);
        }
    }
}

impl Issuer {
    fn record(&self) -> (FetchRecord, Option<postern_gate::ports::Version>) {
        match SharedData.get(&self.record_key) {
            Some((bytes, version)) => (FetchRecord::decode(&bytes), Some(version)),
            None => (FetchRecord::default(), None),
        }
    }

    /// Counts a fetch, and logs why it failed and the consequence.
    fn report(&self, fetched: &Result<(), String>, engine: &Engine) {
        let outcome = if fetched.is_ok() { "fetched" } else { "failed" };
        engine
            .counters
            .count(&format!("postern.jwks.{}.{outcome}", self.name));
        let consequence = if self.installed.is_some() {
            "the previous keys stay in use"
        } else {
            "tokens of this issuer get 503 until there are keys"
        };
        if let Err(why) = fetched {
            log::warn!("postern: keys from {}: {why}; {consequence}", self.remote.uri);
        }
    }

    fn result(&self, installed: bool) -> FetchResult {
        FetchResult {
            issuer: self.id,
            begun: self.installed.filter(|_| installed),
        }
    }

    fn install_shared(&mut self, gate: &Gate) -> bool {
        let fetched = self.record().0.fetched;
        let (Some(at), true) = (fetched, fetched > self.installed) else {
            return false;
        };
        let Some((document, _)) = SharedData.get(&self.document_key) else {
            return false;
        };
        if let Err(why) = gate.install_keys(self.id, &document, at) {
            log::warn!("postern: shared keys of {}: {why}", self.remote.uri);
            return false;
        }
        self.installed = fetched;
        self.wanted = false;
        true
    }

    /// # Errors
    /// Why the call could not be made.
    fn fetch_if_due(&mut self, now: Duration) -> Result<(), String> {
        let (record, version) = self.record();
        if self.call.is_some() {
            return Ok(());
        }
        let Some(begun) = self.remote.schedule.begin(&record, self.wanted, now) else {
            return Ok(());
        };
        // The worker that writes the record first fetches; the others find the result.
        if SharedData
            .set(&self.record_key, &begun.encode(), version)
            .is_err()
        {
            return Ok(());
        }
        let call = self.dispatch();
        if call.is_err() {
            self.record_end(false);
        }
        self.call = Some(call?);
        Ok(())
    }

    fn dispatch(&self) -> Result<u32, String> {
        let (host, path) = split_uri(&self.remote.uri).ok_or("the uri is not http or https")?;
        let scheme = if self.remote.uri.starts_with("https:") {
            "https"
        } else {
            "http"
        };
        let headers = vec![
            (":method", "GET"),
            (":scheme", scheme),
            (":authority", host),
            (":path", path),
            ("accept", "application/jwk-set+json, application/json"),
        ];
        hostcalls::dispatch_http_call(
            &self.remote.cluster,
            headers,
            None,
            vec![],
            self.remote.schedule.timeout,
        )
        .map_err(|status| {
            format!(
                "cluster \"{}\" cannot be called ({status:?}); is it defined?",
                self.remote.cluster
            )
        })
    }

    fn install_response(&mut self, headers: usize, body_size: usize, gate: &Gate) -> Result<(), String> {
        let read = self.read_response(headers, body_size, gate);
        match &read {
            Ok(document) => {
                // The document first: workers that see the new record must find it.
                let _ = SharedData.set(&self.document_key, document, None);
                self.installed = self.record_end(true);
            }
            Err(_) => {
                self.record_end(false);
            }
        }
        read.map(drop)
    }

    fn read_response(&self, headers: usize, body_size: usize, gate: &Gate) -> Result<Vec<u8>, String> {
        // Without a response there is no header map, and the SDK's calls panic where there is none.
        if headers == 0 {
            return Err("no response within the timeout, or the connection failed".to_owned());
        }
        let status = hostcalls::get_map_value_bytes(MapType::HttpCallResponseHeaders, ":status")
            .ok()
            .flatten()
            .ok_or("the response has no status")?;
        if status != b"200" {
            return Err(format!(
                "the response has the status {}",
                String::from_utf8_lossy(&status)
            ));
        }
        if body_size > MAX_DOCUMENT {
            return Err(format!(
                "the key set has {body_size} bytes, over the {MAX_DOCUMENT} accepted"
            ));
        }
        let body = hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, body_size)
            .ok()
            .flatten()
            .ok_or("the response has no body")?;
        let begun = self.record().0.attempted;
        let begun = begun.unwrap_or_else(|| ProxyClock.monotonic());
        let skipped = gate
            .install_keys(self.id, &body, begun)
            .map_err(|e| e.to_string())?;
        for why in skipped {
            log::warn!("postern: keys from {}: {why}", self.remote.uri);
        }
        Ok(body)
    }

    /// Records the end of this worker's fetch. Returns when the newest successful fetch began.
    fn record_end(&self, success: bool) -> Option<Duration> {
        let (record, version) = self.record();
        let ended = record.finish(success);
        let _ = SharedData.set(&self.record_key, &ended.encode(), version);
        ended.fetched
    }
}

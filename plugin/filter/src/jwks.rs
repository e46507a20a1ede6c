//! Issuers' keys: fetched by one worker at a time, shared with all through the shared data.

use std::time::Duration;

use postern_gate::ports::{Clock, SharedState};
use postern_gate::{FetchRecord, Gate, Remote, split_uri};
use proxy_wasm::hostcalls;
use proxy_wasm::types::BufferType;

use crate::ports::{ProxyClock, SharedData};
use crate::worker::Worker;

/// Larger key sets are refused.
const MAX_DOCUMENT: usize = 256 * 1024;

/// How many failures in a row are waited through before requests are refused at once.
const PATIENT_FAILURES: u32 = 2;

/// The end of a fetch.
pub(crate) struct Fetched {
    pub(crate) issuer: usize,
    /// When it began, if it brought keys.
    pub(crate) begun: Option<Duration>,
}

pub(crate) struct Fetcher {
    issuers: Vec<Issuer>,
}

struct Issuer {
    index: usize,
    /// The name in the configuration.
    name: String,
    remote: Remote,
    /// Keys of the fetch record and the document in the shared data.
    record_key: String,
    document_key: String,
    /// When the fetch of the set that this worker uses began.
    installed: Option<Duration>,
    /// A request named a key that is not held.
    wanted: bool,
    /// The call that is under way from this worker.
    call: Option<u32>,
}

impl Fetcher {
    pub(crate) fn new(gate: &Gate) -> Self {
        let issuer = |(index, remote): (usize, &Remote)| {
            // Two issuers may take different keys from one set: what one cannot use is none of the other's failure.
            let shared = format!(
                "postern.jwks.{}.{}.{}",
                remote.cluster, remote.uri, remote.algorithms
            );
            Issuer {
                index,
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

    /// Makes the records that do not exist yet, so that they can be compared and set later.
    pub(crate) fn prepare(&self) {
        for issuer in &self.issuers {
            if SharedData.get(&issuer.record_key).is_none() {
                let _ = SharedData.set(&issuer.record_key, &FetchRecord::default().encode(), None);
            }
        }
    }

    /// Notes that a request needs newer keys. How long it may wait for them, or none if no fetch is to be expected.
    pub(crate) fn want(&mut self, index: usize, now: Duration) -> Option<Duration> {
        let issuer = self.issuers.iter_mut().find(|issuer| issuer.index == index)?;
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

    /// Takes into use what another worker fetched; begins the fetches that are due. Returns what requests waited for.
    pub(crate) fn tick(&mut self, worker: &Worker) -> Vec<Fetched> {
        let now = ProxyClock.monotonic();
        let mut changed = Vec::new();
        for issuer in &mut self.issuers {
            let taken = issuer.take_shared(&worker.gate);
            let begun = issuer.fetch_if_due(now);
            if begun.is_err() {
                issuer.tell(&begun, worker);
            }
            if taken || begun.is_err() {
                changed.push(issuer.outcome(taken));
            }
        }
        changed
    }

    /// A call ended. Returns what came of it, if it was one of ours.
    pub(crate) fn call_ended(
        &mut self,
        token: u32,
        headers: usize,
        body_size: usize,
        worker: &Worker,
    ) -> Option<Fetched> {
        let issuer = self
            .issuers
            .iter_mut()
            .find(|issuer| issuer.call == Some(token))?;
        issuer.call = None;
        issuer.wanted = false;
        let taken = issuer.take_response(headers, body_size, &worker.gate);
        issuer.tell(&taken, worker);
        Some(issuer.outcome(taken.is_ok()))
    }
}

/// A configuration that is replaced takes its calls with it: the proxy drops their answers. Nobody must wait for those.
impl Drop for Fetcher {
    fn drop(&mut self) {
        for issuer in self.issuers.iter().filter(|issuer| issuer.call.is_some()) {
            let (record, version) = issuer.record();
            let _ = SharedData.set(&issuer.record_key, &record.abandoned().encode(), version);
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

    /// Counts how a fetch ended, and logs why it failed and what follows.
    fn tell(&self, fetched: &Result<(), String>, worker: &Worker) {
        let outcome = if fetched.is_ok() { "fetched" } else { "failed" };
        worker
            .counters
            .count(&format!("postern.jwks.{}.{outcome}", self.name));
        let consequence = if self.installed.is_some() {
            "the keys held stay in use"
        } else {
            "tokens of this issuer get 503 until there are keys"
        };
        if let Err(why) = fetched {
            log::warn!("postern: keys from {}: {why}; {consequence}", self.remote.uri);
        }
    }

    fn outcome(&self, taken: bool) -> Fetched {
        Fetched {
            issuer: self.index,
            begun: self.installed.filter(|_| taken),
        }
    }

    fn take_shared(&mut self, gate: &Gate) -> bool {
        let fetched = self.record().0.fetched;
        let (Some(at), true) = (fetched, fetched > self.installed) else {
            return false;
        };
        let Some((document, _)) = SharedData.get(&self.document_key) else {
            return false;
        };
        if let Err(why) = gate.install_keys(self.index, &document, at) {
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
        // Whoever writes the record first fetches; the others will find the result.
        if SharedData
            .set(&self.record_key, &begun.encode(), version)
            .is_err()
        {
            return Ok(());
        }
        let call = self.dispatch();
        if call.is_err() {
            self.note_end(false);
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

    fn take_response(&mut self, headers: usize, body_size: usize, gate: &Gate) -> Result<(), String> {
        let taken = self.read_response(headers, body_size, gate);
        match &taken {
            Ok(document) => {
                // The document first: whoever sees the new record must find it.
                let _ = SharedData.set(&self.document_key, document, None);
                self.installed = self.note_end(true);
            }
            Err(_) => {
                self.note_end(false);
            }
        }
        taken.map(drop)
    }

    fn read_response(&self, headers: usize, body_size: usize, gate: &Gate) -> Result<Vec<u8>, String> {
        use proxy_wasm::types::MapType;
        // Without a response there is no header map, and the SDK's calls panic where there is none.
        if headers == 0 {
            return Err("no answer within the timeout, or the connection failed".to_owned());
        }
        let status = hostcalls::get_map_value_bytes(MapType::HttpCallResponseHeaders, ":status")
            .ok()
            .flatten()
            .ok_or("answered without a status")?;
        if status != b"200" {
            return Err(format!(
                "answered with status {}",
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
            .ok_or("answered without a body")?;
        let begun = self.record().0.attempted;
        let begun = begun.unwrap_or_else(|| ProxyClock.monotonic());
        let passed_over = gate
            .install_keys(self.index, &body, begun)
            .map_err(|e| e.to_string())?;
        for why in passed_over {
            log::warn!("postern: keys from {}: {why}", self.remote.uri);
        }
        Ok(body)
    }

    /// Writes the end of this worker's fetch; returns when the newest success began.
    fn note_end(&self, success: bool) -> Option<Duration> {
        let (record, version) = self.record();
        let ended = record.ended(success);
        let _ = SharedData.set(&self.record_key, &ended.encode(), version);
        ended.fetched
    }
}

//! The plugin's life: configuration in, ticks, answers to calls.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use postern_gate::ports::Clock as _;
use postern_gate::{Gate, Secret, config};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{BufferType, ContextType};

use crate::exchange::Http;
use crate::ext_authz;
use crate::ports::{ProxyClock, SharedData};
use crate::verifier::ProxyVerifier;
use crate::worker::Worker;

/// How soon a worker notices keys that another fetched and requests that have waited long enough, and how far
/// statistics may lag.
const TICK: Duration = Duration::from_millis(100);

/// How soon the next of many requests have their turn.
const HURRIED_TICK: Duration = Duration::from_millis(1);

pub(crate) struct Root {
    context_id: u32,
    worker: Option<Rc<Worker>>,
    /// Ticks come faster, because requests wait for their turn.
    hurries: Cell<bool>,
    /// When the work of a tick was last done.
    worked: Cell<Duration>,
}

impl Root {
    pub(crate) fn new(context_id: u32) -> Self {
        Self {
            context_id,
            worker: None,
            hurries: Cell::new(false),
            worked: Cell::new(Duration::ZERO),
        }
    }

    /// Resumes waiting requests whose turn it is, and sees to it that the next turn comes soon.
    fn resume_waiting(&self, worker: &Worker) {
        let behind = worker.resume_waiting();
        let _ = hostcalls::set_effective_context(self.context_id);
        if behind != self.hurries.get() {
            let period = if behind { HURRIED_TICK } else { TICK };
            let set = hostcalls::set_tick_period(period).is_ok();
            self.hurries.set(behind && set);
        }
    }

    fn configure(&mut self) -> Result<(), String> {
        let text = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, usize::MAX)
            .ok()
            .flatten()
            .ok_or("the plugin has no configuration")?;
        let config = config::from_json(&text).map_err(|e| e.to_string())?;
        // Bytes, not text: a secret need not be UTF-8.
        let secrets =
            |name: &str| std::env::var_os(name).map(|value| Secret::new(value.into_encoded_bytes()));
        let gate = Gate::compile(&config, &secrets).map_err(|e| e.to_string())?;
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|e| format!("the proxy gave no random bytes: {e}"))?;
        let tables = gate.open_tables(&SharedData, random);
        let verifier = ProxyVerifier::probe();
        let worker = Worker::new(gate, tables, verifier);
        log::info!(
            "postern: configured with {} rules; {}",
            worker.gate.rule_names().count(),
            verifier.describe()
        );
        worker.fetcher.borrow().prepare();
        self.worker = Some(Rc::new(worker));
        hostcalls::set_tick_period(TICK).map_err(|status| format!("the proxy grants no ticks: {status:?}"))
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body_size: usize, _trailers: usize) {
        let Some(worker) = &self.worker else { return };
        if worker.told(token, headers, body_size) {
            let _ = hostcalls::set_effective_context(self.context_id);
            return;
        }
        let fetched = worker
            .fetcher
            .borrow_mut()
            .call_ended(token, headers, body_size, worker);
        if let Some(fetched) = fetched {
            worker.keys_came(&[fetched]);
            self.resume_waiting(worker);
        }
    }

    fn on_grpc_call_response(&mut self, token: u32, status: u32, size: usize) {
        let Some(worker) = &self.worker else { return };
        // Read first: the buffer belongs to this callback, whichever context it is for.
        let answer = ext_authz::answer(status, size);
        worker.policy_answered(token, answer);
        let _ = hostcalls::set_effective_context(self.context_id);
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        match self.configure() {
            Ok(()) => true,
            Err(why) => {
                log::error!("postern: configuration refused: {why}");
                false
            }
        }
    }

    fn on_tick(&mut self) {
        let Some(worker) = &self.worker else { return };
        let now = ProxyClock.monotonic();
        if !self.hurries.get() || now.saturating_sub(self.worked.get()) >= TICK {
            self.worked.set(now);
            let fetched = worker.fetcher.borrow_mut().tick(worker);
            // Before requests are resumed: the call is the root's.
            if let Some(audit) = &worker.audit {
                audit.tick(worker);
            }
            worker.keys_came(&fetched);
            worker.expire_waiting();
            worker.counters.flush();
        }
        self.resume_waiting(worker);
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Http::new(context_id, self.worker.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

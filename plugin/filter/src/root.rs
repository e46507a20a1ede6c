//! The plugin's root context: configuration, ticks, and the ends of calls.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use postern_gate::ports::Clock as _;
use postern_gate::{Gate, Secret, config};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{BufferType, ContextType};

use crate::engine::Engine;
use crate::exchange::Http;
use crate::ext_authz;
use crate::ports::{ProxyClock, SharedData};
use crate::unconfigured::Unconfigured;
use crate::verifier::ProxyVerifier;
use crate::worker::Worker;

/// How soon a worker notices keys that another fetched and requests past their deadline, and how far statistics lag.
const TICK: Duration = Duration::from_millis(100);

/// The tick while requests are ready to resume.
const BUSY_TICK: Duration = Duration::from_millis(1);

pub(crate) struct Root {
    context_id: u32,
    configured: Option<Configured>,
}

/// The root context under a configuration.
struct Configured {
    worker: Rc<Worker>,
    /// Ticks are [`BUSY_TICK`] apart.
    busy: Cell<bool>,
    /// When a tick last did more than resume requests.
    last_tick: Cell<Duration>,
}

impl Root {
    pub(crate) fn new(context_id: u32) -> Self {
        Self {
            context_id,
            configured: None,
        }
    }

    /// Makes this context the effective one again, after requests were acted on.
    fn enter(&self) {
        let _ = hostcalls::set_effective_context(self.context_id);
    }

    fn resume_requests(&self, configured: &Configured) {
        let more = configured.worker.resume_batch();
        self.enter();
        configured.set_busy(more);
    }
}

impl Configured {
    fn read() -> Result<Self, String> {
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
        let worker = Worker::new(Engine::new(gate, tables, verifier));
        log::info!(
            "postern: configured with {} rules; {}",
            worker.engine.gate.rule_names().count(),
            verifier.describe()
        );
        worker.prepare();
        hostcalls::set_tick_period(TICK)
            .map_err(|status| format!("the proxy grants no ticks: {status:?}"))?;
        Ok(Self {
            worker: Rc::new(worker),
            busy: Cell::new(false),
            last_tick: Cell::new(Duration::ZERO),
        })
    }

    fn tick(&self) {
        let now = ProxyClock.monotonic();
        if !self.busy.get() || now.saturating_sub(self.last_tick.get()) >= TICK {
            self.last_tick.set(now);
            self.worker.tick();
        }
    }

    fn set_busy(&self, busy: bool) {
        if busy != self.busy.get() {
            let period = if busy { BUSY_TICK } else { TICK };
            let set = hostcalls::set_tick_period(period).is_ok();
            self.busy.set(busy && set);
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body_size: usize, _trailers: usize) {
        let Some(configured) = &self.configured else {
            return;
        };
        let worker = &configured.worker;
        if worker.audit_responded(token, headers, body_size) {
            self.enter();
        } else if worker.fetch_ended(token, headers, body_size) {
            self.resume_requests(configured);
        }
    }

    fn on_grpc_call_response(&mut self, token: u32, status: u32, size: usize) {
        let Some(configured) = &self.configured else {
            return;
        };
        // Read first: the buffer belongs to this callback, whichever context it is for.
        let response = ext_authz::read_response(status, size);
        configured.worker.policy_responded(token, response);
        self.enter();
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        match Configured::read() {
            Ok(configured) => {
                self.configured = Some(configured);
                true
            }
            Err(why) => {
                log::error!("postern: configuration refused: {why}");
                false
            }
        }
    }

    fn on_tick(&mut self) {
        let Some(configured) = &self.configured else {
            return;
        };
        configured.tick();
        self.resume_requests(configured);
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(match &self.configured {
            Some(configured) => Box::new(Http::new(context_id, Rc::clone(&configured.worker))),
            None => Box::new(Unconfigured),
        })
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

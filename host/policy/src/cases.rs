//! Test cases in YAML: requests and the expected decisions.
//!
//! The host runs a module's cases before it serves the module; authors run them with `postern policy test`.

mod check;
mod schema;

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::capability::keyvalue::Store;
use crate::capability::signer::TestSigner;
use crate::entry::Entry;
use crate::policy::{HostServices, Policy};
use crate::{Engines, Grants, Limits, Module};

pub use check::Difference;
pub use schema::{Case, Cases, CasesError, Expect};

/// The result of one case.
#[derive(Debug)]
pub struct CaseReport {
    /// The case's name.
    pub name: String,
    /// Where the decision differs from the expected one; empty if the case passed.
    pub differences: Vec<Difference>,
}

impl CaseReport {
    /// Whether the decision was the expected one.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Runs every case against a module. Each case gets an empty in-memory key-value store and no HTTP hosts, so that it
/// cannot touch the stored values of a serving policy.
///
/// # Errors
/// If the module cannot be linked with the grants.
pub async fn run(
    engines: &Engines,
    module: &Module,
    grants: &Grants,
    limits: Limits,
    services: &HostServices,
    cases: &Cases,
) -> Result<Vec<CaseReport>, crate::LinkError> {
    let mut reports = Vec::with_capacity(cases.cases.len());
    for case in &cases.cases {
        let config = case.config.as_ref().or(cases.config.as_ref());
        let policy = Policy::link(engines, entry(config, grants, limits, services), module.clone())?;
        let result = policy.decide(&case.request.to_request()).await;
        reports.push(CaseReport {
            name: case.name.clone(),
            differences: check::differences(&case.expect, &result.map(|evaluation| evaluation.decision)),
        });
    }
    Ok(reports)
}

fn entry(
    config: Option<&serde_json::Value>,
    grants: &Grants,
    limits: Limits,
    services: &HostServices,
) -> Arc<Entry> {
    Arc::new(Entry {
        name: "cases".into(),
        grants: Grants {
            capabilities: grants.capabilities.clone(),
            hosts: Vec::new(),
        },
        config: config
            .and_then(|config| serde_json::value::to_raw_value(config).ok())
            .or_else(|| RawValue::from_string("{}".into()).ok())
            .unwrap_or_default(),
        limits: Limits {
            // Cases test decisions, not latency: they must not fail on a busy machine.
            deadline: limits.deadline.max(Duration::from_secs(2)),
            ..limits
        },
        store: Store::Memory,
        memory_store: Arc::default(),
        client: services.client.clone(),
        // Tests must not use the host's key.
        signer: Some(Arc::new(TestSigner)),
    })
}

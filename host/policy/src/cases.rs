//! Test cases: requests and the decisions that are expected, in YAML.
//!
//! A module answers its cases before it serves; authors run them with `postern policy test`.

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

/// How a case went.
#[derive(Debug)]
pub struct CaseReport {
    /// The case's name.
    pub name: String,
    /// What differed; nothing, if it passed.
    pub differences: Vec<Difference>,
}

impl CaseReport {
    /// Whether the module answered as expected.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Puts every case to a module. Each gets a fresh key-value store in memory, and reaches no host: cases must not
/// touch what a serving policy keeps.
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
        let answer = policy.decide(&case.request.to_request()).await;
        reports.push(CaseReport {
            name: case.name.clone(),
            differences: check::differences(&case.expect, &answer.map(|outcome| outcome.decision)),
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
            // What a case shows is a decision, not a time: a busy machine fails none.
            deadline: limits.deadline.max(Duration::from_secs(2)),
            ..limits
        },
        store: Store::Memory,
        memory_store: Arc::default(),
        client: services.client.clone(),
        // Nothing is really signed for a test.
        signer: Some(Arc::new(TestSigner)),
    })
}

//! How much memory a decision takes.

use anyhow::{Result, anyhow};
use postern_policy::cases::{self, Cases, Expect};
use postern_policy::{Failure, Grants, Limits, Module};

use super::lab::Lab;
use super::logs;

/// What the lab has room for, and what a policy may have unless the host's settings say otherwise.
pub(super) const LARGEST: usize = 16 << 20;

/// The bytes of memory that an instance has when it has decided on the first of the cases.
///
/// The engine tells whoever runs cases whether a bound was kept, not how much was taken. What is taken only grows, so
/// the least bound that is kept is that.
pub(super) fn used(lab: &Lab, module: &Module, grants: &Grants, cases: &Cases) -> Result<usize> {
    let mut probe = cases.clone();
    probe.cases.truncate(1);
    for case in &mut probe.cases {
        case.expect = Expect::Error(Failure::Memory(0).code().to_owned());
    }
    let suffices = |memory| -> Result<bool> {
        let limits = Limits {
            memory,
            ..Limits::default()
        };
        let run = cases::run(&lab.engines, module, grants, limits, &lab.surroundings, &probe);
        let reports = logs::silently(|| lab.runtime.block_on(run)).map_err(|error| anyhow!(error))?;
        Ok(reports.iter().any(|report| !report.passed()))
    };
    let (mut low, mut high) = (0, LARGEST);
    while low < high {
        let middle = low + (high - low) / 2;
        if suffices(middle)? {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(high)
}

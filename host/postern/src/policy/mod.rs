//! `postern policy …`: creates, builds, tests, signs and verifies policy modules.

mod bench;
mod build;
mod decision;
mod grants;
mod harness;
mod inspect;
mod keygen;
mod logs;
mod new;
mod request;
mod run;
mod sign;
mod signers;
mod test;
mod verify;

use anyhow::Result;

use crate::output::Output;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Create a crate for a policy that builds and passes its tests
    New(new::Args),
    /// Build a policy's crate into a component
    Build(build::Args),
    /// Evaluate a module on one request and print the decision
    Run(run::Args),
    /// Evaluate a module on a file of cases and compare the decisions with the expected ones
    Test(test::Args),
    /// Measure the latency of decisions and the memory of an instance
    Bench(bench::Args),
    /// Print what a module is, what it imports, and which capabilities it needs
    Inspect(inspect::Args),
    /// Generate a key that signs manifests
    Keygen(keygen::Args),
    /// List modules and digests in a manifest, and sign it
    Sign(sign::Args),
    /// Verify a manifest as the host would: signature, digests, modules, cases
    Verify(verify::Args),
}

impl Command {
    pub(crate) fn run(self) -> Result<Output> {
        match self {
            Self::New(args) => new::run(&args),
            Self::Build(args) => build::run(&args),
            Self::Run(args) => run::run(&args),
            Self::Test(args) => test::run(&args),
            Self::Bench(args) => bench::run(&args),
            Self::Inspect(args) => inspect::run(&args),
            Self::Keygen(args) => keygen::run(&args),
            Self::Sign(args) => sign::run(&args),
            Self::Verify(args) => verify::run(&args),
        }
    }
}

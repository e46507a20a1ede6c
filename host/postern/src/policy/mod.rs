//! `postern policy …`: for those who write policy modules, and those who sign and accept them.

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
    /// Start a policy: a crate that builds and passes its tests at once
    New(new::Args),
    /// Compile a policy's crate to a component
    Build(build::Args),
    /// Put one request to a module and print what it decides
    Run(run::Args),
    /// Put a file of cases to a module and compare what it decides with what is expected
    Test(test::Args),
    /// Measure how long decisions take, and how much memory one needs
    Bench(bench::Args),
    /// Tell what a module is, what it imports, and what it would have to be granted
    Inspect(inspect::Args),
    /// Make a key that signs manifests
    Keygen(keygen::Args),
    /// Write a manifest's modules and digests, and sign it
    Sign(sign::Args),
    /// Check a manifest as the host would: signature, digests, modules, cases
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

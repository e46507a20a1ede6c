//! `cargo xtask bench`: the cost of Postern compared with Envoy's own filters.

mod load;
mod machine;
mod policy;
mod report;
mod results;
mod variant;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use postern_testbed::idp::IdentityProvider;

use crate::{build, setup};
use load::Bench;
use results::Results;

/// Time for V8 to optimise hot functions, and for caches to fill.
const WARM_UP: Duration = Duration::from_secs(3);

/// Measure Postern compared with Envoy's own filters
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    Gate(GateArgs),
    /// Time of a decision of the module rbac: in the host's process, and through Check on a Unix socket
    Policy,
}

/// CPU time per request: API key and limit, and JWT, each compared with the native filters
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Requires two cores and `wrk`. Writes docs/performance.md. Takes about two minutes.

Examples:
  cargo xtask bench gate
  cargo xtask bench gate --json --rounds 5 --seconds 10
  cargo xtask bench gate --baseline earlier/postern.wasm")]
struct GateArgs {
    /// Print the results as JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Seconds under load for each variant in each round; the kernel counts CPU time in 1/100 s
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Number of measurements of each variant
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Measure an earlier build of the filter as well, in the same rounds; docs/performance.md is then left as it is
    #[arg(long, value_name = "WASM")]
    baseline: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.benchmark {
        Benchmark::Gate(args) => gate(args),
        Benchmark::Policy => policy::run(),
    }
}

fn gate(args: &GateArgs) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        bail!("the benchmark requires two cores: one for Envoy, one for the load generator");
    }
    eprintln!("[1/4] setting up");
    let tools = setup::run()?;
    setup::load_generator()?;
    eprintln!("[2/4] building the filter");
    let filter = build::filter()?;
    eprintln!("[3/4] starting and warming up each variant");
    let idp = IdentityProvider::start().context("cannot start the identity provider")?;
    let mut benches = Vec::new();
    for variant in variant::all(&idp) {
        if let (Some(baseline), Some(earlier)) = (&args.baseline, variant.with_baseline()) {
            benches.push(Bench::start(earlier, &tools.envoy, baseline, &idp)?);
        }
        benches.push(Bench::start(variant, &tools.envoy, &filter.path, &idp)?);
    }
    for bench in &mut benches {
        bench.check()?;
        bench.measure(WARM_UP)?;
    }
    eprintln!(
        "[4/4] measuring: {} rounds of {} s for each variant",
        args.rounds, args.seconds
    );
    let mut results = Results::default();
    for round in 1..=args.rounds {
        for bench in &mut benches {
            let cost = bench.measure(Duration::from_secs(args.seconds))?;
            eprintln!(
                "  round {round}: {:<20} {cost:6.2} µs of CPU per request",
                bench.variant.name
            );
            results.add(bench.variant.name, cost);
        }
    }
    let peers: Vec<_> = benches
        .iter()
        .map(|bench| (bench.variant.name, bench.variant.peers))
        .collect();
    let rows = results.rows(&peers);
    if args.json {
        println!("{}", report::json(&rows));
    } else {
        print!("{}", report::table(&rows));
    }
    if args.baseline.is_some() {
        return Ok(());
    }
    let machine = machine::Machine::detect(&tools.envoy, cores)?;
    report::write(&rows, &machine, args.rounds, args.seconds)
}

//! `cargo xtask up`: the whole thing on this machine, tried out before your eyes.

mod calls;
mod demo;
mod gate;
mod host;
mod table;

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::build::modules::Modules;
use crate::{build, setup};
use calls::{Call, Outcome};
use demo::Demo;

/// How long the first token may wait for the issuer's keys.
const KEYS_DEADLINE: Duration = Duration::from_secs(15);

/// Start the demo: Envoy with Postern, the policy host, an identity provider and a sample API; try every kind of caller
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask up                    stays until Ctrl-C; prints curl lines to paste
  cargo xtask up --once             exits 0 if every answer is as expected, else 1
  cargo xtask up --port 0 --admin-port 0   on free ports")]
pub(crate) struct Args {
    /// Stop after the table; the exit code tells whether all answers were as expected
    #[arg(long)]
    once: bool,
    /// Where Envoy takes requests (0: any free port)
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Where Envoy's admin interface is (0: any free port)
    #[arg(long, default_value_t = 9901)]
    admin_port: u16,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    // Before minutes of building.
    must_be_free(args.port, "--port")?;
    must_be_free(args.admin_port, "--admin-port")?;
    println!("[1/5] setting up");
    let tools = setup::run()?;
    setup::token()?;
    println!("[2/5] building the filter");
    let filter = build::filter()?;
    println!("[3/5] building the policy host and its modules");
    let modules = build::modules::build()?;
    println!(
        "[4/5] starting the identity provider, the KMS proxy, the policy host, the sample API and Envoy"
    );
    let mut demo = Demo::start(&tools.envoy, &filter.path, &modules, args.port, args.admin_port)?;
    println!("[5/5] calling the API through {}", demo.envoy.url(""));

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let all_as_expected = runtime.block_on(try_out(&demo))?;
    println!("\nand what the audit log says of it:\n");
    host::verify(&modules, &demo.host)?;
    if args.once {
        demo.envoy.stop();
        if !all_as_expected {
            bail!("not every answer is as expected");
        }
        return Ok(());
    }
    invite(&demo, &modules);
    runtime.block_on(until_told_to_stop())?;
    println!("\nstopping");
    demo.envoy.stop();
    Ok(())
}

fn must_be_free(port: u16, flag: &str) -> Result<()> {
    match TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => Ok(()),
        Err(error) => bail!("port {port} cannot be used ({error}); choose another one with {flag}"),
    }
}

async fn try_out(demo: &Demo) -> Result<bool> {
    let client = postern_testbed::http::builder()
        .timeout(Duration::from_secs(10))
        .build()?;
    wait_for_keys(&client, demo).await?;
    let mut rows: Vec<(Call, Outcome)> = Vec::new();
    for call in demo.calls() {
        let outcome = call.make(&client, &demo.envoy.url("")).await;
        let outcome = outcome.with_context(|| format!("the call \"{}\" got no answer", call.name))?;
        rows.push((call, outcome));
    }
    print!("\n{}", table::render(&rows, table::coloured()));
    Ok(rows.iter().all(|(call, outcome)| call.expected.matches(outcome)))
}

/// The filter holds the first requests back until it has the keys. On a slow machine it may give up on some.
async fn wait_for_keys(client: &reqwest::Client, demo: &Demo) -> Result<()> {
    let call = demo.token_call();
    let deadline = tokio::time::Instant::now() + KEYS_DEADLINE;
    while tokio::time::Instant::now() < deadline {
        match call.make(client, &demo.envoy.url("")).await {
            Ok(outcome) if outcome.status != 503 => break,
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
    Ok(())
}

fn invite(demo: &Demo, modules: &Modules) {
    let base = demo.envoy.url("");
    println!("\nTry it yourself (tokens are good for an hour):\n");
    for call in demo.calls_to_paste() {
        println!("# {}\n{}\n", call.name, call.curl(&base));
    }
    if let Some(admin) = demo.envoy.admin_addr() {
        println!("Envoy's admin pages   http://{admin}/");
        println!("decisions by rule     http://{admin}/stats?filter=wasmcustom");
        println!("the same, Prometheus  http://{admin}/stats/prometheus?filter=wasmcustom");
    }
    println!(
        "policies              curl --unix-socket {} http://admin/v1/policies",
        demo.host.admin_socket().display()
    );
    println!(
        "the audit log         {} {}",
        modules.postern.display(),
        host::verification(&demo.host).join(" ")
    );
    println!(
        "the KMS proxy's log   {}",
        demo.kms.folder().join("log").display()
    );
    println!("Envoy's log           {}", demo.envoy.log_path().display());
    println!(
        "the gate              {} (move another into its place)",
        demo.envoy.log_path().with_file_name(demo::FILTER).display()
    );
    println!("\nCtrl-C stops everything.");
}

async fn until_told_to_stop() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

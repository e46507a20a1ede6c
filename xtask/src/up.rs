//! `cargo xtask up`: everything on this machine, in two stages. The gate is built first and answers requests while the
//! policy host is built.

mod calls;
mod demo;
mod gate;
mod host;
mod table;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use postern_testbed::policy_host::PolicyHost;
use tokio::signal::unix::{SignalKind, signal};

use crate::build::modules::Modules;
use crate::{build, progress, setup};
use calls::{Call, CallResult};
use demo::Demo;

/// How long the first token may wait for the issuer's keys.
const KEYS_DEADLINE: Duration = Duration::from_secs(15);

/// Start the demo: Envoy with Postern, an identity provider and a sample API, then the policy host; call as every kind of
/// caller
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask up                    stays until Ctrl-C; prints curl lines to paste
  cargo xtask up --once             exits 0 if every response is as expected, else 1
  cargo xtask up --port 0 --admin-port 0   on free ports")]
pub(crate) struct Args {
    /// Stop after the tables; the exit code says whether all responses were as expected
    #[arg(long)]
    once: bool,
    /// The port of Envoy's listener (0: any free port)
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The port of Envoy's admin interface (0: any free port)
    #[arg(long, default_value_t = 9901)]
    admin_port: u16,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    // Before minutes of building.
    must_be_free(args.port, "--port")?;
    must_be_free(args.admin_port, "--admin-port")?;
    let started = Instant::now();
    println!("[1/6] setting up");
    let tools = setup::run()?;
    println!("[2/6] building the filter");
    let filter = progress::during("building the filter", build::filter)?;
    println!("[3/6] starting the identity provider, the sample API and Envoy");
    let host_folder = PolicyHost::folder_for_later()?;
    let mut demo = Demo::start(
        &tools.envoy,
        &filter.path,
        host_folder.path(),
        args.port,
        args.admin_port,
    )?;
    let url = demo.envoy.url("");
    println!("[4/6] calling the API through {url}");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(wait_for_keys(&demo))?;
    let mut as_expected = runtime.block_on(call(&demo, demo.gate_calls()))?;

    println!(
        "\nThe gate was up {} after xtask itself was built. Call it at {url} while the policy host is built.\n",
        minutes(started.elapsed())
    );
    println!("[5/6] building the policy host, the KMS proxy and the policy modules, and starting them");
    setup::token()?;
    let modules = progress::during("building the policy host and its modules", || {
        build::modules::build_named(host::MODULES.map(str::to_owned).to_vec())
    })?;
    let services = host::Services::start(&modules, host_folder)?;
    println!("[6/6] calling the API again, where it needs the policy host");
    as_expected &= runtime.block_on(call(&demo, demo.host_calls()))?;
    println!("\nand the audit log, verified:\n");
    host::verify(&modules, &services.host)?;
    println!(
        "\nAll was up {} after xtask itself was built.",
        minutes(started.elapsed())
    );
    if args.once {
        demo.envoy.stop();
        if !as_expected {
            bail!("not every response is as expected");
        }
        return Ok(());
    }
    invite(&demo, &services, &modules);
    runtime.block_on(until_stopped())?;
    println!("\nstopping");
    demo.envoy.stop();
    Ok(())
}

/// As `3 min 20 s`.
fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{} min {} s", seconds / 60, seconds % 60)
}

fn must_be_free(port: u16, flag: &str) -> Result<()> {
    match TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => Ok(()),
        Err(error) => bail!("port {port} cannot be used ({error}); choose another one with {flag}"),
    }
}

/// Makes the calls and prints their results as a table. True if all are as expected.
async fn call(demo: &Demo, calls: Vec<Call>) -> Result<bool> {
    let client = client()?;
    let mut rows: Vec<(Call, CallResult)> = Vec::new();
    for call in calls {
        let result = call.make(&client, &demo.envoy.url("")).await;
        let result = result.with_context(|| format!("the call \"{}\" got no response", call.name))?;
        rows.push((call, result));
    }
    print!("\n{}", table::render(&rows, table::coloured()));
    Ok(rows.iter().all(|(call, result)| call.expected.matches(result)))
}

fn client() -> Result<reqwest::Client> {
    let client = postern_testbed::http::builder().timeout(Duration::from_secs(10));
    Ok(client.build()?)
}

/// The filter holds back the first requests until it has the keys. On a slow machine some may time out.
async fn wait_for_keys(demo: &Demo) -> Result<()> {
    let client = client()?;
    let call = demo.token_call();
    let deadline = tokio::time::Instant::now() + KEYS_DEADLINE;
    while tokio::time::Instant::now() < deadline {
        match call.make(&client, &demo.envoy.url("")).await {
            Ok(result) if result.status != 503 => break,
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
    Ok(())
}

fn invite(demo: &Demo, services: &host::Services, modules: &Modules) {
    let base = demo.envoy.url("");
    println!("\nTry it yourself (tokens are valid for an hour):\n");
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
        services.host.admin_socket().display()
    );
    println!(
        "the audit log         {} {}",
        modules.postern.display(),
        host::verification(&services.host).join(" ")
    );
    println!(
        "the KMS proxy's log   {}",
        services.kms.folder().join("log").display()
    );
    println!("Envoy's log           {}", demo.envoy.log_path().display());
    println!(
        "the gate              {} (replace it by moving another file over it)",
        demo.envoy.log_path().with_file_name(demo::FILTER).display()
    );
    println!("\nCtrl-C stops everything.");
}

async fn until_stopped() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    Ok(())
}

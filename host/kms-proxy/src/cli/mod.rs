//! The command line.

mod keygen;
mod report;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use postern_command::output::{Exit, Output};
use postern_kms_proxy::{Mode, Proxy, Settings, StartError, inspect, memory};
use postern_serve::log::{self, LogSettings};
use postern_serve::{LogQueue, SettingsError, catch_file_size_signal, log_panics, variable};
use tokio::runtime::Runtime;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How long flushing the log at exit may take.
const LOG_FLUSH_TIMEOUT: Duration = Duration::from_millis(300);

/// Run the KMS proxy, which signs with the keys of a PKCS#11 token
#[derive(Debug, Parser)]
#[command(
    name = "postern-kms-proxy",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "`postern kms-proxy` runs this program with the same arguments.\n\n\
    Signals: SIGTERM and SIGINT stop it after the requests in progress, SIGHUP reloads \
    signers, current, callers and certificates.\n\n\
    Exit codes: 0 stopped, or the check passed; 2 the token, a key or the address is not available: a retry may help; \
    3 invalid settings, a rejected PIN or a key that could leave the token: a retry does not help, and could lock the \
    token.\n\n\
    Examples:\n  \
    postern kms-proxy --config kms-proxy.yaml\n  \
    postern kms-proxy --config kms-proxy.yaml --check        log in and check every key, without serving\n  \
    postern kms-proxy keygen --config kms-proxy.yaml --label kernel-2026"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Option<Serve>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Generate an Ed25519 key in the token, which it cannot leave
    Keygen(keygen::Args),
}

#[derive(Debug, Clone, clap::Args)]
struct Serve {
    /// The proxy's settings file, YAML
    #[arg(long, value_name = "KMS-PROXY.yaml")]
    config: PathBuf,
    /// Log in to the token, check every key and print the results, without serving
    #[arg(long)]
    check: bool,
    /// Allow a key in software (`development` in the settings), and keys that can leave the token; for development only
    #[arg(long)]
    development: bool,
}

impl Serve {
    fn settings(&self) -> Result<Settings, SettingsError> {
        let mode = if self.development {
            Mode::Development
        } else {
            Mode::Production
        };
        Settings::read(&self.config, mode, &variable)
    }
}

impl Cli {
    pub(crate) fn run(self) -> Result<Output> {
        // Before the PIN is read, for every command.
        memory::protect()
            .context("cannot keep this process's memory out of core dumps and from other processes")?;
        match (self.command, self.serve) {
            (Some(Command::Keygen(args)), _) => keygen::run(&args),
            (None, Some(args)) => start(args),
            (None, None) => anyhow::bail!("--config KMS-PROXY.yaml is missing"),
        }
    }
}

fn start(args: Serve) -> Result<Output> {
    let settings = match args.settings() {
        Ok(settings) => settings,
        Err(error) => return Ok(report::invalid(&args.config, &error)),
    };
    let log = start_log(settings.log)?;
    let ended = serve(args, settings, log.clone());
    log.finish(LOG_FLUSH_TIMEOUT);
    ended
}

/// Starts the log on standard error; returns its queue.
fn start_log(settings: LogSettings) -> Result<LogQueue> {
    // The request log is written at every level.
    let (queue, lines) = log::stderr(
        settings,
        &["postern"],
        &[("postern_kms_proxy::audit", LevelFilter::INFO)],
    )
    .context("the log cannot be started")?;
    tracing_subscriber::registry()
        .with(lines)
        .try_init()
        .context("the log cannot be started")?;
    log_panics();
    Ok(queue)
}

fn serve(args: Serve, settings: Settings, log: LogQueue) -> Result<Output> {
    let runtime = Runtime::new().context("cannot start threads")?;
    let inside = runtime.enter();
    // Standard error may be a file.
    catch_file_size_signal().context("cannot catch signals")?;
    drop(inside);
    if args.check {
        return Ok(match runtime.block_on(inspect(&settings)) {
            Ok((signers, current)) => report::valid(&args.config, &settings, &signers, &current),
            Err(error) => failed(&args.config, error),
        });
    }
    let proxy = match runtime.block_on(Proxy::start(settings, log)) {
        Ok(proxy) => proxy,
        Err(error) => return Ok(failed(&args.config, error)),
    };
    let read = move || args.settings().map_err(|error| error.to_string());
    runtime.block_on(postern_serve::serve(proxy, read))?;
    // A call that hangs in the module cannot be interrupted, so it is not waited for.
    runtime.shutdown_background();
    Ok(Output::ok(String::new()))
}

fn failed(file: &Path, error: StartError) -> Output {
    let exit = if error.is_final() {
        Exit::Invalid
    } else {
        Exit::Denied
    };
    let error = anyhow::Error::new(error).context(file.display().to_string());
    Output {
        exit,
        ..Output::failure(&error)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples() {
        let mut command = Cli::command();
        // Before rendering the help of the program, which adds the subcommand `help`.
        let mut helps: Vec<_> = command
            .get_subcommands_mut()
            .map(|command| command.render_long_help().to_string())
            .collect();
        helps.push(command.render_long_help().to_string());
        for help in helps {
            assert!(help.contains("Examples:\n"), "{help}");
        }
    }
}

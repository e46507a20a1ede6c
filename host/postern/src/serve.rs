//! `postern serve`: the policy host.

mod log;
mod report;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use postern_policy::Compiler;
use postern_serve::variable;
use postern_server::{Host, Settings, StartError};

use crate::COMPILER;
use crate::output::{Exit, Output};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Signals: SIGTERM and SIGINT stop it after the requests in progress, SIGHUP reloads the settings.\n\n\
    Exit codes: 0 stopped, or the check passed; 2 a policy cannot be served (with --check, or with TAMPER_STRICT, \
    which requires all of them); 3 invalid settings, or it cannot run here.\n\n\
    Examples:\n  \
    postern serve --config host.yaml\n  \
    postern serve --config host.yaml --check        verify, compile and test everything, without serving\n  \
    curl --unix-socket /run/postern/admin.sock http://host/readyz"
)]
pub(crate) struct Args {
    /// The host's settings file, YAML
    #[arg(long, value_name = "HOST.yaml")]
    config: PathBuf,
    /// Load and verify everything and print the results, without serving
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<Output> {
    let file = args.config.display().to_string();
    let settings = match Settings::read(&args.config, &variable) {
        Ok(settings) => Settings {
            compiler: Compiler::current_exe(COMPILER),
            ..settings
        },
        Err(error) => return Ok(Output::invalid(&file, &error.problems())),
    };
    let runtime = postern_server::runtime().context("cannot start threads")?;
    let guard = runtime.enter();
    // So that writes beyond the file size limit fail, as on a full disk: those of the log and of the audit log.
    postern_serve::catch_file_size_signal().context("cannot catch signals")?;
    if args.check {
        // The results are printed; warnings go to the log, as when serving.
        let _tracing = log::start(settings.log)?;
        let inspection = runtime.block_on(postern_server::inspect(&settings))?;
        return Ok(report::inspection(&file, &settings, &inspection));
    }
    let tracing = log::start(settings.log)?;
    drop(guard);
    let result = runtime.block_on(serve(&args.config, settings));
    // Dropped outside the runtime, whose threads send the remaining spans.
    drop(tracing);
    // Tasks that hang are not waited for.
    runtime.shutdown_background();
    result
}

async fn serve(config: &Path, settings: Settings) -> Result<Output> {
    let host = match Host::start(settings).await {
        Ok(host) => host,
        Err(error @ StartError::Strict(_)) => {
            return Ok(Output {
                exit: Exit::Denied,
                ..Output::failure(&error.into())
            });
        }
        Err(error) => return Err(error.into()),
    };
    let config = config.to_owned();
    let read = move || Settings::read(&config, &variable).map_err(|error| error.to_string());
    postern_serve::serve(host, read).await?;
    Ok(Output::ok(String::new()))
}

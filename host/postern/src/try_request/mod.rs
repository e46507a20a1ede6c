//! `postern try`: runs a request through the gate without Envoy, and explains the decision.

mod args;
mod attempt;
mod credentials;
mod effect;
mod explain;
pub(crate) mod header;
mod hints;
mod reasons;
mod report;
mod request;
mod trace;

use anyhow::{Context, Result, bail};
use postern_gate::Gate;
use postern_gate::ports::memory::{ManualClock, MemoryState};
use postern_gate::ports::{Clock as _, Ports, PureRust};

use crate::load::{self, Loaded};
use crate::output::{Exit, Output};
use crate::secrets::{self, UnsetSecret, fill_random};
use crate::{check, input, time};
pub(crate) use args::Args;
use explain::{Explainer, Explanation};
use request::OwnedRequest;
use trace::TraceRecorder;

pub(crate) fn run(args: &Args) -> Result<Output> {
    if args.file == "-" && args.data.as_deref() == Some("@-") {
        bail!("standard input can be the configuration or the body, not both");
    }
    let text = input::text(&args.file)?;
    let loaded = match load::load(&text, UnsetSecret::Placeholder, &secrets::secret) {
        Ok(loaded) => loaded,
        Err(invalid) => return check::invalid(input::display_name(&args.file), &invalid, args.json),
    };
    let request = OwnedRequest::new(args)?;
    let explanations = explain_attempts(&loaded, &request, args)?;
    let denied = explanations.iter().any(|explanation| !explanation.allowed());
    let exit = if denied { Exit::Denied } else { Exit::Allowed };
    let out = if args.json {
        report::json(&explanations)?
    } else {
        report::text(&request, &explanations)
    };
    Ok(Output {
        out,
        err: String::new(),
        exit,
    })
}

fn explain_attempts(loaded: &Loaded, request: &OwnedRequest, args: &Args) -> Result<Vec<Explanation>> {
    let clock = ManualClock::at(args.time.unwrap_or_else(time::now));
    install_keys(&loaded.gate, &args.jwks, &clock)?;
    let state = MemoryState::default();
    let recorder = TraceRecorder::default();
    let mut random = [0; 16];
    fill_random(&mut random)?;
    let tables = loaded.gate.open_tables(&state, random);
    let ports = Ports {
        clock: &clock,
        state: &state,
        verifier: &PureRust,
        observer: &recorder,
    };
    let explainer = Explainer {
        loaded,
        jwks: &args.jwks,
    };
    let attempts = (0..args.repeat).map(|_| {
        let attempt = attempt::run(&loaded.gate, &tables, &ports, request);
        explainer.explain(recorder.take(), attempt)
    });
    Ok(attempts.collect())
}

fn install_keys(gate: &Gate, jwks: &[(String, String)], clock: &ManualClock) -> Result<()> {
    for (issuer, file) in jwks {
        let Some(id) = gate.issuer(issuer) else {
            bail!("--jwks {issuer}={file}: the configuration has no issuer \"{issuer}\"");
        };
        gate.install_keys(id, &input::bytes(file)?, clock.monotonic())
            .with_context(|| format!("--jwks {issuer}={file}"))?;
    }
    Ok(())
}

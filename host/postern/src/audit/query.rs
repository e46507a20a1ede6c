//! `postern audit query`: prints the events that match filters.

use anyhow::Result;
use postern_audit::read::{Reader, Selection};
use postern_audit::{Decision, Kind, Time};
use serde::Deserialize;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error, StrDeserializer};

use super::Format;
use super::events;
use super::store::{self, StoreArgs};
use super::time_arg;
use crate::output::Output;
use crate::style::Style;
use crate::text::counted;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern audit query --store sqlite:/var/lib/postern/audit.sqlite --subject ann --since 1h\n  \
    postern audit query --rule sign --decision denied --since 2026-01-01T00:00:00Z --until 2026-02-01T00:00:00Z\n  \
    postern audit query --request-id 3f0c9a --format json | jq .record\n\n\
    All filters must match. The newest events are printed, the newest last. A payload that does not match its hash is \
    marked; `postern audit verify` verifies the whole log.")]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// The caller's subject
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// The gate's rule
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// The tenant
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// The request id
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// The decision: allowed, denied, failed
    #[arg(long, value_name = "DECISION", value_parser = named::<Decision>)]
    decision: Option<Decision>,
    /// The kind of event: request, policy, signature, manifest_signature, policy_load, tamper, and so on
    #[arg(long, value_name = "KIND", value_parser = named::<Kind>)]
    kind: Option<Kind>,
    /// Recorded at this time or later: 2026-01-01T00:00:00Z, or 1h for an hour ago
    #[arg(long, value_name = "TIME", value_parser = time_arg::parse)]
    since: Option<Time>,
    /// Recorded before this time
    #[arg(long, value_name = "TIME", value_parser = time_arg::parse)]
    until: Option<Time>,
    /// The maximum number of events
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Parses a name as events spell it.
fn named<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, String> {
    let name: StrDeserializer<'_, Error> = text.into_deserializer();
    T::deserialize(name).map_err(|error| error.to_string())
}

pub(super) fn run(args: &Args) -> Result<Output> {
    let runtime = store::runtime()?;
    let reader = args.store.open(&runtime, 1)?;
    let found = runtime.block_on(async { reader.select(&selection(args, &reader).await?).await })?;
    let style = Style::stdout();
    let lines = found.iter().map(|found| events::line(found, args.format, style));
    let mut output = Output::ok(lines.collect());
    output.err = store::warning(&reader);
    if found.len() == usize::try_from(args.limit).unwrap_or(usize::MAX) {
        let events = counted(found.len(), "event", "events");
        output.err += &format!(
            "only the newest {events}; there may be more: raise --limit, or pass an earlier --until\n"
        );
    }
    Ok(output)
}

async fn selection(args: &Args, reader: &Reader) -> Result<Selection, postern_audit::read::ReadError> {
    let from = match args.since {
        Some(since) => Some(reader.first_since(since).await?),
        None => None,
    };
    let to = match args.until {
        Some(until) => Some(reader.first_since(until).await? - 1),
        None => None,
    };
    Ok(Selection {
        subject: args.subject.clone(),
        rule: args.rule.clone(),
        tenant: args.tenant.clone(),
        request_id: args.request_id.clone(),
        decision: args.decision,
        kind: args.kind,
        from,
        to,
        limit: args.limit,
    })
}

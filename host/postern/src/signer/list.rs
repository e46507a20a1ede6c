//! `postern signer list`: lists the signers and their state.

use std::time::SystemTime;

use anyhow::Result;
use postern_signers::{Registry, Signer, Status, Use, format_key};
use serde::Serialize;

use super::registry::{self, format_time};
use crate::output::{Output, json};
use crate::style::Style;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern signer list --registry signers.toml\n  \
    postern signer list --registry signers.toml --format json | jq -r '.signers[] | select(.state == \"active\").id'")]
pub(crate) struct Args {
    /// The output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    registry: registry::Args,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Format {
    /// A table
    #[default]
    Text,
    /// One JSON document: signers, each with id, state, public_key, status, uses, valid_from, valid_until, retired_at
    Json,
}

#[derive(Serialize)]
struct List {
    signers: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    id: String,
    /// The effective state: `active`, `retired`, `expired` or `not_yet_valid`.
    state: &'static str,
    public_key: String,
    /// The status in the file: `active` or `retired`.
    status: &'static str,
    /// What its signatures are trusted for.
    uses: Vec<&'static str>,
    valid_from: Option<String>,
    valid_until: Option<String>,
    retired_at: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<Output> {
    let registry = args.registry.read()?;
    let list = List {
        signers: rows(&registry, SystemTime::now()),
    };
    match args.format {
        Format::Json => Ok(Output::ok(json(&list)?)),
        Format::Text if list.signers.is_empty() => Ok(Output::ok(format!(
            "{} has no signers: no signature is trusted\n",
            args.registry.name()
        ))),
        Format::Text => Ok(Output::ok(table(&list.signers, Style::stdout()))),
    }
}

fn rows(registry: &Registry, now: SystemTime) -> Vec<Row> {
    let row = |(id, signer): (&str, &Signer)| Row {
        id: id.to_owned(),
        state: state(signer, now),
        public_key: format_key(&signer.key),
        status: signer.status.name(),
        uses: signer.uses().iter().map(Use::name).collect(),
        valid_from: signer.valid_from.map(format_time),
        valid_until: signer.valid_until.map(format_time),
        retired_at: signer.retired_at.map(format_time),
    };
    registry.iter().map(row).collect()
}

fn state(signer: &Signer, now: SystemTime) -> &'static str {
    if signer.status == Status::Retired {
        "retired"
    } else if signer.valid_until.is_some_and(|until| now >= until) {
        "expired"
    } else if signer.valid_from.is_some_and(|from| now < from) {
        "not_yet_valid"
    } else {
        "active"
    }
}

fn table(rows: &[Row], style: Style) -> String {
    let names = |row: &Row| row.uses.join(",");
    let widest = rows.iter().map(|row| row.id.len()).fold("ID".len(), usize::max);
    let uses = rows
        .iter()
        .map(|row| names(row).len())
        .fold("USES".len(), usize::max);
    let mut text = style.bold(&format!(
        "{:widest$}  {:13}  {:20}  {:20}  {:uses$}  PUBLIC KEY",
        "ID", "STATE", "FROM", "UNTIL", "USES"
    ));
    text.push('\n');
    for row in rows {
        let state = format!("{:13}", row.state);
        let state = match row.state {
            "active" => style.success(&state),
            "retired" => state,
            _ => style.warning(&state),
        };
        let time = |time: Option<&String>| time.map_or("-", String::as_str).to_owned();
        text += &format!(
            "{:widest$}  {state}  {:20}  {:20}  {:uses$}  {}\n",
            row.id,
            time(row.valid_from.as_ref()),
            // One column for both ends.
            time(row.valid_until.as_ref().or(row.retired_at.as_ref())),
            names(row),
            row.public_key
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn columns_are_aligned() {
        for (id, uses) in [("a", vec![]), ("kernel-2026", vec!["manifest", "checkpoint"])] {
            let row = Row {
                id: id.to_owned(),
                state: "active",
                public_key: "ed25519:AAAA".to_owned(),
                status: "active",
                uses,
                valid_from: None,
                valid_until: None,
                retired_at: None,
            };
            let text = table(&[row], Style::plain());
            let (header, line) = text.trim_end().split_once('\n').unwrap();
            assert_eq!(header.find("STATE"), line.find("active"), "{text}");
            assert_eq!(header.find("PUBLIC KEY"), line.find("ed25519:"), "{text}");
        }
    }

    #[test]
    fn the_state_follows_from_status_and_validity() {
        let registry = Registry::parse(
            "[signers.a]\npublic_key = \"ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\"\nstatus = \"active\"\n\
             valid_from = 2026-01-01T00:00:00Z\nvalid_until = 2027-01-01T00:00:00Z\n",
        )
        .unwrap();
        let active = registry.get("a").unwrap();
        let retired = Signer {
            status: Status::Retired,
            ..active.clone()
        };
        let (from, until) = (active.valid_from.unwrap(), active.valid_until.unwrap());
        let second = Duration::from_secs(1);
        for (now, expected) in [
            (from - second, "not_yet_valid"),
            (from, "active"),
            (until - second, "active"),
            (until, "expired"),
        ] {
            assert_eq!(state(active, now), expected);
            assert_eq!(state(&retired, now), "retired");
        }
    }
}

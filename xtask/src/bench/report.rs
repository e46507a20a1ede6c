//! Formats the results as a table, as JSON and as docs/performance.md.

use anyhow::{Context, Result};
use postern_testbed::paths;
use serde_json::{Value, json};

use super::machine::Machine;
use super::results::Row;

pub(super) fn json(rows: &[Row]) -> Value {
    rows.iter()
        .map(|row| {
            json!({
                "variant": row.variant,
                "peer": row.peer,
                "cpu_us_per_request": rounded(row.cpu_us_per_request, 100.0),
                "ratio": row.ratio.map(|ratio| rounded(ratio, 1000.0)),
            })
        })
        .collect()
}

fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

/// The cells of each row, header included.
fn cells(rows: &[Row]) -> Vec<[String; 4]> {
    let header = ["variant", "CPU per request", "compared with", "ratio"].map(str::to_owned);
    let row = |row: &Row| {
        [
            row.variant.to_owned(),
            format!("{:.1} µs", row.cpu_us_per_request),
            row.peer.unwrap_or("").to_owned(),
            row.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
        ]
    };
    std::iter::once(header).chain(rows.iter().map(row)).collect()
}

pub(super) fn table(rows: &[Row]) -> String {
    let cells = cells(rows);
    let width = |column: usize| {
        cells
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let mut text = String::new();
    for row in &cells {
        let padded = row
            .iter()
            .enumerate()
            .map(|(column, cell)| format!("{cell:<0$}", width(column)));
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn markdown_table(rows: &[Row]) -> String {
    let mut lines: Vec<String> = cells(rows)
        .iter()
        .map(|row| format!("| {} |", row.join(" | ")))
        .collect();
    lines.insert(1, "|---|---|---|---|".to_owned());
    lines.join("\n")
}

pub(super) fn write(rows: &[Row], machine: &Machine, rounds: u32, seconds: u64) -> Result<()> {
    let Machine {
        processor,
        cores,
        envoy,
        rustc,
        wrk,
    } = machine;
    let table = markdown_table(rows);
    let page = format!(
        "\
# What the gate costs

Written by `cargo xtask bench gate`; run it to measure on your machine.

{table}

CPU per request is that of the whole Envoy process, HTTP handling included: `none` is an Envoy with no filter but the
router. A ratio is Postern's cost divided by the peer's; below 1 Postern is cheaper.

What the variants do:

- `none`: nothing.
- `native-key-limit`: Envoy's `api_key_auth`, then `local_ratelimit` with a bucket per client.
- `postern-key-limit`: the same four keys, stored as digests only, and a limit per subject, exact across workers.
- `native-jwt`: Envoy's `jwt_authn`, RS256, which verifies the token of every request.
- `native-jwt-cached`: the same with its cache of verified tokens, which is off by default.
- `postern-jwt`: RS256. Verified tokens are cached until they expire.

All but `none` pass the caller's name to the upstream in one header (Postern: `identity_headers: [subject]`). Every
request has the same valid credential, and Envoy itself responds with 200; no upstream is involved.

## How it was measured

Each variant is a separate Envoy with one worker, pinned to one core; `wrk` saturates it over 32 connections from
another. The variants take turns: {rounds} rounds of {seconds} s each, after a warm-up. A round's cost is the process's
user and system time divided by the number of responses; the table has the median over the rounds, and the median of
the ratios within a round. So a temporary slowdown of the machine (other load, temperature) affects both sides of a
ratio. Before measuring, each gate is checked to accept the credential and to refuse a request without it; a
single response other than 200 under load fails the benchmark.

Processor: {processor}, {cores} cores. Envoy {envoy}, rustc {rustc}, wrk {wrk}.
"
    );
    let file = paths::workspace().join("docs/performance.md");
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&file, page).with_context(|| format!("cannot write {}", file.display()))?;
    eprintln!("written to docs/performance.md");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let row = |variant, peer, cost, ratio| Row {
            variant,
            peer,
            cpu_us_per_request: cost,
            ratio,
        };
        vec![
            row("none", None, 13.426, None),
            row("ours", Some("theirs"), 15.0, Some(1.0714)),
        ]
    }

    #[test]
    fn json_has_numbers() {
        let expected = json!([
            {"variant": "none", "peer": null, "cpu_us_per_request": 13.43, "ratio": null},
            {"variant": "ours", "peer": "theirs", "cpu_us_per_request": 15.0, "ratio": 1.071},
        ]);
        assert_eq!(json(&rows()), expected);
    }

    #[test]
    fn tables_are_aligned() {
        assert_eq!(
            table(&rows()),
            "variant  CPU per request  compared with  ratio\n\
             none     13.4 µs\n\
             ours     15.0 µs          theirs         1.07\n"
        );
        assert!(markdown_table(&rows()).starts_with("| variant | CPU per request |"));
    }
}

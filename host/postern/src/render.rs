//! `postern render`: a checked `gate.yaml` in the form that Envoy takes.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::ValueEnum;

use crate::check;
use crate::input;
use crate::load;
use crate::output::Output;
use crate::secrets::{self, Unset};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern render gate.yaml                          one line of JSON, for the configuration's StringValue\n  \
    postern render gate.yaml --as envoy --wasm /etc/postern/postern.wasm\n  \
    postern render gate.yaml > gate.json              and back: postern check gate.json")]
pub(crate) struct Args {
    /// The configuration, YAML or JSON; `-` reads standard input
    #[arg(value_name = "GATE.yaml")]
    file: String,
    /// What to print
    #[arg(long = "as", value_enum, default_value = "json")]
    form: Form,
    /// Where Envoy finds the filter; for --as envoy
    #[arg(long, value_name = "FILE", default_value = "/etc/postern/postern.wasm")]
    wasm: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    /// One line of JSON
    Json,
    /// An entry of Envoy's http_filters, with all that Postern needs set
    Envoy,
}

pub(crate) fn run(args: &Args) -> Result<Output> {
    // Nothing is rendered that Envoy would refuse.
    let loaded = match load::file(&args.file, Unset::StandIn) {
        Ok(loaded) => loaded,
        Err(invalid) => return check::invalid(input::name(&args.file), &invalid, false),
    };
    let json = loaded.document.to_string();
    let variables: BTreeSet<&str> = secrets::references(&loaded.config)
        .into_iter()
        .map(|(_, variable)| variable)
        .collect();
    Ok(Output::ok(match args.form {
        Form::Json => format!("{json}\n"),
        Form::Envoy => envoy(&json, &args.wasm, &variables),
    }))
}

fn envoy(json: &str, wasm: &str, variables: &BTreeSet<&str>) -> String {
    let environment = if variables.is_empty() {
        String::new()
    } else {
        let names: Vec<_> = variables.iter().copied().collect();
        format!(
            "        environment_variables:\n          host_env_keys: [{}]\n",
            names.join(", ")
        )
    };
    format!(
        "- name: envoy.filters.http.wasm
  typed_config:
    \"@type\": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
    config:
      name: postern
      root_id: postern
      failure_policy: FAIL_RELOAD
      allow_on_headers_stop_iteration: true
      vm_config:
        runtime: envoy.wasm.runtime.v8
        vm_id: postern
        code:
          local: {{filename: {wasm}}}
{environment}      configuration:
        \"@type\": type.googleapis.com/google.protobuf.StringValue
        value: {value}
",
        wasm = single_quoted(wasm),
        value = single_quoted(json),
    )
}

/// A YAML scalar in which nothing but the quote itself means anything (YAML 1.2, section 7.3.2).
fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document;
    use serde_json::Value;

    #[test]
    fn what_is_rendered_is_yaml_that_holds_the_configuration() {
        let json = r##"{"rules":[{"name":"it's","open":true}],"x":"# {a: b}"}"##;
        let yaml = envoy(json, "/a b/c'd.wasm", &BTreeSet::from(["ONE", "TWO"]));
        let value = document::parse(&yaml).unwrap();
        let config = &value[0]["typed_config"]["config"];
        assert_eq!(config["configuration"]["value"], Value::String(json.to_owned()));
        let vm = &config["vm_config"];
        assert_eq!(vm["code"]["local"]["filename"], "/a b/c'd.wasm");
        assert_eq!(
            vm["environment_variables"]["host_env_keys"],
            serde_json::json!(["ONE", "TWO"])
        );
        assert!(!envoy(json, "w", &BTreeSet::new()).contains("environment_variables"));
    }
}

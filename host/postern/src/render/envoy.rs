//! The filter as Envoy configuration, in YAML.

use std::collections::BTreeSet;

/// The name of the filter configuration in extension config discovery.
const NAME: &str = "postern";

/// The parts of the filter configuration that vary between gates.
pub(super) struct Filter<'a> {
    /// `gate.yaml` as one line of JSON.
    pub(super) json: &'a str,
    /// The path at which Envoy loads the module.
    pub(super) wasm: &'a str,
    /// The environment variables that are passed to the VM.
    pub(super) variables: &'a BTreeSet<&'a str>,
}

impl Filter<'_> {
    /// A complete entry of `http_filters`.
    pub(super) fn inline(&self) -> String {
        format!(
            "- name: envoy.filters.http.wasm\n  typed_config:\n{}",
            self.typed_config()
        )
    }

    /// The file that Envoy watches: one resource of the extension config discovery service (ECDS).
    pub(super) fn resource(&self) -> String {
        format!(
            "resources:\n- \"@type\": type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig\n  name: {NAME}\n  \
             typed_config:\n{}",
            self.typed_config()
        )
    }

    fn typed_config(&self) -> String {
        let names: Vec<_> = self.variables.iter().copied().collect();
        let environment = if names.is_empty() {
            String::new()
        } else {
            format!(
                "        environment_variables:\n          host_env_keys: [{}]\n",
                names.join(", ")
            )
        };
        format!(
            "    \"@type\": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
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
            wasm = single_quoted(self.wasm),
            value = single_quoted(self.json),
        )
    }
}

/// An entry of `http_filters` that watches the file of [`Filter::resource`].
pub(super) fn config_discovery(file: &str) -> String {
    format!(
        "- name: {NAME}
  config_discovery:
    config_source:
      path_config_source: {{path: {}}}
    type_urls: [type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm]
",
        single_quoted(file)
    )
}

/// A single-quoted YAML scalar, in which only the quote is special (YAML 1.2, section 7.3.2).
fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document;
    use serde_json::{Value, json};

    #[test]
    fn the_rendered_yaml_contains_the_configuration() {
        let json = r##"{"rules":[{"name":"it's","open":true}],"x":"# {a: b}"}"##;
        let variables = BTreeSet::from(["ONE", "TWO"]);
        let filter = Filter {
            json,
            wasm: "/a b/c'd.wasm",
            variables: &variables,
        };
        let inline = document::parse(&filter.inline()).unwrap();
        let resource = document::parse(&filter.resource()).unwrap();
        assert_eq!(resource["resources"][0]["name"], NAME);
        for typed in [
            &inline[0]["typed_config"],
            &resource["resources"][0]["typed_config"],
        ] {
            let config = &typed["config"];
            assert_eq!(config["configuration"]["value"], Value::String(json.to_owned()));
            let vm = &config["vm_config"];
            assert_eq!(vm["code"]["local"]["filename"], "/a b/c'd.wasm");
            assert_eq!(
                vm["environment_variables"]["host_env_keys"],
                json!(["ONE", "TWO"])
            );
        }
        let none = BTreeSet::new();
        let filter = Filter {
            variables: &none,
            ..filter
        };
        assert!(!filter.inline().contains("environment_variables"));
        let watching = document::parse(&config_discovery("/it's/gate.ecds.yaml")).unwrap();
        assert_eq!(watching[0]["name"], NAME);
        let source = &watching[0]["config_discovery"]["config_source"]["path_config_source"];
        assert_eq!(source["path"], "/it's/gate.ecds.yaml");
    }

    #[test]
    fn the_shipped_envoy_files_match_the_rendered_form() {
        let shipped = document::parse(include_str!("../../../../envoy/gate.ecds.yaml")).unwrap();
        let variables = BTreeSet::from(["GITHUB_WEBHOOK_SECRET"]);
        let filter = Filter {
            json: "{{GATE_JSON}}",
            wasm: "{{WASM_PATH}}",
            variables: &variables,
        };
        assert_eq!(document::parse(&filter.resource()).unwrap(), shipped);
        let envoy = include_str!("../../../../envoy/envoy.yaml");
        let entry: Vec<_> = config_discovery("{{GATE_FILE}}")
            .lines()
            .map(|line| format!("          {line}\n"))
            .collect();
        assert!(envoy.contains(&entry.concat()), "{}", entry.concat());
    }
}

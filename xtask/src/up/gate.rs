//! The demo's `gate.yaml`, with a generated API key.

use anyhow::{Context, Result};
use postern_testbed::sign::api_key_digest;
use serde_json::{Value, json};

/// The place of the key's digest in the file.
const DIGEST: &str = "/api_keys/agents/keys/0/digest";

/// The file as JSON, with the digest of this key in place of the committed one.
pub(super) fn with_key(yaml: &str, key: &str) -> Result<Value> {
    let mut gate: Value = serde_saphyr::from_str(yaml).context("envoy/gate.yaml is not YAML")?;
    let digest = gate
        .pointer_mut(DIGEST)
        .context("envoy/gate.yaml has no key under api_keys.agents")?;
    *digest = json!(api_key_digest(key));
    Ok(gate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_file_takes_a_key() {
        let gate = with_key(include_str!("../../../envoy/gate.yaml"), "hello").unwrap();
        assert_eq!(
            gate["api_keys"]["agents"]["keys"][0],
            json!({
                "id": "ci",
                "digest": "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
                "roles": ["Operator"],
            })
        );
        assert_eq!(gate["limits"]["per-caller"]["quota"], json!(5));
        assert_eq!(gate["rules"][0]["open"], json!(true));
        assert_eq!(gate["issuers"]["demo"]["leeway"], json!("5s"));
    }
}

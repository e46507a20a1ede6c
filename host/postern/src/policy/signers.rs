//! Trusted signers: public keys as in the settings of a host.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ct_codecs::{Base64, Decoder as _, Encoder as _};
use ed25519_compact::PublicKey;
use postern_policy::Signers;
use serde_json::Value;

use crate::document;

const PREFIX: &str = "ed25519:";

/// Formats a public key: `ed25519:` and Base64.
pub(super) fn format_key(key: &PublicKey) -> String {
    format!("{PREFIX}{}", Base64::encode_to_string(**key).unwrap_or_default())
}

/// Parses a public key: `ed25519:` and Base64.
fn parse_key(text: &str) -> Result<PublicKey, String> {
    let key = text
        .strip_prefix(PREFIX)
        .and_then(|base64| Base64::decode_to_vec(base64, None).ok())
        .and_then(|bytes| PublicKey::from_slice(&bytes).ok())
        .filter(|key| key.validate().is_ok());
    key.ok_or_else(|| {
        "not a public key: write ed25519: and its 32 bytes in Base64, as `postern policy keygen` prints it"
            .to_owned()
    })
}

/// Parses `ann=ed25519:…`.
pub(super) fn parse(text: &str) -> Result<(String, PublicKey), String> {
    let (name, key) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("write NAME=ed25519:BASE64")?;
    Ok((name.to_owned(), parse_key(key)?))
}

/// The signers in a host's settings: `signers`, at the top or under `policies`.
pub(super) fn from_settings(file: &Path) -> Result<Signers> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
    let settings = document::parse(&text).map_err(|problem| anyhow::anyhow!("{}", problem.in_file(&name)))?;
    let Some(Value::Object(listed)) = ["/signers", "/policies/signers"]
        .iter()
        .find_map(|at| settings.pointer(at))
    else {
        bail!("{name} names no `signers`");
    };
    ensure!(!listed.is_empty(), "{name} names no `signers`");
    let listed = listed.iter().map(|(signer, key)| {
        let key = key
            .as_str()
            .context("not a string")
            .and_then(|key| parse_key(key).map_err(anyhow::Error::msg));
        Ok((
            signer.clone(),
            key.with_context(|| format!("{name}: signers.{signer}"))?,
        ))
    });
    listed.collect()
}

#[cfg(test)]
mod tests {
    use ed25519_compact::{KeyPair, Seed};

    use super::*;

    #[test]
    fn a_key_round_trips_and_anything_else_is_rejected() {
        let key = KeyPair::from_seed(Seed::new([7; 32])).pk;
        let text = format_key(&key);
        assert_eq!(parse(&format!("ann={text}")).unwrap(), ("ann".into(), key));
        for bad in [
            "ann",
            "=x",
            "ann=ed25519:AAAA",
            "ann=AAAA",
            "ann=ed25519:!",
            &format!("={text}"),
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn signers_are_read_from_both_places_in_settings() {
        let key = format_key(&KeyPair::from_seed(Seed::new([7; 32])).pk);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("host.yaml");
        for (text, found) in [
            (format!("signers: {{ann: '{key}', bob: '{key}'}}"), Ok(2)),
            (format!("policies: {{signers: {{ann: '{key}'}}}}"), Ok(1)),
            (
                "signers: {ann: 'ed25519:AAAA'}".into(),
                Err("signers.ann: not a public key"),
            ),
            ("signers: {ann: 7}".into(), Err("signers.ann")),
            ("signers: {}".into(), Err("names no `signers`")),
            ("listen: 1".into(), Err("names no `signers`")),
        ] {
            std::fs::write(&file, &text).unwrap();
            match (from_settings(&file), found) {
                (Ok(signers), Ok(number)) => assert_eq!(signers.len(), number),
                (Err(error), Err(says)) => assert!(format!("{error:#}").contains(says), "{error:#}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}

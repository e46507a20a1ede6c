//! The vectors of docs/formats.md, made with other software: the code does what the page specifies.

use std::time::SystemTime;

use ct_codecs::{Base64, Decoder as _};
use postern_signers::{Registry, Use, Uses, parse_key, possible_uses};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/vectors/signing.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn registry(vectors: &Value) -> Registry {
    Registry::parse(text(&vectors["registry"])).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    Base64::decode_to_vec(text(value), None).unwrap()
}

fn list(value: &Value) -> &[Value] {
    let list = value.as_array().unwrap();
    assert!(!list.is_empty());
    list
}

fn time(text: &str) -> Option<SystemTime> {
    text.ends_with('Z').then(|| humantime::parse_rfc3339(text).ok())?
}

#[test]
fn registries() {
    let vectors = vectors();
    let registry = registry(&vectors);
    assert_eq!(registry.get("old-style").unwrap().uses(), Uses::ALL);
    assert_eq!(registry.get("log-2026").unwrap().uses(), Use::Checkpoint.into());
    for refused in list(&vectors["registries_refused"]) {
        assert!(Registry::parse(text(refused)).is_err(), "{refused}");
    }
}

#[test]
fn signatures() {
    let vectors = vectors();
    let registry = registry(&vectors);
    for case in list(&vectors["signatures"]) {
        let verdict = registry.verify_recorded(
            text(&case["signer_id"]),
            Use::from_name(text(&case["use"])).unwrap(),
            &bytes(&case["message_b64"]),
            &bytes(&case["signature_b64"]),
            time(text(&case["made"])).unwrap(),
        );
        let verdict = verdict.map_or_else(|error| error.code(), |()| "counts");
        assert_eq!(verdict, case["verdict"], "{case}");
    }
}

#[test]
fn manifests() {
    let vectors = vectors();
    let registry = registry(&vectors);
    for case in list(&vectors["manifests"]) {
        let manifest: Value = serde_json::from_str(text(&case["manifest"])).unwrap();
        let canonical = postern_signing::canonical(&manifest).unwrap();
        assert_eq!(String::from_utf8_lossy(&canonical), text(&case["canonical"]));
        let hash = Sha256::digest(&canonical);
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, case["manifest_hash"]);
        let (signer, signature) = (text(&case["signer_id"]), bytes(&case["signature_b64"]));
        registry
            .verify_recorded(signer, Use::Manifest, &hash, &signature, SystemTime::now())
            .unwrap();
    }
}

#[test]
fn rotations() {
    let vectors = vectors();
    let registry = registry(&vectors);
    for case in list(&vectors["rotations"]) {
        assert_eq!(
            rotation(&case["document"], &registry).is_some(),
            case["counts"] == true,
            "{case}"
        );
    }
}

/// Verifies a rotation by the rules of the page.
fn rotation(document: &Value, registry: &Registry) -> Option<()> {
    let statement = document["statement"].as_str()?;
    let read: Value = serde_json::from_str(statement).ok()?;
    let canonical = postern_signing::canonical(&read).ok()?;
    let members = read.as_object()?;
    let member = |name: &str| members.get(name)?.as_str();
    let (old, new, new_key) = (
        member("old")?,
        member("new")?,
        parse_key(member("new_key")?).ok()?,
    );
    let made = time(member("time")?)?;
    if canonical != statement.as_bytes() || members.len() != 4 || old == new {
        return None;
    }
    let mut vouched = false;
    for (role, expected) in [("old", Some(old)), ("new", Some(new)), ("by", None)] {
        let Some(signed) = document.get(role) else {
            continue;
        };
        let id = signed["signer_id"].as_str()?;
        let fits = expected.is_none_or(|expected| expected == id) && (role == "new" || id != new);
        let signature = bytes(&signed["signature_b64"]);
        let verified = registry.verify_recorded(id, Use::Rotation, statement.as_bytes(), &signature, made);
        if !fits || verified.is_err() {
            return None;
        }
        vouched |= role != "new";
    }
    if let Some(known) = registry.get(new) {
        let must_vouch = known.uses().contains(Use::Rotation);
        if known.key != new_key || (must_vouch && document.get("new").is_none()) {
            return None;
        }
    }
    vouched.then_some(())
}

#[test]
fn reserved_payloads() {
    for case in list(&vectors()["reserved"]) {
        let names = case["could_be"].as_array().unwrap().iter().map(text);
        let uses: Uses = names.map(|name| Use::from_name(name).unwrap()).collect();
        assert_eq!(possible_uses(&bytes(&case["payload_b64"])), uses, "{case}");
    }
}

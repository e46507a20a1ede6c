use std::time::Duration;

use serde_json::json;

use super::*;
use crate::testing::{Fixture, admitted, refused};

/// GitHub Docs, "Validating webhook deliveries", section "Testing the webhook payload validation".
const GITHUB_SECRET: &str = "It's a Secret to Everybody";
const GITHUB_BODY: &[u8] = b"Hello, World!";
const GITHUB_SIGNATURE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

fn fixture() -> Fixture {
    Fixture::with_secrets(
        &json!({
            "signatures": {
                "github": {"scheme": "github", "secrets": [{"env": "OLD"}, {"env": "GITHUB"}], "max_body": "64B"},
                "bots": {"scheme": "keyed", "header_prefix": "x-bot-", "max_skew": "300s",
                         "keys": [{"id": "bot-1", "secrets": [{"env": "NEW"}, {"env": "OLD"}], "roles": ["Bot"]}]},
            },
            "rules": [
                {"name": "hook", "match": {"path": {"exact": "/hook"}}, "authenticate": {"any": ["signatures/github"]}},
                {"name": "bots", "authenticate": {"any": ["signatures/bots"]}, "authorize": {"roles": ["Bot"]}},
            ],
        }),
        &[
            ("GITHUB", GITHUB_SECRET),
            ("OLD", "the old secret"),
            ("NEW", "the new secret"),
        ],
    )
}

#[test]
fn the_example_from_githubs_documentation_verifies() {
    let fixture = fixture();
    for (signature, body, reason) in [
        (GITHUB_SIGNATURE, GITHUB_BODY, None),
        (
            &GITHUB_SIGNATURE.replace("757107ea", "757107EA"),
            GITHUB_BODY,
            None,
        ),
        (
            GITHUB_SIGNATURE,
            b"Hello, World?",
            Some(Reason::SignatureMismatch),
        ),
        (GITHUB_SIGNATURE, b"", Some(Reason::SignatureMismatch)),
        (
            &GITHUB_SIGNATURE.replace("sha256=", "sha1="),
            GITHUB_BODY,
            Some(Reason::SignatureMalformed),
        ),
        (
            GITHUB_SIGNATURE.trim_end_matches('7'),
            GITHUB_BODY,
            Some(Reason::SignatureMalformed),
        ),
        ("sha256=", GITHUB_BODY, Some(Reason::SignatureMalformed)),
        (GITHUB_SIGNATURE, &[b'x'; 65], Some(Reason::BodyTooLarge)),
    ] {
        let head = [("x-hub-signature-256", signature)];
        let step = fixture.post("/hook", &head, body);
        match reason {
            None => assert_eq!(admitted(&step).subject, "github"),
            Some(reason) => assert_eq!(refused(&step).reason, reason, "{signature}"),
        }
    }
    assert_eq!(
        refused(&fixture.post("/hook", &[], GITHUB_BODY)).reason,
        Reason::CredentialsMissing
    );
    let twice = [
        ("x-hub-signature-256", GITHUB_SIGNATURE),
        ("x-hub-signature-256", GITHUB_SIGNATURE),
    ];
    assert_eq!(
        refused(&fixture.post("/hook", &twice, GITHUB_BODY)).reason,
        Reason::CredentialsAmbiguous
    );
}

#[test]
fn a_declared_length_over_the_bound_is_refused_before_the_body() {
    let fixture = fixture();
    let head = [
        ("x-hub-signature-256", GITHUB_SIGNATURE),
        ("content-length", "65"),
    ];
    let step = fixture.begin("POST", "/hook", &head, false);
    assert_eq!(refused(&step).reason, Reason::BodyTooLarge);
}

#[test]
fn a_declared_length_that_32_bits_cannot_hold_is_refused_before_the_body() {
    let fixture = fixture();
    for length in [
        "4294967295",
        "4294967296",
        "18446744073709551616",
        "999999999999999999999999",
    ] {
        let head = [
            ("x-hub-signature-256", GITHUB_SIGNATURE),
            ("content-length", length),
        ];
        let step = fixture.begin("POST", "/hook", &head, false);
        assert_eq!(refused(&step).reason, Reason::BodyTooLarge, "{length}");
    }
}

/// An upgraded connection has no end of the body to wait for.
#[test]
fn an_upgrade_under_a_signature_is_refused_at_once() {
    let fixture = fixture();
    for (method, header) in [
        ("GET", ("upgrade", "websocket")),
        ("GET", (":protocol", "websocket")),
        ("CONNECT", ("x-any", "x")),
    ] {
        let head = [("x-hub-signature-256", GITHUB_SIGNATURE), header];
        let step = fixture.begin(method, "/hook", &head, false);
        assert_eq!(
            refused(&step).reason,
            Reason::UpgradeRefused,
            "{method} {header:?}"
        );
    }
}

struct Signed<'a> {
    secret: &'a str,
    key_id: &'a str,
    method: &'a str,
    target: &'a str,
    skew: i64,
    nonce: &'a str,
    body: &'a [u8],
}

impl Default for Signed<'_> {
    fn default() -> Self {
        Self {
            secret: "the new secret",
            key_id: "bot-1",
            method: "POST",
            target: "/orders?dry=1",
            skew: 0,
            nonce: "n-00000001",
            body: b"{}",
        }
    }
}

impl Signed<'_> {
    fn headers(&self, fixture: &Fixture) -> Vec<(&'static str, String)> {
        use ct_codecs::{Encoder, Hex};
        use hmac::Mac;
        use sha2::Digest;
        let now = i64::try_from(fixture.wall().as_secs()).unwrap();
        let timestamp = u64::try_from(now + self.skew).unwrap();
        let text = string_to_sign(
            self.method,
            self.target,
            timestamp,
            self.nonce,
            &Sha256::digest(self.body).into(),
        );
        let mac = mac(&Secret::new(self.secret))
            .unwrap()
            .chain_update(text)
            .finalize()
            .into_bytes();
        vec![
            ("x-bot-key-id", self.key_id.into()),
            ("x-bot-timestamp", timestamp.to_string()),
            ("x-bot-nonce", self.nonce.into()),
            ("x-bot-signature", Hex::encode_to_string(mac).unwrap()),
        ]
    }
}

fn as_refs<'a>(headers: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect()
}

#[test]
fn a_keyed_signature_covers_every_part() {
    let fixture = fixture();
    let sent = Signed::default();
    for (case, signed, reason) in [
        ("as sent", Signed::default(), None),
        (
            "old secret",
            Signed {
                secret: "the old secret",
                nonce: "n-00000002",
                ..Signed::default()
            },
            None,
        ),
        (
            "other secret",
            Signed {
                secret: "guess",
                ..Signed::default()
            },
            Some(Reason::SignatureMismatch),
        ),
        (
            "other method",
            Signed {
                method: "PUT",
                ..Signed::default()
            },
            Some(Reason::SignatureMismatch),
        ),
        (
            "other path",
            Signed {
                target: "/order?dry=1",
                ..Signed::default()
            },
            Some(Reason::SignatureMismatch),
        ),
        (
            "other query",
            Signed {
                target: "/orders?dry=0",
                ..Signed::default()
            },
            Some(Reason::SignatureMismatch),
        ),
        (
            "other body",
            Signed {
                body: b"{ }",
                ..Signed::default()
            },
            Some(Reason::SignatureMismatch),
        ),
        (
            "unknown key",
            Signed {
                key_id: "bot-2",
                ..Signed::default()
            },
            Some(Reason::SignatureKeyUnknown),
        ),
        (
            "too old",
            Signed {
                skew: -301,
                ..Signed::default()
            },
            Some(Reason::SignatureSkew),
        ),
        (
            "too new",
            Signed {
                skew: 301,
                ..Signed::default()
            },
            Some(Reason::SignatureSkew),
        ),
        (
            "short nonce",
            Signed {
                nonce: "n",
                ..Signed::default()
            },
            Some(Reason::SignatureMalformed),
        ),
    ] {
        let headers = signed.headers(&fixture);
        let step = fixture.post(sent.target, &as_refs(&headers), sent.body);
        match reason {
            None => assert_eq!(admitted(&step).subject, "bot-1", "{case}"),
            Some(reason) => assert_eq!(refused(&step).reason, reason, "{case}"),
        }
    }
}

#[test]
fn a_nonce_is_accepted_once_while_its_timestamp_is_valid() {
    let fixture = fixture();
    let headers = Signed::default().headers(&fixture);
    let send = || fixture.post("/orders?dry=1", &as_refs(&headers), b"{}");
    admitted(&send());
    assert_eq!(refused(&send()).reason, Reason::SignatureReplayed);
    fixture.advance(Duration::from_secs(300));
    assert_eq!(refused(&send()).reason, Reason::SignatureReplayed);
    fixture.advance(Duration::from_secs(1));
    assert_eq!(refused(&send()).reason, Reason::SignatureSkew);
}

#[test]
fn a_wrong_signature_does_not_use_up_a_nonce() {
    let fixture = fixture();
    let wrong = Signed {
        secret: "guess",
        ..Signed::default()
    }
    .headers(&fixture);
    assert_eq!(
        refused(&fixture.post("/orders?dry=1", &as_refs(&wrong), b"{}")).reason,
        Reason::SignatureMismatch
    );
    let right = Signed::default().headers(&fixture);
    admitted(&fixture.post("/orders?dry=1", &as_refs(&right), b"{}"));
}

#[test]
fn a_timestamp_has_digits_only() {
    let fixture = fixture();
    for timestamp in ["+1767225600", "1767225600 ", "", "0x10", "99999999999999999999"] {
        let mut headers = Signed::default().headers(&fixture);
        headers[1].1 = timestamp.into();
        let step = fixture.post("/orders?dry=1", &as_refs(&headers), b"{}");
        assert_eq!(refused(&step).reason, Reason::SignatureMalformed, "{timestamp:?}");
    }
}

#[test]
fn debug_output_has_no_secret() {
    let text = format!("{:?}", fixture().gate());
    for secret in [GITHUB_SECRET, "the old secret", "the new secret"] {
        assert!(!text.contains(secret));
    }
    let bytes = format!("{:?}", "the new secret".as_bytes());
    assert!(!text.contains(bytes.trim_matches(['[', ']'])));
}

#[test]
fn a_slow_body_cannot_outlast_its_nonce() {
    use crate::{Need, Step};
    let fixture = fixture();
    let headers = Signed::default().headers(&fixture);
    let headers = as_refs(&headers);
    admitted(&fixture.post("/orders?dry=1", &headers, b"{}"));
    fixture.advance(Duration::from_secs(299));
    let Step::Need(Need::Body(pending)) = fixture.begin("POST", "/orders?dry=1", &headers, false) else {
        panic!("the headers are in order")
    };
    fixture.advance(Duration::from_secs(302));
    let step = fixture.resume_with_body(pending, b"{}", "/orders?dry=1", &headers);
    assert_eq!(refused(&step).reason, Reason::SignatureSkew);
}

//! The canonical form of manifests: vectors of RFC 8785, and documents without one.

use postern_signing::{CanonicalError, Settings, Signing, canonical};
use serde_json::Value;

fn form(text: &str) -> Result<String, CanonicalError> {
    let document: Value = serde_json::from_str(text).unwrap();
    canonical(&document).map(|bytes| String::from_utf8(bytes).unwrap())
}

#[test]
fn vectors_of_rfc_8785() {
    for (text, expected) in [
        // Section 3.2.2, canonicalised in 3.2.3.
        (
            r#"{
              "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
              "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
              "literals": [null, true, false]
            }"#,
            "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
             \"string\":\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}",
        ),
        // Section 3.2.3: sorted by UTF-16 units.
        (
            r#"{"\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh",
                "1": "One", "\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control", "\u00f6": "Latin Small Letter O With Diaeresis"}"#,
            "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\
             \"\u{f6}\":\"Latin Small Letter O With Diaeresis\",\"\u{20ac}\":\"Euro Sign\",\
             \"\u{1f600}\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}",
        ),
        // The reference implementation's `structures`.
        (
            r#"{"1": {"f": {"f": "hi","F": 5} ,"\n": 56.0}, "10": { }, "": "empty", "a": { }, "111": [ {"e": "yes","E": "no" } ], "A": { }}"#,
            r#"{"":"empty","1":{"\n":56,"f":{"F":5,"f":"hi"}},"10":{},"111":[{"E":"no","e":"yes"}],"A":{},"a":{}}"#,
        ),
    ] {
        assert_eq!(form(text).unwrap(), expected);
    }
}

/// Appendix B: doubles, by their bits.
#[test]
fn numbers_of_rfc_8785() {
    for (bits, expected) in [
        (0x0000_0000_0000_0000_u64, "0"),
        (0x8000_0000_0000_0000, "0"),
        (0x0000_0000_0000_0001, "5e-324"),
        (0x8000_0000_0000_0001, "-5e-324"),
        (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
        (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
        (0x4340_0000_0000_0000, "9007199254740992"),
        (0xc340_0000_0000_0000, "-9007199254740992"),
        (0x4430_0000_0000_0000, "295147905179352830000"),
        (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
        (0x44b5_2d02_c7e1_4af6, "1e+23"),
        (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
        (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
        (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
        (0x444b_1ae4_d6e2_ef50, "1e+21"),
        (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
        (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
        (0x41b3_de43_5555_5553, "333333333.3333332"),
        (0x41b3_de43_5555_5557, "333333333.33333343"),
        (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
        (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
    ] {
        let document = Value::from(f64::from_bits(bits));
        assert_eq!(
            String::from_utf8(canonical(&document).unwrap()).unwrap(),
            expected,
            "{bits:x}"
        );
    }
}

/// Documents arrive as text: a parser that is inexact by a bit would have another number signed.
#[test]
fn numbers_are_read_exactly() {
    for text in [
        "9.999999999999997e+22",
        "1.0000000000000001e+23",
        "1424953923781206.2",
        "-0.0000033333333333333333",
        "7.3177701707893310e+15",
        "1.7976931348623157e+308",
        "2.2250738585072011e-308",
        "0.1234567890123456789",
        "31.245270191439438",
        "121.48791951161945",
    ] {
        let read: Value = serde_json::from_str(text).unwrap();
        assert_eq!(
            read.as_f64().unwrap().to_bits(),
            text.parse::<f64>().unwrap().to_bits(),
            "{text}"
        );
    }
}

#[test]
fn numbers_that_json_readers_round_are_rejected() {
    for text in ["9007199254740992", "-9007199254740992", "1e300"] {
        assert!(form(&format!("{{\"a\": [{text}]}}")).is_ok(), "{text}");
    }
    for text in ["9007199254740993", "-9007199254740993", "18446744073709551615"] {
        assert_eq!(
            form(&format!("{{\"a\": [{text}]}}")),
            Err(CanonicalError::Number),
            "{text}"
        );
    }
}

#[tokio::test]
async fn the_signature_is_independent_of_spacing_and_order() {
    let signing = Signing::start(&Settings::default()).unwrap();
    let sign = async |text: &str| {
        let document = serde_json::from_str(text).unwrap();
        signing.sign_manifest(&document).await.unwrap()
    };
    let one = sign(r#"{"b": 1, "a": [1.0, "x"]}"#).await;
    let other = sign(r#"{"a":[1,"x"],"b":1.0}"#).await;
    assert_eq!((&one.hash, &one.signature), (&other.hash, &other.signature));
    assert_eq!(one.canonical, br#"{"a":[1,"x"],"b":1}"#);
    let refused = signing.sign_manifest(&Value::from(u64::MAX)).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.is_caller_error()),
        ("manifest_invalid", true)
    );
    // An invalid manifest says nothing about the signer.
    assert!(signing.state().is_healthy());
}

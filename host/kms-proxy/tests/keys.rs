//! Keys of every kind in a real token, SoftHSM2.
//!
//! The state of a PKCS#11 module is global to its process, and SoftHSM2 reads its configuration from the environment. So
//! each test runs in a child process, with its own token.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail this way"
)]

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use cryptoki::context::Pkcs11;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use postern_kms_proxy::settings::{Token, TokenName};
use postern_kms_proxy::token::{Login, Module, TokenError, TokenSession, find, generate};
use postern_testbed::kms_proxy::{KmsClient, KmsProxy};
use postern_testbed::softhsm::{LABEL, PIN, SoftHsm};

/// The environment variable that marks a child process.
const MODULE_ENV: &str = "POSTERN_TEST_MODULE";
/// `CKA_EC_PARAMS` of Ed25519 as an object identifier, and as a PrintableString.
const BY_OID: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
const BY_NAME: &[u8] = b"\x13\x0cedwards25519";

/// Runs a test of this file in a child process that uses this token.
fn run(test: &str, hsm: &SoftHsm) {
    let run = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env("SOFTHSM2_CONF", hsm.conf())
        .env(MODULE_ENV, hsm.module())
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    assert!(run.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

/// The token settings in a child process that `run` started; `None` in the parent.
fn child_token() -> Option<Token> {
    let module = PathBuf::from(std::env::var_os(MODULE_ENV)?);
    Some(Token {
        module,
        name: TokenName::Label(LABEL.to_owned()),
        pin: PIN.into(),
        sessions: 1,
        queue: 0,
        deadline: Duration::from_secs(5),
    })
}

/// A login to a token, and a session that can change the token.
struct TokenLogin {
    raw: Session,
    session: TokenSession,
    _login: Login,
}

impl TokenLogin {
    fn open(token: &Token) -> Self {
        let login = Login::open(&Module::load(token).unwrap(), token).unwrap();
        let library = Pkcs11::new(&token.module).unwrap();
        let slot = library.get_slots_with_initialized_token().unwrap()[0];
        Self {
            raw: library.open_rw_session(slot).unwrap(),
            session: login.session().unwrap(),
            _login: login,
        }
    }

    fn generate_pair(
        &self,
        public_label: &str,
        label: &str,
        id: &[u8],
        curve: &[u8],
        protection: &[Attribute],
    ) -> ObjectHandle {
        let public = [
            Attribute::Token(true),
            Attribute::KeyType(KeyType::EC_EDWARDS),
            Attribute::EcParams(curve.to_vec()),
            Attribute::Verify(true),
            Attribute::Label(public_label.into()),
            Attribute::Id(id.to_vec()),
        ];
        let private = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::KeyType(KeyType::EC_EDWARDS),
            Attribute::Sign(true),
            Attribute::Label(label.into()),
            Attribute::Id(id.to_vec()),
        ];
        let private = [&private[..], protection].concat();
        self.raw
            .generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public, &private)
            .unwrap()
            .0
    }
}

fn unexportable() -> [Attribute; 2] {
    [Attribute::Sensitive(true), Attribute::Extractable(false)]
}

#[test]
fn exportable_keys_are_rejected() {
    let Some(token) = child_token() else {
        return run("exportable_keys_are_rejected", &SoftHsm::create().unwrap());
    };
    let mut login = TokenLogin::open(&token);
    for (label, sensitive, extractable, expected) in [
        ("kept", true, false, None),
        ("extractable", true, true, Some("is extractable")),
        ("readable", false, false, Some("can be read in plain text")),
        ("both", false, true, Some("is extractable")),
    ] {
        let protection = [
            Attribute::Sensitive(sensitive),
            Attribute::Extractable(extractable),
        ];
        login.generate_pair(label, label, label.as_bytes(), BY_OID, &protection);
        match (login.session.examine(label, false), expected) {
            (Ok(_), None) => {}
            (Err(error @ TokenError::Exportable { .. }), Some(expected)) => {
                assert!(error.to_string().contains(expected), "{error}");
            }
            (other, _) => panic!("{label}: {other:?}"),
        }
        // `lenient` allows the key, which then passes the self-test.
        login.session.examine(label, true).unwrap();
    }
}

#[test]
fn both_encodings_of_the_curve_are_supported() {
    let Some(token) = child_token() else {
        return run(
            "both_encodings_of_the_curve_are_supported",
            &SoftHsm::create().unwrap(),
        );
    };
    let mut login = TokenLogin::open(&token);
    for (label, curve) in [("by-oid", BY_OID), ("by-name", BY_NAME)] {
        let public = login.generate_pair(label, label, label.as_bytes(), curve, &unexportable());
        let attributes = login
            .raw
            .get_attributes(public, &[AttributeType::EcPoint])
            .unwrap();
        let [Attribute::EcPoint(point)] = attributes.as_slice() else {
            panic!("{attributes:?}");
        };
        println!("{label}: CKA_EC_POINT of {} bytes", point.len());
        let key = login.session.examine(label, false).unwrap();
        assert!(point.ends_with(&key[..]));
        let signature = login.session.sign(label, &key, b"payload").unwrap();
        key.verify(b"payload", &signature).unwrap();
    }
}

#[test]
fn a_label_must_identify_one_key_pair() {
    let Some(token) = child_token() else {
        return run("a_label_must_identify_one_key_pair", &SoftHsm::create().unwrap());
    };
    let mut login = TokenLogin::open(&token);
    login.generate_pair("twice", "twice", b"1", BY_OID, &unexportable());
    login.generate_pair("twice", "twice", b"2", BY_OID, &unexportable());
    let error = login.session.examine("twice", false).unwrap_err();
    assert!(matches!(error, TokenError::ManyKeys { count: 2, .. }), "{error}");

    // The public key has no label and is found by its id.
    login.generate_pair("", "by-id", b"3", BY_OID, &unexportable());
    login.session.examine("by-id", false).unwrap();

    let public = login.generate_pair("alone", "alone", b"4", BY_OID, &unexportable());
    login.raw.destroy_object(public).unwrap();
    let error = login.session.examine("alone", false).unwrap_err();
    assert!(matches!(error, TokenError::NoPublicKey(_)), "{error}");

    // The public key with this label belongs to another private key, so the self-test fails.
    let public = login.generate_pair("crossed", "crossed", b"5", BY_OID, &unexportable());
    login.raw.destroy_object(public).unwrap();
    login.generate_pair("crossed", "elsewhere", b"6", BY_OID, &unexportable());
    let error = login.session.examine("crossed", false).unwrap_err();
    assert!(matches!(error, TokenError::WrongSignature(_)), "{error}");

    let error = login.session.examine("nowhere", false).unwrap_err();
    assert!(matches!(error, TokenError::NoKey(_)), "{error}");
    assert!(
        generate(&token, "alone").is_err(),
        "a private key without its public key takes the label"
    );
}

/// A key is never replaced, so `keygen --show` must print its public key again.
#[test]
fn an_existing_key_is_found_and_not_replaced() {
    let Some(token) = child_token() else {
        return run(
            "an_existing_key_is_found_and_not_replaced",
            &SoftHsm::create().unwrap(),
        );
    };
    assert!(matches!(find(&token, "made"), Err(TokenError::NoKey(_))));
    let made = generate(&token, "made").unwrap();
    let error = generate(&token, "made").unwrap_err();
    assert!(error.to_string().contains("keygen --show"), "{error}");
    assert_eq!(find(&token, "made").unwrap(), made);
}

/// Replaces the private key of "a", but not its public key. The test below runs this in a child process.
#[test]
fn replaces_the_private_key() {
    let Some(token) = child_token() else { return };
    let login = TokenLogin::open(&token);
    let old = [
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::Label("a".into()),
    ];
    for object in login.raw.find_objects(&old).unwrap() {
        login.raw.destroy_object(object).unwrap();
    }
    login.generate_pair("elsewhere", "a", b"another", BY_OID, &unexportable());
}

/// A faulty token might sign with another key than that of its public key. Such a signature must not be released.
#[tokio::test]
async fn a_wrong_signature_is_withheld_and_counted() {
    let proxy = KmsProxy::start(env!("CARGO_BIN_EXE_postern-kms-proxy").into(), &["a", "b"]).unwrap();
    let caller = KmsClient::new(&proxy).unwrap();
    assert_eq!(caller.sign(b"payload", None).await.unwrap().status, 200);
    run("replaces_the_private_key", proxy.hsm());
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let reply = caller.sign(b"payload", None).await.unwrap();
        assert_eq!(reply.field("signature_b64"), None, "{reply:?}");
        if reply.field("code").as_deref() == Some("signing_failed") {
            assert_eq!(reply.status, 503);
            break;
        }
        assert!(Instant::now() < deadline, "{reply:?}\n{}", proxy.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        proxy
            .log()
            .contains("the token's signature with \\\"a\\\" fails verification")
    );
    let metrics = caller.get("/metrics").await.unwrap().text;
    let counted = metrics
        .lines()
        .find_map(|line| line.strip_prefix("postern_kms_proxy_self_verification_failures_total "));
    assert!(counted.unwrap().parse::<u64>().unwrap() > 0, "{metrics}");
    // Other signers still sign.
    assert_eq!(caller.sign(b"payload", Some("b")).await.unwrap().status, 200);
}

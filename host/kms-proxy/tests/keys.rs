//! Keys of every kind in a real token, SoftHSM2.
//!
//! A PKCS#11 module's state is its process's, and SoftHSM2 takes its folder from the environment. So each test runs this
//! program once more, for itself alone, with a token of its own.
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

const INSIDE: &str = "POSTERN_TEST_MODULE";
const BY_OID: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
const BY_NAME: &[u8] = b"\x13\x0cedwards25519";

/// Runs a test of this program in a process that finds this token.
fn run(test: &str, hsm: &SoftHsm) {
    let run = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env("SOFTHSM2_CONF", hsm.conf())
        .env(INSIDE, hsm.module())
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    assert!(run.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

/// The token, in a process that `run` started.
fn inside() -> Option<Token> {
    let module = PathBuf::from(std::env::var_os(INSIDE)?);
    Some(Token {
        module,
        name: TokenName::Label(LABEL.to_owned()),
        pin: PIN.into(),
        sessions: 1,
        queue: 0,
        deadline: Duration::from_secs(5),
    })
}

/// A token that we are logged in to, and a session that can change it.
struct LoggedIn {
    raw: Session,
    session: TokenSession,
    _login: Login,
}

impl LoggedIn {
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

    fn make(
        &self,
        public_label: &str,
        label: &str,
        id: &[u8],
        curve: &[u8],
        more: &[Attribute],
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
        let private = [&private[..], more].concat();
        self.raw
            .generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public, &private)
            .unwrap()
            .0
    }
}

fn kept() -> [Attribute; 2] {
    [Attribute::Sensitive(true), Attribute::Extractable(false)]
}

#[test]
fn keys_that_could_leave_are_refused() {
    let Some(token) = inside() else {
        return run("keys_that_could_leave_are_refused", &SoftHsm::create().unwrap());
    };
    let mut desk = LoggedIn::open(&token);
    for (label, sensitive, extractable, why) in [
        ("kept", true, false, None),
        ("extractable", true, true, Some("is extractable")),
        ("readable", false, false, Some("can be read in plain text")),
        ("both", false, true, Some("is extractable")),
    ] {
        let how = [
            Attribute::Sensitive(sensitive),
            Attribute::Extractable(extractable),
        ];
        desk.make(label, label, label.as_bytes(), BY_OID, &how);
        match (desk.session.examine(label, false), why) {
            (Ok(_), None) => {}
            (Err(error @ TokenError::Exportable { .. }), Some(why)) => {
                assert!(error.to_string().contains(why), "{error}");
            }
            (other, _) => panic!("{label}: {other:?}"),
        }
        // For development it is taken, and signs.
        desk.session.examine(label, true).unwrap();
    }
}

#[test]
fn either_name_of_the_curve_makes_a_key() {
    let Some(token) = inside() else {
        return run(
            "either_name_of_the_curve_makes_a_key",
            &SoftHsm::create().unwrap(),
        );
    };
    let mut desk = LoggedIn::open(&token);
    for (label, curve) in [("by-oid", BY_OID), ("by-name", BY_NAME)] {
        let public = desk.make(label, label, label.as_bytes(), curve, &kept());
        let told = desk
            .raw
            .get_attributes(public, &[AttributeType::EcPoint])
            .unwrap();
        let [Attribute::EcPoint(point)] = told.as_slice() else {
            panic!("{told:?}");
        };
        println!("{label}: CKA_EC_POINT of {} bytes", point.len());
        let key = desk.session.examine(label, false).unwrap();
        assert!(point.ends_with(&key[..]));
        let signature = desk.session.sign(label, &key, b"payload").unwrap();
        key.verify(b"payload", &signature).unwrap();
    }
}

#[test]
fn a_label_names_one_key_and_its_public_key() {
    let Some(token) = inside() else {
        return run(
            "a_label_names_one_key_and_its_public_key",
            &SoftHsm::create().unwrap(),
        );
    };
    let mut desk = LoggedIn::open(&token);
    desk.make("twice", "twice", b"1", BY_OID, &kept());
    desk.make("twice", "twice", b"2", BY_OID, &kept());
    let error = desk.session.examine("twice", false).unwrap_err();
    assert!(matches!(error, TokenError::ManyKeys { count: 2, .. }), "{error}");

    // The public key has no label, but the id.
    desk.make("", "by-id", b"3", BY_OID, &kept());
    desk.session.examine("by-id", false).unwrap();

    let public = desk.make("alone", "alone", b"4", BY_OID, &kept());
    desk.raw.destroy_object(public).unwrap();
    let error = desk.session.examine("alone", false).unwrap_err();
    assert!(matches!(error, TokenError::NoPublicKey(_)), "{error}");

    // Another key's public key under the label: what the token signs is not believed.
    let public = desk.make("crossed", "crossed", b"5", BY_OID, &kept());
    desk.raw.destroy_object(public).unwrap();
    desk.make("crossed", "elsewhere", b"6", BY_OID, &kept());
    let error = desk.session.examine("crossed", false).unwrap_err();
    assert!(matches!(error, TokenError::WrongSignature(_)), "{error}");

    let error = desk.session.examine("nowhere", false).unwrap_err();
    assert!(matches!(error, TokenError::NoKey(_)), "{error}");
    assert!(
        generate(&token, "alone").is_err(),
        "a label is taken by a private key alone"
    );
}

/// Whoever made a key and lost what was printed cannot make it again.
#[test]
fn a_key_that_was_made_is_found_again() {
    let Some(token) = inside() else {
        return run("a_key_that_was_made_is_found_again", &SoftHsm::create().unwrap());
    };
    assert!(matches!(find(&token, "made"), Err(TokenError::NoKey(_))));
    let made = generate(&token, "made").unwrap();
    let error = generate(&token, "made").unwrap_err();
    assert!(error.to_string().contains("keygen --show"), "{error}");
    assert_eq!(find(&token, "made").unwrap(), made);
}

/// Puts another private key beside the public one of "a". Run by the test below, in a process of its own.
#[test]
fn the_private_key_is_exchanged() {
    let Some(token) = inside() else { return };
    let desk = LoggedIn::open(&token);
    let old = [
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::Label("a".into()),
    ];
    for object in desk.raw.find_objects(&old).unwrap() {
        desk.raw.destroy_object(object).unwrap();
    }
    desk.make("elsewhere", "a", b"another", BY_OID, &kept());
}

/// A token that signs with another key than it says, as a faulty one might: nothing of that gets out.
#[tokio::test]
async fn a_wrong_signature_is_withheld_and_counted() {
    let proxy = KmsProxy::start(env!("CARGO_BIN_EXE_postern-kms-proxy").into(), &["a", "b"]).unwrap();
    let caller = KmsClient::new(&proxy).unwrap();
    assert_eq!(caller.sign(b"payload", None).await.unwrap().status, 200);
    run("the_private_key_is_exchanged", proxy.hsm());
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
    // Others sign on.
    assert_eq!(caller.sign(b"payload", Some("b")).await.unwrap().status, 200);
}

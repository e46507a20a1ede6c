//! Generates a key in a token, and finds it again.

use cryptoki::error::{Error as Pkcs11Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use ed25519_compact::PublicKey;

use super::error::TokenError;
use super::login::{Login, Module};
use crate::settings::Token;

/// `CKA_EC_PARAMS` of Ed25519: its object identifier, 1.3.101.112 (RFC 8410).
const BY_OID: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];
/// Its name as a PrintableString, which PKCS#11 3.0 also allows and some tokens require.
const BY_NAME: [u8; 14] = *b"\x13\x0cedwards25519";

/// Generates an Ed25519 key in a token, which it cannot leave. Signs with it as a test, and returns its public key.
///
/// # Errors
/// If the label is taken, or the token cannot generate the key.
pub fn generate(token: &Token, label: &str) -> Result<PublicKey, TokenError> {
    let module = Module::load(token)?;
    let login = Login::open(&module, token)?;
    let session = login.rw_session()?;
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        let template = [Attribute::Class(class), Attribute::Label(label.into())];
        if !session.find_objects(&template)?.is_empty() {
            return Err(TokenError::LabelTaken(label.to_owned()));
        }
    }
    let make = |curve: &[u8]| {
        let (public, private) = templates(label, curve);
        session.generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public, &private)
    };
    match make(&BY_OID) {
        Err(Pkcs11Error::Pkcs11(code, _)) if is_about_the_curve(&code) => make(&BY_NAME)?,
        made => made?,
    };
    drop(session);
    let mut session = login.session()?;
    session.examine(label, false)
}

/// Returns the public key of an existing key that cannot leave the token, after signing with it as a test.
///
/// # Errors
/// If there is none, or it cannot be used.
pub fn find(token: &Token, label: &str) -> Result<PublicKey, TokenError> {
    let login = Login::open(&Module::load(token)?, token)?;
    let mut session = login.session()?;
    session.examine(label, false)
}

/// Templates for keys that only sign and verify.
fn templates(label: &str, curve: &[u8]) -> ([Attribute; 9], [Attribute; 10]) {
    let (label, id) = (label.as_bytes().to_vec(), label.as_bytes().to_vec());
    let public = [
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::KeyType(KeyType::EC_EDWARDS),
        Attribute::EcParams(curve.to_vec()),
        Attribute::Verify(true),
        Attribute::Encrypt(false),
        Attribute::Wrap(false),
        Attribute::Label(label.clone()),
        Attribute::Id(id.clone()),
    ];
    let private = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::KeyType(KeyType::EC_EDWARDS),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
        Attribute::Label(label),
        Attribute::Id(id),
    ];
    (public, private)
}

fn is_about_the_curve(code: &RvError) -> bool {
    matches!(
        code,
        RvError::CurveNotSupported
            | RvError::DomainParamsInvalid
            | RvError::AttributeValueInvalid
            | RvError::TemplateInconsistent
            | RvError::MechanismParamInvalid
    )
}

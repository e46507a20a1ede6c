use super::*;
use crate::tokens;

type Claims = Map<String, Value>;

fn verify(jwk: &str, alg: Alg, token: &str) -> Result<JWTClaims<Claims>, KeyError> {
    let options = None;
    match alg {
        Alg::Rs256 => RS256PublicKey::from_jwk(jwk)?.verify_token(token, options),
        Alg::Rs384 => RS384PublicKey::from_jwk(jwk)?.verify_token(token, options),
        Alg::Rs512 => RS512PublicKey::from_jwk(jwk)?.verify_token(token, options),
        Alg::Ps256 => PS256PublicKey::from_jwk(jwk)?.verify_token(token, options),
        Alg::Es256 => ES256PublicKey::from_jwk(jwk)?.verify_token(token, options),
        Alg::Es384 => ES384PublicKey::from_jwk(jwk)?.verify_token(token, options),
        Alg::EdDsa => Ed25519PublicKey::from_jwk(jwk)?.verify_token(token, options),
    }
}

#[test]
fn tokens_of_every_algorithm_verify_with_the_published_key_unless_tampered() {
    let keys = KeySet::generate().unwrap();
    let mut claims = tokens::claims("https://idp.example", "orders", "alice", 60);
    claims["realm_access"] = json!({"roles": ["Admin"]});
    for alg in Alg::ALL {
        let token = keys.mint(alg, &claims);
        let metadata = Token::decode_metadata(&token).unwrap();
        assert_eq!(
            (metadata.algorithm(), metadata.key_id()),
            (alg.name(), Some(&*keys.key_id(alg)))
        );
        let jwk = keys.public_jwk(alg);
        assert_eq!(
            (&jwk["alg"], &jwk["kid"]),
            (&json!(alg.name()), &json!(keys.key_id(alg)))
        );
        assert!(jwk["d"].is_null(), "a private key is published");
        let verified = verify(&jwk.to_string(), alg, &token).unwrap();
        assert_eq!(verified.custom["realm_access"]["roles"][0], "Admin");
        assert!(verify(&jwk.to_string(), alg, &tokens::tamper(&token)).is_err());
    }
}

#[test]
fn claims_are_signed_as_given() {
    let claims = json!({"aud": ["a"], "exp": 1.5, "iat": "soon", "nested": {"b": [null]}});
    let token = KeySet::generate().unwrap().mint(Alg::Es256, &claims);
    let payload = token.split('.').nth(1).unwrap();
    let payload = ct_codecs::Base64UrlSafeNoPadding::decode_to_vec(payload, None).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&payload).unwrap(), claims);
}

#[test]
fn a_rotation_replaces_all_keys_and_ids() {
    let old = KeySet::generate().unwrap();
    let new = old.next().unwrap();
    for alg in Alg::ALL {
        assert_ne!(old.key_id(alg), new.key_id(alg));
        let token = new.mint(alg, &tokens::claims("i", "a", "s", 60));
        assert!(verify(&old.public_jwk(alg).to_string(), alg, &token).is_err());
    }
    assert_eq!(new.key_id(Alg::Rs256), "rs256-2");
}

#[test]
fn claims_must_be_an_object() {
    assert!(
        KeySet::generate()
            .unwrap()
            .sign(Alg::EdDsa, &json!(["no"]))
            .is_err()
    );
}

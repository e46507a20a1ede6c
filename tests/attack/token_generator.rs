//! Pseudo-random tokens with a fixed seed, as issuers, incorrect libraries and attackers produce them.

use ct_codecs::{Base64UrlSafeNoPadding, Encoder};
use jwt_simple::prelude::RS256KeyPair;
use p256::ecdsa::signature::Signer as _;
use postern_testbed::sign;
use serde_json::{Value, json};
use superboring::hash::MessageDigest;
use superboring::pkey::PKey;
use superboring::rsa::{Padding, Rsa};
use superboring::sign::Signer as RsaSigner;

/// One key per kind of algorithm.
pub(crate) struct KeyPairs {
    secret: String,
    rsa: Vec<u8>,
    p256: p256::ecdsa::SigningKey,
    ed25519: ed25519_compact::KeyPair,
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    Base64UrlSafeNoPadding::encode_to_string(bytes).unwrap()
}

impl KeyPairs {
    pub(crate) fn new(secret: &str) -> Self {
        Self {
            secret: secret.to_owned(),
            rsa: RS256KeyPair::generate(2048).unwrap().to_der().unwrap(),
            p256: p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap(),
            ed25519: ed25519_compact::KeyPair::from_seed(ed25519_compact::Seed::new([7; 32])),
        }
    }

    pub(crate) fn jwks(&self) -> Value {
        let rsa: Value =
            serde_json::from_str(&RS256KeyPair::from_der(&self.rsa).unwrap().public_key().to_jwk()).unwrap();
        let rsa = |kid: &str, alg: &str| json!({"kty": "RSA", "n": rsa["n"], "e": rsa["e"], "kid": kid, "alg": alg});
        let point = self.p256.verifying_key().to_sec1_point(false);
        let (x, y) = (b64(point.x().unwrap()), b64(point.y().unwrap()));
        json!({"keys": [
            rsa("rs", "RS256"),
            rsa("ps", "PS256"),
            {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "es"},
            {"kty": "OKP", "crv": "Ed25519", "x": b64(self.ed25519.pk.as_ref()), "kid": "ed"},
        ]})
    }

    fn rsa(&self, padding: Padding, text: &str) -> Vec<u8> {
        let key = PKey::from_rsa(Rsa::private_key_from_der(&self.rsa).unwrap()).unwrap();
        let mut signer = RsaSigner::new(MessageDigest::sha256(), &key).unwrap();
        signer.set_rsa_padding(padding).unwrap();
        signer.update(text.as_bytes()).unwrap();
        signer.sign_to_vec().unwrap()
    }

    fn sign(&self, alg: &str, text: &str) -> Vec<u8> {
        match alg {
            "RS256" => self.rsa(Padding::PKCS1, text),
            "PS256" => self.rsa(Padding::PKCS1_PSS, text),
            "ES256" => {
                let signature: p256::ecdsa::Signature = self.p256.sign(text.as_bytes());
                signature.to_bytes().to_vec()
            }
            "EdDSA" => self.ed25519.sk.sign(text, None).to_vec(),
            _ => sign::hmac_sha256(self.secret.as_bytes(), text.as_bytes()).to_vec(),
        }
    }
}

/// Generates the same sequence of tokens for the same keys and time.
pub(crate) struct TokenGenerator<'a> {
    signers: &'a KeyPairs,
    now: i64,
    state: u64,
}

impl<'a> TokenGenerator<'a> {
    pub(crate) fn new(signers: &'a KeyPairs, now: i64) -> Self {
        Self {
            signers,
            now,
            state: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// xorshift64*; the numbers need not be unpredictable.
    fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn pick<'b>(&mut self, choices: &[&'b str]) -> &'b str {
        choices[self.below(choices.len())]
    }

    /// `usual` in 15 of 16 cases, else one of the others.
    fn usually<'b>(&mut self, usual: &'b str, others: &[&'b str]) -> &'b str {
        if self.below(16) < 15 {
            usual
        } else {
            self.pick(others)
        }
    }

    pub(crate) fn token(&mut self) -> String {
        // RSA signatures are rare because they take a hundred times as long.
        let alg = match self.below(100) {
            0..=2 => "RS256",
            3 => "PS256",
            4..=44 => "ES256",
            45..=74 => "EdDSA",
            _ => "HS256",
        };
        let header = self.header(alg);
        let claims = self.claims(alg);
        let mut text = format!("{}.{}", b64(header), b64(claims));
        let mut signature = self.signers.sign(alg, &text);
        match self.below(40) {
            0 => signature[3] ^= 1,
            1 => signature.truncate(8),
            2 => signature.clear(),
            3 => signature.push(0),
            4 => text.push('='),
            5 => text = text.replacen('.', "..", 1),
            _ => {}
        }
        let signature = b64(signature);
        match self.below(60) {
            0 => format!("{text}.{signature}="),
            1 => format!("{text}.{signature}.x"),
            2 => text,
            _ => format!("{text}.{signature}"),
        }
    }

    fn header(&mut self, alg: &str) -> String {
        let expected = format!("\"{alg}\"");
        let kid = match alg {
            "RS256" => "\"rs\"",
            "PS256" => "\"ps\"",
            "ES256" => "\"es\"",
            "EdDSA" => "\"ed\"",
            _ => "\"any\"",
        };
        let named = self
            .usually(
                &expected,
                &[
                    "\"none\"",
                    "\"RS256\"",
                    "\"HS256\"",
                    "\"ES256\"",
                    "7",
                    "null",
                    "\"es256\"",
                ],
            )
            .to_owned();
        let kid = self.usually(kid, &["\"other\"", "7", "null", "\"\"", "[\"es\"]"]);
        let extra = self.usually(
            "",
            &[
                ",\"typ\":\"JWT\"",
                ",\"typ\":\"at+jwt\"",
                ",\"typ\":\"dpop\"",
                ",\"typ\":7",
                ",\"typ\":null",
                ",\"crit\":[\"x\"],\"x\":1",
                ",\"crit\":[]",
                ",\"crit\":null",
                ",\"crit\":\"exp\"",
                ",\"jwk\":{\"kty\":\"oct\",\"k\":\"AAAA\"}",
                ",\"jwk\":\"x\"",
                ",\"x5c\":\"x\"",
                ",\"x5c\":[1]",
                ",\"jku\":7",
                ",\"x5u\":{}",
                ",\"x5t\":1",
                ",\"x5t#S256\":null",
                ",\"cty\":7",
                ",\"salt\":\"AAAA\"",
                ",\"salt\":7",
                ",\"alg\":\"none\"",
                ",\"kid\":\"es\"",
                ",\"b64\":false",
                ",\"\\u0061lg\":\"ES256\"",
                ",\"zip\":\"DEF\"",
                ",\"nested\":{\"a\":1,\"a\":2}",
            ],
        );
        match self.below(50) {
            0 => format!("{{\"alg\":{named}{extra}}}"),
            1 => "[]".to_owned(),
            2 => "null".to_owned(),
            _ => format!("{{\"alg\":{named},\"kid\":{kid}{extra}}}"),
        }
    }

    fn claims(&mut self, alg: &str) -> String {
        let issuer = if alg == "HS256" {
            "\"https://shared.example\""
        } else {
            "\"https://keyed.example\""
        };
        let iss = self.usually(
            issuer,
            &[
                "\"https://keyed.example\"",
                "\"https://shared.example\"",
                "\"other\"",
                "7",
                "null",
                "[\"https://keyed.example\"]",
            ],
        );
        let aud = self.usually(
            "\"api\"",
            &[
                "[\"x\",\"api2\"]",
                "[\"api\",7]",
                "[\"api\",null]",
                "[]",
                "7",
                "null",
                "{}",
                "\"web\"",
                "[[\"api\"]]",
            ],
        );
        let sub = self.usually(
            "\"alice\"",
            &[
                "12345",
                "true",
                "null",
                "\"\"",
                "\" admin\"",
                "[\"alice\"]",
                "{}",
                "12345678901234567890123",
                "12345678901234567890124",
                "1.5",
                "\"a\\u0000b\"",
                "\"\\ud800\"",
                "\"caf\u{e9}\"",
            ],
        );
        let (later, before) = ((self.now + 7_200).to_string(), (self.now - 7_200).to_string());
        let exp = self
            .usually(
                &later,
                &[
                    &before,
                    "\"2099\"",
                    "null",
                    "-5",
                    "1e400",
                    "1e300",
                    "4102444800.5",
                    "true",
                    "99999999999999999999",
                    "[]",
                ],
            )
            .to_owned();
        let extra = match self.below(16) {
            0 => {
                let others = [
                    ",\"jti\":1",
                    ",\"jti\":null",
                    ",\"jti\":\"x\"",
                    ",\"nonce\":7",
                    ",\"nbf\":\"x\"",
                    ",\"iat\":null",
                    ",\"sub\":\"root\"",
                    ",\"s\\u0075b\":\"root\"",
                    ",\"plan\":{\"a\":1,\"a\":2}",
                    ",\"plan\":[{\"b\":1,\"b\":1}]",
                    ",\"plan\":\" gold\"",
                    ",\"plan\":null",
                    ",\"roles\":7",
                    ",\"roles\":[null,\"\"]",
                    ",\"exp\":1",
                    ",\"$serde_json::private::Number\":\"1\"",
                    ",\"$serde_json::private::RawValue\":\"1\"",
                ];
                self.pick(&others).to_owned()
            }
            1 => format!(",\"nbf\":{later}"),
            2 => format!(",\"iat\":{later}"),
            3 => format!(",\"nbf\":{before},\"iat\":{before}"),
            _ => String::new(),
        };
        match self.below(60) {
            0 => format!("{{\"iss\":{iss},\"aud\":{aud},\"sub\":{sub}{extra}}}"),
            1 => format!("{{\"iss\":{iss},\"sub\":{sub},\"exp\":{exp}{extra}}}"),
            2 => format!("{{\"aud\":{aud},\"sub\":{sub},\"exp\":{exp}{extra}}}"),
            3 => format!("{{\"iss\":{iss},\"aud\":{aud},\"exp\":{exp}{extra}}}"),
            4 => "[]".to_owned(),
            5 => format!("{{\"iss\":{iss},\"aud\":{aud},\"sub\":{sub},\"exp\":{exp}{extra}}} x"),
            6 => format!("{{\"iss\":{iss},\"aud\":{aud},\"sub\":{sub},\"exp\":{exp}{extra},}}"),
            _ => format!("{{\"iss\":{iss},\"aud\":{aud},\"sub\":{sub},\"exp\":{exp}{extra}}}"),
        }
    }
}

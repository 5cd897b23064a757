//! Somebody who signs access tokens, well or badly: every part of a token is the test's to write.

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RsaKeyPair,
    },
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

/// The keys of an issuer, one an algorithm.
pub struct Issuer {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

/// The algorithms of [`Issuer`]'s keys.
pub const ALGORITHMS: [&str; 3] = ["RS256", "ES256", "EdDSA"];

impl Issuer {
    pub fn new() -> Self {
        Self {
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            ec: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            ed: Ed25519KeyPair::generate().unwrap(),
        }
    }

    /// Signs with the key of an algorithm.
    pub fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let rng = SystemRandom::new();
        match algorithm {
            "RS256" => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa
                    .sign(&RSA_PKCS1_SHA256, &rng, message, &mut signature)
                    .unwrap();
                signature
            }
            "ES256" => self.ec.sign(&rng, message).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed.sign(message).as_ref().to_vec(),
            other => panic!("no key for {other}"),
        }
    }

    /// A token whose header names the algorithm it is signed with.
    pub fn token(&self, header: &Value, claims: &Value) -> String {
        let algorithm = header["alg"].as_str().unwrap();
        let message = message(&header.to_string(), &claims.to_string());
        let signature = self.sign(algorithm, message.as_bytes());
        format!("{message}.{}", encode(&signature))
    }

    /// The public key of an algorithm as SubjectPublicKeyInfo.
    pub fn der(&self, algorithm: &str) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match algorithm {
            "RS256" => self.rsa.public_key().as_der(),
            "ES256" => self.ec.public_key().as_der(),
            "EdDSA" => self.ed.public_key().as_der(),
            other => panic!("no key for {other}"),
        }
        .unwrap();
        der.as_ref().to_vec()
    }

    /// The same in PEM.
    pub fn pem(&self, algorithm: &str) -> String {
        pem("PUBLIC KEY", &self.der(algorithm))
    }

    /// The same as a JWK.
    pub fn jwk(&self, algorithm: &str, kid: &str) -> Value {
        let mut jwk = match algorithm {
            "RS256" => {
                // RSAPublicKey (RFC 8017): for 2048 bits the numbers are always at the same places.
                let der = self.rsa.public_key().as_ref();
                json!({"kty": "RSA", "n": encode(&der[9..265]), "e": encode(&der[267..])})
            }
            "ES256" => {
                let point = self.ec.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..])})
            }
            "EdDSA" => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(self.ed.public_key().as_ref())})
            }
            other => panic!("no key for {other}"),
        };
        jwk["use"] = "sig".into();
        jwk["kid"] = kid.into();
        jwk
    }
}

/// A token signed with a secret.
pub fn hs256(secret: &[u8], header: &Value, claims: &Value) -> String {
    let message = message(&header.to_string(), &claims.to_string());
    let tag = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, secret),
        message.as_bytes(),
    );
    format!("{message}.{}", encode(tag.as_ref()))
}

/// The part of a token that is signed.
pub fn message(header: &str, claims: &str) -> String {
    format!(
        "{}.{}",
        encode(header.as_bytes()),
        encode(claims.as_bytes())
    )
}

pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(64)
        .map(String::from_utf8_lossy)
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

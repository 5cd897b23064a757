//! Keys that check signatures, each for exactly one algorithm, so that no token can choose another for it.

use std::fmt;

use aws_lc_rs::{
    rsa::PublicEncryptingKey,
    signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};
use serde::Deserialize;

use super::header::{Header, algorithm};

/// RSA keys of fewer bits can be broken, longer ones cost too much to check.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// HS256 wants a key as long as its hash (RFC 7518, section 3.2).
pub(crate) const MIN_SECRET_BYTES: usize = 32;

/// A key that access tokens may be signed with.
#[derive(Clone)]
pub struct VerifyingKey {
    algorithm: Algorithm,
    id: Option<Box<str>>,
    key: DecodingKey,
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("algorithm", &self.algorithm)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl VerifyingKey {
    /// A secret for HS256.
    pub(super) fn from_secret(secret: &[u8]) -> Self {
        Self::new(Algorithm::HS256, DecodingKey::from_secret(secret))
    }

    fn new(algorithm: Algorithm, key: DecodingKey) -> Self {
        Self {
            algorithm,
            id: None,
            key,
        }
    }

    /// The public keys in a PEM file, in its order; at least one.
    ///
    /// # Errors
    /// What the file must be; continues a sentence that begins with the option.
    pub fn from_pem(pem: &str) -> Result<Vec<Self>, &'static str> {
        if pem.contains("PRIVATE KEY-----") {
            return Err("holds a private key, which must not be here; give the public one");
        }
        let sections: Result<Vec<_>, _> =
            SubjectPublicKeyInfoDer::pem_slice_iter(pem.as_bytes()).collect();
        let sections = sections.map_err(|_| NOT_PEM)?;
        if sections.is_empty() {
            return Err(NOT_PEM);
        }
        sections
            .iter()
            .map(|der| Self::from_der(der).ok_or(NOT_OURS))
            .collect()
    }

    /// A SubjectPublicKeyInfo (RFC 5280) of one of the kinds we take.
    fn from_der(der: &[u8]) -> Option<Self> {
        if ParsedPublicKey::new(&ED25519, der).is_ok() {
            return Some(Self::new(Algorithm::EdDSA, DecodingKey::from_ed_der(der)));
        }
        if ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, der).is_ok() {
            return Some(Self::new(Algorithm::ES256, DecodingKey::from_ec_der(der)));
        }
        let rsa = PublicEncryptingKey::from_der(der).ok()?;
        RSA_BITS
            .contains(&rsa.key_size_bits())
            .then(|| Self::new(Algorithm::RS256, DecodingKey::from_rsa_der(der)))
    }

    /// A key of a JWKS (RFC 7517). A symmetric one only where nobody else can read it.
    ///
    /// # Errors
    /// Why it is not used, for the log.
    pub(super) fn from_jwk(jwk: &Jwk, may_be_secret: bool) -> Result<Self, &'static str> {
        if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return Err("is not for signatures");
        }
        if let Some(operations) = &jwk.key_ops
            && !operations.iter().any(|operation| operation == "verify")
        {
            return Err("is not for checking signatures");
        }
        let mut key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => rsa(jwk)?,
            ("EC", Some("P-256")) => p256(jwk)?,
            ("OKP", Some("Ed25519")) => ed25519(jwk)?,
            ("oct", _) if may_be_secret => secret(jwk)?,
            ("oct", _) => return Err("is a secret that others can read"),
            _ => return Err("is of a kind that is not supported"),
        };
        if let Some(named) = &jwk.alg
            && algorithm(named) != Some(key.algorithm)
        {
            return Err("is for another algorithm");
        }
        key.id = jwk.kid.as_deref().map(Box::from);
        Ok(key)
    }

    /// Whether the header allows that this key has signed.
    pub(super) fn may_have_signed(&self, header: &Header) -> bool {
        let ids_agree = match (&self.id, &header.key_id) {
            (Some(own), Some(named)) => **own == **named,
            _ => true,
        };
        self.algorithm == header.algorithm && ids_agree
    }

    /// Whether the header names exactly this key.
    pub(super) fn is_named_by(&self, header: &Header) -> bool {
        self.id.is_some() && self.id.as_deref() == header.key_id.as_deref()
    }

    pub(super) fn key(&self) -> &DecodingKey {
        &self.key
    }
}

const NOT_PEM: &str = "must hold a public key in PEM, which begins with -----BEGIN PUBLIC KEY-----";
const NOT_OURS: &str = "must hold an RSA key of 2048 to 8192 bits (RS256), an EC key on P-256 (ES256) or an Ed25519 key (EdDSA)";

/// A key of a JWKS as it came.
#[derive(Deserialize)]
pub(super) struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    pub(super) kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

fn rsa(jwk: &Jwk) -> Result<VerifyingKey, &'static str> {
    let (modulus, exponent) = (bytes(jwk.n.as_deref())?, bytes(jwk.e.as_deref())?);
    // Some write a leading zero, as in ASN.1.
    let modulus = without_zeros(&modulus);
    let bits =
        modulus.len() * 8 - modulus.first().map_or(0, |first| first.leading_zeros()) as usize;
    let exponent = without_zeros(&exponent);
    if !RSA_BITS.contains(&bits) {
        return Err("is an RSA key of fewer than 2048 or more than 8192 bits");
    }
    if !(1..=8).contains(&exponent.len()) || exponent == [1] || exponent.ends_with(&[0]) {
        return Err("has an exponent that makes no RSA key");
    }
    let key = DecodingKey::from_rsa_raw_components(modulus, exponent);
    Ok(VerifyingKey::new(Algorithm::RS256, key))
}

fn p256(jwk: &Jwk) -> Result<VerifyingKey, &'static str> {
    let (x, y) = (bytes(jwk.x.as_deref())?, bytes(jwk.y.as_deref())?);
    // An uncompressed point (SEC 1, section 2.3.3).
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point)
        .map_err(|_| "is not a point on its curve")?;
    let key = DecodingKey::from_ec_der(&point);
    Ok(VerifyingKey::new(Algorithm::ES256, key))
}

fn ed25519(jwk: &Jwk) -> Result<VerifyingKey, &'static str> {
    let point = bytes(jwk.x.as_deref())?;
    ParsedPublicKey::new(&ED25519, &point).map_err(|_| "is not a point on its curve")?;
    let key = DecodingKey::from_ed_der(&point);
    Ok(VerifyingKey::new(Algorithm::EdDSA, key))
}

fn secret(jwk: &Jwk) -> Result<VerifyingKey, &'static str> {
    let secret = bytes(jwk.k.as_deref())?;
    if secret.len() < MIN_SECRET_BYTES {
        return Err("is a secret of fewer than 32 bytes");
    }
    Ok(VerifyingKey::from_secret(&secret))
}

fn bytes(text: Option<&str>) -> Result<Vec<u8>, &'static str> {
    text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
        .ok_or("lacks a part of its key")
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

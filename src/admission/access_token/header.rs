//! The header of a token: which key may have signed it. Nothing in it is believed; it only chooses among our own keys.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use rollcall_protocol::Problem;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::invalid;

/// What is read of a header. Keys that it brings along or points to (`jwk`, `jku`, `x5c`, `x5u`) are not looked at.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
}

#[derive(Deserialize)]
struct Raw {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

impl Header {
    /// Reads the header of a token in compact form.
    ///
    /// # Errors
    /// `credential_invalid`: it is none, its algorithm is not one of ours, or it demands an extension (RFC 7515 section
    /// 4.1.11: what is not understood must be refused, and we understand none).
    pub(super) fn read(token: &str) -> Result<Self, Problem> {
        let malformed = || invalid("The access token is not valid.");
        let header = token
            .split_once('.')
            .and_then(|(header, _)| URL_SAFE_NO_PAD.decode(header).ok())
            .ok_or_else(malformed)?;
        let raw: Raw = serde_json::from_slice(&header).map_err(|_| malformed())?;
        if raw.crit.is_some() {
            return Err(invalid(
                "The access token demands an extension that is not supported.",
            ));
        }
        let algorithm = algorithm(&raw.alg)
            .ok_or_else(|| invalid("The access token's algorithm is not accepted."))?;
        Ok(Self {
            algorithm,
            key_id: raw.kid,
        })
    }
}

/// The algorithms that keys may have, by their exact names.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "HS256" => Some(Algorithm::HS256),
        "RS256" => Some(Algorithm::RS256),
        "ES256" => Some(Algorithm::ES256),
        "EdDSA" => Some(Algorithm::EdDSA),
        _ => None,
    }
}

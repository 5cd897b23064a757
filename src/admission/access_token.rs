//! Access tokens: JWTs by which the application vouches for a user.
//!
//! A token is checked with one of our own keys, each of which has exactly one algorithm; its header only chooses among them
//! (`header`, `keys`). Keys come from the configuration and from a JWKS, which one task keeps fresh (`jwks`, `refresh`). Who
//! names a key that is known waits for nothing.

mod claims;
mod header;
mod jwks;
mod keys;
mod refresh;

use std::sync::Arc;

use jsonwebtoken::{Algorithm, EncodingKey, Validation, errors::ErrorKind};
use rollcall_protocol::{DisplayName, Problem, ProblemCode, RoomId, Timestamp, UserId};
use serde::Serialize;

pub(crate) use self::keys::MIN_SECRET_BYTES;
use self::{
    claims::Raw,
    header::Header,
    refresh::{Jwks, Known},
};
pub use self::{
    claims::{AccessClaims, Rooms},
    jwks::{JwksError, JwksSource},
    keys::VerifyingKey,
    refresh::JwksRefresher,
};
use super::{credential::MAX_CREDENTIAL, retry_after};
use crate::{clock::Clock, config::Config, metrics::Metrics};

/// A token to be minted.
#[derive(Debug, Serialize)]
struct Minted<'a> {
    sub: &'a str,
    room: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    exp: i64,
    iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

/// Checks and mints access tokens.
pub struct AccessTokens {
    /// The secret and the public keys of the configuration.
    keys: Vec<VerifyingKey>,
    jwks: Option<Jwks>,
    minting: Option<EncodingKey>,
    validation: Validation,
    issuer: Option<String>,
    audience: Option<String>,
    leeway: std::time::Duration,
    clock: Clock,
}

impl std::fmt::Debug for AccessTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessTokens")
            .field("keys", &self.keys)
            .field("jwks", &self.jwks)
            .finish_non_exhaustive()
    }
}

/// Why no claims were read.
enum Unread {
    /// None of the keys tried made the signature; another may have.
    NoKey,
    /// No key can help.
    Refused(Problem),
}

impl AccessTokens {
    /// From the configured keys, issuer and audience. With a JWKS, also the task that must run for its keys to be there.
    pub fn new(
        config: &Config,
        clock: Clock,
        metrics: &Arc<Metrics>,
    ) -> (Self, Option<JwksRefresher>) {
        let secret = config
            .jwt_secret
            .as_ref()
            .map(|secret| secret.expose().as_bytes());
        let mut keys: Vec<_> = secret.map(VerifyingKey::from_secret).into_iter().collect();
        keys.extend(config.jwt_public_keys.iter().cloned());
        let (jwks, refresher) = config
            .jwks
            .as_ref()
            .map(|source| {
                JwksRefresher::new(
                    source.clone(),
                    config.jwks_refresh_interval,
                    Arc::clone(metrics),
                    clock.clone(),
                )
            })
            .unzip();
        let tokens = Self {
            keys,
            jwks,
            minting: secret.map(EncodingKey::from_secret),
            validation: validation(config),
            issuer: config.jwt_issuer.clone(),
            audience: config.jwt_audience.clone(),
            leeway: config.jwt_leeway,
            clock,
        };
        (tokens, refresher)
    }

    /// Checks a token. Waits only if it names a key that the JWKS did not have when it was read last, and then 2 s at
    /// most.
    ///
    /// # Errors
    /// `credential_invalid`, `credential_expired` when only its `exp` has passed, or `keys_unavailable` when its key may
    /// be one that could not be fetched.
    pub async fn check(&self, token: &str) -> Result<AccessClaims, Problem> {
        if token.len() > MAX_CREDENTIAL {
            return Err(invalid("The access token is too long."));
        }
        if self.keys.is_empty() && self.jwks.is_none() {
            return Err(invalid(
                "This server accepts no access tokens: no key to check them with is configured.",
            ));
        }
        let header = Header::read(token)?;
        let raw = match self.read(token, &header) {
            Ok(raw) => raw,
            Err(Unread::Refused(problem)) => return Err(problem),
            // Boxed, because it is rare, and its state would be everybody's.
            Err(Unread::NoKey) => Box::pin(self.read_with_newer_keys(token, &header)).await?,
        };
        raw.check(self.clock.now(), self.leeway)
    }

    fn read(&self, token: &str, header: &Header) -> Result<Raw, Unread> {
        match self.try_keys(&self.keys, token, header) {
            Err(Unread::NoKey) => {}
            read => return read,
        }
        match &self.jwks {
            Some(jwks) => self.try_keys(&jwks.known().keys, token, header),
            None => Err(Unread::NoKey),
        }
    }

    async fn read_with_newer_keys(&self, token: &str, header: &Header) -> Result<Raw, Problem> {
        let forged = || invalid("The access token's signature is not valid.");
        let Some(jwks) = &self.jwks else {
            return Err(forged());
        };
        let can_have_signed = header.algorithm != Algorithm::HS256 || jwks.may_hold_secrets;
        if !can_have_signed || !may_be_newer(header, &jwks.known()) {
            return Err(forged());
        }
        let known = jwks.refreshed().await;
        match self.try_keys(&known.keys, token, header) {
            Ok(raw) => Ok(raw),
            Err(Unread::Refused(problem)) => Err(problem),
            Err(Unread::NoKey) if known.is_uncertain() && may_be_newer(header, &known) => {
                Err(keys_unavailable())
            }
            Err(Unread::NoKey) => Err(forged()),
        }
    }

    fn try_keys(&self, keys: &[VerifyingKey], token: &str, header: &Header) -> Result<Raw, Unread> {
        let mut validation = None;
        for key in keys.iter().filter(|key| key.may_have_signed(header)) {
            let validation = validation.get_or_insert_with(|| Validation {
                algorithms: vec![header.algorithm],
                ..self.validation.clone()
            });
            match jsonwebtoken::decode::<Raw>(token, key.key(), validation) {
                Ok(token) => return Ok(token.claims),
                Err(error) if *error.kind() == ErrorKind::InvalidSignature => {}
                Err(error) => return Err(Unread::Refused(refuse(&error))),
            }
        }
        Err(Unread::NoKey)
    }

    /// Mints a token for one room, or says that no secret is configured.
    pub fn mint(
        &self,
        room: &RoomId,
        user: &UserId,
        name: Option<&DisplayName>,
        expires_at: Timestamp,
    ) -> Result<String, Problem> {
        let Some(key) = &self.minting else {
            let detail = "No signing secret is configured: start the server with --jwt-secret.";
            return Err(Problem::new(ProblemCode::TokensNotConfigured, detail));
        };
        let claims = Minted {
            sub: user.as_str(),
            room: room.as_str(),
            name: name.map(DisplayName::as_str),
            exp: expires_at.as_millis().div_euclid(1000),
            iat: self.clock.now().as_millis().div_euclid(1000),
            iss: self.issuer.as_deref(),
            aud: self.audience.as_deref(),
        };
        let header = jsonwebtoken::Header::new(Algorithm::HS256);
        jsonwebtoken::encode(&header, &claims, key).map_err(|error| {
            tracing::error!(%error, "an access token could not be signed");
            Problem::new(ProblemCode::Internal, "The token could not be signed.")
        })
    }
}

/// What is checked with the signature; the algorithm is the key's.
fn validation(config: &Config) -> Validation {
    let mut validation = Validation::default();
    validation.set_required_spec_claims(&["exp", "sub"]);
    // The injected clock judges the times.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = config.jwt_audience.is_some();
    if let Some(issuer) = &config.jwt_issuer {
        validation.set_issuer(&[issuer]);
        validation.required_spec_claims.insert("iss".to_owned());
    }
    if let Some(audience) = &config.jwt_audience {
        validation.set_audience(&[audience]);
        validation.required_spec_claims.insert("aud".to_owned());
    }
    validation
}

/// Whether the key that signed may be one that a JWKS has and we do not know.
fn may_be_newer(header: &Header, known: &Known) -> bool {
    known.is_empty || (header.key_id.is_some() && !known.names(header))
}

fn refuse(error: &jsonwebtoken::errors::Error) -> Problem {
    invalid(match error.kind() {
        ErrorKind::InvalidIssuer => "The access token's \"iss\" is not the expected one.",
        ErrorKind::InvalidAudience => "The access token's \"aud\" is not the expected one.",
        ErrorKind::MissingRequiredClaim(_) => "The access token lacks a required claim.",
        _ => "The access token is not valid.",
    })
}

fn invalid(detail: &str) -> Problem {
    Problem::new(ProblemCode::CredentialInvalid, detail)
}

fn keys_unavailable() -> Problem {
    let detail =
        "The server cannot fetch the key of this access token. Please try again in a moment.";
    Problem::new(ProblemCode::KeysUnavailable, detail).retry_after(retry_after())
}

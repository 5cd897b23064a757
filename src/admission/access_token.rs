//! Access tokens: JWTs by which the application vouches for a user.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use rollcall_protocol::{DisplayName, Problem, ProblemCode, RoomId, Timestamp, UserId};
use serde::{Deserialize, Serialize};

use crate::{clock::Clock, config::Config};

/// What a checked access token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessClaims {
    /// Who.
    pub user_id: UserId,
    /// Where to.
    pub rooms: Rooms,
    /// The display name.
    pub name: Option<DisplayName>,
    /// Make the room if it is not there, revive it if it is idle.
    pub create: bool,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// The rooms a token covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rooms {
    /// Exactly one; the query need not name it.
    One(RoomId),
    /// Some; the query names one.
    Listed(Vec<RoomId>),
    /// Every room; the query names one.
    All,
}

/// The claims as JSON.
#[derive(Debug, Deserialize)]
struct Raw {
    sub: String,
    exp: f64,
    room: Option<RawRooms>,
    name: Option<String>,
    #[serde(default)]
    create: bool,
    #[serde(default)]
    observe: bool,
}

#[derive(Debug)]
enum RawRooms {
    One(String),
    Some(Vec<String>),
}

impl<'de> Deserialize<'de> for RawRooms {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(room) => Ok(Self::One(room)),
            list => serde_json::from_value(list)
                .map(Self::Some)
                .map_err(serde::de::Error::custom),
        }
    }
}

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
    keys: Option<(DecodingKey, EncodingKey)>,
    validation: Validation,
    issuer: Option<String>,
    audience: Option<String>,
    clock: Clock,
}

impl std::fmt::Debug for AccessTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessTokens")
            .field("configured", &self.keys.is_some())
            .finish_non_exhaustive()
    }
}

impl AccessTokens {
    /// From the configured secret, issuer and audience.
    pub fn new(config: &Config, clock: Clock) -> Self {
        let keys = config.jwt_secret.as_ref().map(|secret| {
            let secret = secret.expose().as_bytes();
            (
                DecodingKey::from_secret(secret),
                EncodingKey::from_secret(secret),
            )
        });
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "sub"]);
        // The injected clock judges `exp`, without leeway: a client is told a minute ahead, and asks for a fresh one.
        validation.validate_exp = false;
        validation.validate_aud = config.jwt_audience.is_some();
        if let Some(issuer) = &config.jwt_issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        if let Some(audience) = &config.jwt_audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        Self {
            keys,
            validation,
            issuer: config.jwt_issuer.clone(),
            audience: config.jwt_audience.clone(),
            clock,
        }
    }

    /// Checks a token.
    ///
    /// # Errors
    /// `credential_invalid`, or `credential_expired` when only its `exp` has passed.
    pub fn check(&self, token: &str) -> Result<AccessClaims, Problem> {
        let Some((key, _)) = &self.keys else {
            return Err(invalid(
                "This server accepts no access tokens: no signing secret is configured.",
            ));
        };
        let raw = jsonwebtoken::decode::<Raw>(token, key, &self.validation)
            .map_err(|error| refuse(&error))?
            .claims;
        let expires_at = Timestamp::from_millis((raw.exp * 1000.0) as i64);
        if raw.observe {
            return Err(invalid(
                "This server does not support observing yet; ask for a token without \"observe\".",
            ));
        }
        let claims = AccessClaims {
            user_id: raw
                .sub
                .parse()
                .map_err(|_| invalid("The access token's \"sub\" is not a valid user id."))?,
            rooms: rooms(raw.room)?,
            name: raw
                .name
                .map(|name| name.parse())
                .transpose()
                .map_err(|_| invalid("The access token's \"name\" is not a valid name."))?,
            create: raw.create,
            expires_at,
        };
        if expires_at <= self.clock.now() {
            return Err(Problem::new(
                ProblemCode::CredentialExpired,
                "This access token has expired.",
            ));
        }
        Ok(claims)
    }

    /// Mints a token for one room, or says that no secret is configured.
    pub fn mint(
        &self,
        room: &RoomId,
        user: &UserId,
        name: Option<&DisplayName>,
        expires_at: Timestamp,
    ) -> Result<String, Problem> {
        let Some((_, key)) = &self.keys else {
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
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, key).map_err(|error| {
            tracing::error!(%error, "an access token could not be signed");
            Problem::new(ProblemCode::Internal, "The token could not be signed.")
        })
    }
}

impl AccessClaims {
    /// The room to enter: the token's only one, or the one that the query names.
    ///
    /// # Errors
    /// `room_forbidden` for a room the token does not cover, `bad_request` if none is named.
    pub fn room(&self, named: Option<RoomId>) -> Result<RoomId, Problem> {
        let covered = match (&self.rooms, named) {
            (Rooms::One(room), None) => return Ok(room.clone()),
            (_, None) => {
                return Err(Problem::new(
                    ProblemCode::BadRequest,
                    "The access token covers several rooms: name one with \"room\".",
                ));
            }
            (Rooms::One(room), Some(named)) => (*room == named).then_some(named),
            (Rooms::Listed(rooms), Some(named)) => rooms.contains(&named).then_some(named),
            (Rooms::All, Some(named)) => Some(named),
        };
        covered.ok_or_else(|| {
            Problem::new(
                ProblemCode::RoomForbidden,
                "Your access token does not cover this room.",
            )
        })
    }
}

fn rooms(raw: Option<RawRooms>) -> Result<Rooms, Problem> {
    let bad = |_| invalid("The access token's \"room\" is not a valid room id.");
    match raw {
        None => Err(invalid("The access token names no room.")),
        Some(RawRooms::One(room)) if room == "*" => Ok(Rooms::All),
        Some(RawRooms::One(room)) => room.parse().map(Rooms::One).map_err(bad),
        Some(RawRooms::Some(rooms)) => rooms
            .iter()
            .map(|room| room.parse())
            .collect::<Result<_, _>>()
            .map(Rooms::Listed)
            .map_err(bad),
    }
}

fn refuse(error: &jsonwebtoken::errors::Error) -> Problem {
    invalid(match error.kind() {
        ErrorKind::InvalidSignature => "The access token's signature is not valid.",
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
            "The access token's algorithm is not accepted."
        }
        ErrorKind::InvalidIssuer => "The access token's \"iss\" is not the expected one.",
        ErrorKind::InvalidAudience => "The access token's \"aud\" is not the expected one.",
        ErrorKind::MissingRequiredClaim(_) => "The access token lacks a required claim.",
        _ => "The access token is not valid.",
    })
}

fn invalid(detail: &str) -> Problem {
    Problem::new(ProblemCode::CredentialInvalid, detail)
}

//! What a token says, once its signature is known to be good.

use std::time::Duration;

use rollcall_protocol::{DisplayName, Problem, ProblemCode, RoomId, Timestamp, UserId};
use serde::Deserialize;

use super::invalid;

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
    /// Watch without a seat.
    pub observe: bool,
    /// Whether it may be kept when the participant was last there.
    pub keeps_last_seen: bool,
    /// When it ends, leeway included.
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

/// The claims as JSON. `iss` and `aud` are checked with the signature.
#[derive(Debug, Deserialize)]
pub(super) struct Raw {
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    room: Option<RawRooms>,
    name: Option<String>,
    #[serde(default)]
    create: bool,
    last_seen: Option<bool>,
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

impl Raw {
    /// Checks what the claims say, by the clock's `now`.
    ///
    /// # Errors
    /// `credential_invalid`, or `credential_expired` when only its `exp` has passed.
    pub(super) fn check(self, now: Timestamp, leeway: Duration) -> Result<AccessClaims, Problem> {
        let expires_at = moment(self.exp) + leeway;
        if self.nbf.is_some_and(|nbf| moment(nbf) > now + leeway) {
            return Err(invalid("The access token is not valid yet."));
        }
        let claims = AccessClaims {
            user_id: self
                .sub
                .parse()
                .map_err(|_| invalid("The access token's \"sub\" is not a valid user id."))?,
            rooms: rooms(self.room)?,
            name: self
                .name
                .map(|name| name.parse())
                .transpose()
                .map_err(|_| invalid("The access token's \"name\" is not a valid name."))?,
            create: self.create,
            observe: self.observe,
            keeps_last_seen: self.last_seen.unwrap_or(true),
            expires_at,
        };
        if expires_at <= now {
            return Err(Problem::new(
                ProblemCode::CredentialExpired,
                "This access token has expired.",
            ));
        }
        Ok(claims)
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

/// A NumericDate (RFC 7519, section 2); what no calendar has becomes the nearest moment that one has.
fn moment(seconds: f64) -> Timestamp {
    Timestamp::from_millis((seconds * 1000.0) as i64)
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

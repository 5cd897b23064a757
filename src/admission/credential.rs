//! What a request to enter carries: exactly one credential, in the query or in headers.

use std::borrow::Cow;

use aws_lc_rs::digest::{SHA256, digest};
use axum::http::{HeaderMap, header};
use rollcall_protocol::{
    BEARER_PREFIX, DisplayName, Problem, ProblemCode, RESUME_PREFIX, RoomId, SUBPROTOCOL,
};

/// A parsed request to enter.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The one credential.
    pub credential: Credential,
    /// The display name a guest gives.
    pub name: Option<DisplayName>,
    /// The browser's own random id.
    pub client: Option<String>,
    /// The room, where the access token covers several.
    pub room: Option<RoomId>,
}

/// What somebody enters by.
#[derive(Clone, PartialEq)]
pub enum Credential {
    /// An invite token.
    Invite(String),
    /// A JWT.
    AccessToken(String),
    /// A resume token.
    Resume(String),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Invite(_) => "Invite(…)",
            Self::AccessToken(_) => "AccessToken(…)",
            Self::Resume(_) => "Resume(…)",
        })
    }
}

/// Longer values are no credential of anybody's; the limit keeps them out of hashes and parsers.
pub(super) const MAX_CREDENTIAL: usize = 8 * 1024;

impl Query {
    /// Reads the query and the headers.
    ///
    /// # Errors
    /// `bad_request`, `credential_missing` or `unsupported_protocol`, naming what is wrong.
    pub fn parse(query: Option<&str>, headers: &HeaderMap) -> Result<Self, Problem> {
        let offers = Offers::read(headers)?;
        let mut credentials: Vec<Credential> = offers.credentials;
        let (mut name, mut client, mut room) = (None, None, None);
        for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match key.as_ref() {
                "invite" => credentials.push(Credential::Invite(value.into_owned())),
                "token" => credentials.push(Credential::AccessToken(value.into_owned())),
                "resume" => credentials.push(Credential::Resume(value.into_owned())),
                "name" => once(&mut name, parse_name(&value)?, "name")?,
                "client" => once(&mut client, parse_client(value)?, "client")?,
                "room" => once(&mut room, parse_room(&value)?, "room")?,
                _ => {}
            }
        }
        credentials.extend(bearer(headers)?);
        let mut credentials = credentials.into_iter();
        let credential = credentials.next().ok_or_else(missing)?;
        if credentials.next().is_some() {
            return Err(bad(
                "Exactly one of \"invite\", \"token\" and \"resume\" may be given.",
            ));
        }
        credential.check()?;
        Ok(Self {
            credential,
            name,
            client,
            room,
        })
    }
}

impl Credential {
    fn check(&self) -> Result<(), Problem> {
        let (Self::Invite(value) | Self::AccessToken(value) | Self::Resume(value)) = self;
        if value.is_empty() {
            return Err(bad("The credential is empty."));
        }
        if value.len() > MAX_CREDENTIAL {
            return Err(bad("The credential is too long."));
        }
        Ok(())
    }
}

/// The subprotocols that a client offers.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    pub(crate) is_v1: bool,
    credentials: Vec<Credential>,
}

impl Offers {
    /// Reads `Sec-WebSocket-Protocol`. No offer at all is accepted.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut offers = Self::default();
        let mut is_any = false;
        for value in headers.get_all(header::SEC_WEBSOCKET_PROTOCOL) {
            let value = value
                .to_str()
                .map_err(|_| bad("Sec-WebSocket-Protocol is not ASCII."))?;
            for offer in value
                .split(',')
                .map(str::trim)
                .filter(|offer| !offer.is_empty())
            {
                is_any = true;
                if offer == SUBPROTOCOL {
                    offers.is_v1 = true;
                } else if let Some(token) = offer.strip_prefix(BEARER_PREFIX) {
                    offers
                        .credentials
                        .push(Credential::AccessToken(token.to_owned()));
                } else if let Some(token) = offer.strip_prefix(RESUME_PREFIX) {
                    offers
                        .credentials
                        .push(Credential::Resume(token.to_owned()));
                }
            }
        }
        if is_any && !offers.is_v1 {
            let detail = format!("The subprotocol {SUBPROTOCOL} is not among those offered.");
            return Err(Problem::new(ProblemCode::UnsupportedProtocol, detail));
        }
        Ok(offers)
    }
}

fn bearer(headers: &HeaderMap) -> Result<Option<Credential>, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(bad("There is more than one Authorization header."));
    }
    let token = value.to_str().ok().and_then(bearer_token);
    token
        .map(|token| Some(Credential::AccessToken(token.to_owned())))
        .ok_or_else(|| bad("The Authorization header is not \"Bearer TOKEN\"."))
}

/// The token of an `Authorization: Bearer` value; the scheme's case does not matter (RFC 9110 section 11.1).
pub(crate) fn bearer_token(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn once<T>(slot: &mut Option<T>, value: T, name: &str) -> Result<(), Problem> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(bad(format!("\"{name}\" is given twice."))),
    }
}

fn parse_name(value: &str) -> Result<DisplayName, Problem> {
    value
        .parse()
        .map_err(|error| bad(format!("\"name\": {error}.")))
}

fn parse_client(value: Cow<'_, str>) -> Result<String, Problem> {
    let length = value.chars().count();
    if !(16..=64).contains(&length) {
        return Err(bad(format!(
            "\"client\" has {length} characters, it needs 16 to 64."
        )));
    }
    Ok(value.into_owned())
}

fn parse_room(value: &str) -> Result<RoomId, Problem> {
    value
        .parse()
        .map_err(|error| bad(format!("\"room\": {error}.")))
}

fn missing() -> Problem {
    Problem::new(
        ProblemCode::CredentialMissing,
        "An invite, an access token or a resume token is needed.",
    )
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemCode::BadRequest, detail)
}

/// SHA-256, as invite tokens and `client` ids are stored.
pub fn hash(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

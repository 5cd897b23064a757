//! What handlers take in and give out, with problems instead of a framework's own words.

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Path, Request, rejection::JsonRejection},
    http::{request::Parts, uri::Uri},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rollcall_protocol::{Problem, ProblemCode};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use crate::http::{App, guard, problem::ProblemResponse};

/// What handlers answer.
pub(crate) type Answer<T> = Result<T, ProblemResponse>;

/// A JSON body. An absent body is `{}`, so that calls whose every field is optional need none.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned + 'static> FromRequest<App> for Body<T> {
    type Rejection = ProblemResponse;

    async fn from_request(request: Request, app: &App) -> Result<Self, Self::Rejection> {
        // Bodies are small; who takes longer keeps a connection from others.
        let within = app.config.limits.handshake_timeout;
        let is_json = guard::is_json(request.headers());
        let read = timeout(within, bytes::Bytes::from_request(request, app)).await;
        let bytes = read
            .map_err(|_| {
                let detail = "The body did not arrive in time.";
                Problem::new(ProblemCode::RequestTimeout, detail)
            })?
            .map_err(|error| {
                let code = if error.into_response().status() == 413 {
                    ProblemCode::PayloadTooLarge
                } else {
                    ProblemCode::BadRequest
                };
                Problem::new(code, "The body could not be read: too large, or cut off.")
            })?;
        let bytes = if bytes.is_empty() {
            bytes::Bytes::from_static(b"{}")
        } else if is_json {
            bytes
        } else {
            return Err(guard::not_json().into());
        };
        let parsed = Json::<T>::from_bytes(&bytes).map_err(|error: JsonRejection| {
            let detail = error.body_text();
            let detail = detail
                .rsplit_once(": ")
                .map_or(detail.as_str(), |(_, cause)| cause);
            Problem::new(
                ProblemCode::BadRequest,
                format!("The body is not as expected: {detail}."),
            )
        })?;
        Ok(Self(parsed.0))
    }
}

/// One path segment, parsed; what does not parse names nothing.
pub(crate) struct Id<T>(pub(crate) T);

impl<S: Send + Sync, T: std::str::FromStr> FromRequestParts<S> for Id<T>
where
    T::Err: std::fmt::Display,
{
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let Ok(Path(text)) = Path::<String>::from_request_parts(parts, state).await else {
            return Err(bad("The address is malformed."));
        };
        text.parse()
            .map(Self)
            .map_err(|error: T::Err| bad(format!("The id in the address is not valid: {error}.")))
    }
}

/// Two path segments, parsed.
pub(crate) struct Ids<A, B>(pub(crate) A, pub(crate) B);

impl<S: Send + Sync, A: std::str::FromStr, B: std::str::FromStr> FromRequestParts<S> for Ids<A, B>
where
    A::Err: std::fmt::Display,
    B::Err: std::fmt::Display,
{
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let Ok(Path((a, b))) = Path::<(String, String)>::from_request_parts(parts, state).await
        else {
            return Err(bad("The address is malformed."));
        };
        let a = a.parse().map_err(|error: A::Err| {
            bad(format!(
                "The first id in the address is not valid: {error}."
            ))
        })?;
        let b = b.parse().map_err(|error: B::Err| {
            bad(format!(
                "The second id in the address is not valid: {error}."
            ))
        })?;
        Ok(Self(a, b))
    }
}

/// `?limit=` and `?cursor=` of a list.
pub(crate) struct Page {
    pub(crate) limit: u32,
    cursor: Option<String>,
}

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1_000;

impl Page {
    /// Reads the query.
    pub(crate) fn parse(uri: &Uri) -> Answer<Self> {
        let mut page = Self {
            limit: DEFAULT_LIMIT,
            cursor: None,
        };
        for (key, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            match key.as_ref() {
                "limit" => {
                    let limit = value
                        .parse()
                        .ok()
                        .filter(|limit| (1..=MAX_LIMIT).contains(limit));
                    page.limit = limit.ok_or_else(|| {
                        bad(format!(
                            "\"limit\" must be a whole number from 1 to {MAX_LIMIT}."
                        ))
                    })?;
                }
                "cursor" => page.cursor = Some(value.into_owned()),
                _ => {}
            }
        }
        Ok(page)
    }

    /// Where the page before this one ended; `T` as text, opaque on the wire.
    pub(crate) fn after<T: std::str::FromStr>(&self) -> Answer<Option<T>> {
        let Some(cursor) = &self.cursor else {
            return Ok(None);
        };
        let text = URL_SAFE_NO_PAD
            .decode(cursor)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let after = text.and_then(|text| text.parse().ok());
        after
            .map(Some)
            .ok_or_else(|| bad("\"cursor\" is not one that this list gave out."))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Page {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Self::parse(&parts.uri)
    }
}

/// A page of a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct List<T> {
    /// What is on this page.
    pub(crate) items: Vec<T>,
    /// For `?cursor=`; null on the last page.
    pub(crate) next_cursor: Option<String>,
}

impl<T> List<T> {
    /// A page that was asked for with `limit`; full means that there may be more after `last`.
    pub(crate) fn new(items: Vec<T>, limit: u32, last: Option<String>) -> Self {
        let is_full = items.len() >= limit as usize;
        Self {
            items,
            next_cursor: last
                .filter(|_| is_full)
                .map(|last| URL_SAFE_NO_PAD.encode(last)),
        }
    }
}

impl<T: Serialize> IntoResponse for List<T> {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

/// Tells a field that is null from one that is absent.
pub(crate) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A 400.
pub(crate) fn bad(detail: impl Into<String>) -> ProblemResponse {
    Problem::new(ProblemCode::BadRequest, detail).into()
}

/// A 404 for a room.
pub(crate) fn no_room() -> ProblemResponse {
    Problem::new(ProblemCode::RoomNotFound, "Room not found or inactive.").into()
}

/// A 404 for a participant.
pub(crate) fn no_participant() -> ProblemResponse {
    Problem::new(
        ProblemCode::ParticipantNotFound,
        "There is no such participant in this room.",
    )
    .into()
}

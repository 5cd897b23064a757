//! `GET /v1/connect`: the verdict. The upgrade that follows a yes is in `upgrade.rs`.

use std::net::IpAddr;

use axum::{
    Json,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header},
    response::{IntoResponse, Response},
};
use rollcall_protocol::{Problem, ProblemCode, RoomView};
use serde::Serialize;

use super::{App, origin, problem::ProblemResponse, turned_away, upgrade};
use crate::{
    admission::{Admitted, Ask, Query},
    doors::{Hold, Source},
    server::Peer,
};

/// What a request to enter wants.
enum Wish {
    /// An upgrade, with the client's key.
    Enter(HeaderValue),
    /// Only the verdict.
    Ask,
}

#[derive(Serialize)]
struct Verdict {
    verdict: &'static str,
    room: RoomView,
}

pub(super) async fn connect(
    State(app): State<App>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    mut request: Request,
) -> Response {
    let head = Head::of(&app, peer.ip(), &request);
    let wish = wish(&request);
    let closes = matches!(wish, Ok(Wish::Enter(_))) && wants_close(head.query());
    let count = |problem: &Problem| app.metrics.refused(problem.code);
    let answer = match wish.inspect_err(count) {
        Err(problem) => Err(problem),
        Ok(Wish::Ask) => look(&app, &head).await,
        Ok(Wish::Enter(key)) => match enter(&app, &head).await.inspect_err(count) {
            Ok((admitted, hold)) => Ok(upgrade::seat(&app, admitted, hold, &key, &mut request)),
            Err(problem) if closes => {
                Ok(refuse_by_close(&app, &head, &problem, &key, &mut request))
            }
            Err(problem) => Err(problem),
        },
    };
    let mut response = answer.unwrap_or_else(|problem| ProblemResponse(problem).into_response());
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        dress(&app, &head, &mut response);
    }
    response
}

/// A request without its body, which may not be shared across an await, and where it comes from.
struct Head {
    uri: Uri,
    headers: HeaderMap,
    peer: IpAddr,
    source: Option<Source>,
}

impl Head {
    fn of(app: &App, peer: IpAddr, request: &Request) -> Self {
        Self {
            uri: request.uri().clone(),
            headers: request.headers().clone(),
            peer,
            source: app.doors.source(peer, request.headers()),
        }
    }

    fn query(&self) -> Option<&str> {
        self.uri.query()
    }
}

/// CORS preflight for the verdict.
pub(super) async fn preflight(
    State(app): State<App>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    request: Request,
) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    dress(&app, &Head::of(&app, peer.ip(), &request), &mut response);
    response
}

/// What the request wants, by its headers (RFC 6455 section 4.2.1).
fn wish(request: &Request) -> Result<Wish, Problem> {
    if request.method() != Method::GET {
        return Err(Problem::new(ProblemCode::MethodNotAllowed, "Ask with GET."));
    }
    let headers = request.headers();
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    if !has_token(headers, &header::UPGRADE, "websocket") {
        return match key {
            None => Ok(Wish::Ask),
            Some(_) => Err(Problem::new(
                ProblemCode::UpgradeMissing,
                "A proxy removed the Upgrade header.",
            )),
        };
    }
    if !has_token(headers, &header::CONNECTION, "upgrade") {
        return Err(bad("The Connection header does not say \"Upgrade\"."));
    }
    if request.version() != Version::HTTP_11 {
        return Err(bad("An upgrade needs HTTP/1.1."));
    }
    if only(headers, &header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(bad("Sec-WebSocket-Version must be 13."));
    }
    let key = only(headers, &header::SEC_WEBSOCKET_KEY)
        .filter(|key| is_key(key))
        .ok_or_else(|| bad("Sec-WebSocket-Key is missing or malformed."))?;
    Ok(Wish::Enter(key.clone()))
}

/// The value of a header that must not be there twice (RFC 6455 sections 11.3.1 and 11.3.5).
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// 16 bytes in base64 (RFC 6455 section 4.1).
fn is_key(key: &HeaderValue) -> bool {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD
        .decode(key.as_bytes())
        .is_ok_and(|bytes| bytes.len() == 16)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|value| value.trim().eq_ignore_ascii_case(token))
}

fn wants_close(query: Option<&str>) -> bool {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .any(|(key, value)| key == "refusal" && value == "close")
}

/// What can be said before anybody looks at the credential.
fn check_door(app: &App, head: &Head) -> Result<(), Problem> {
    origin::check(app, head.peer, &head.headers)?;
    match app.readiness.get() {
        crate::node::State::Ready => {}
        crate::node::State::Standby => return Err(crate::admission::standby()),
        crate::node::State::Draining => return Err(crate::admission::draining()),
    }
    app.doors.knock(head.source).map_err(turned_away)
}

/// Reads the credential.
async fn read(app: &App, head: &Head) -> Result<Ask, Problem> {
    let query = Query::parse(head.query(), &head.headers)?;
    origin::check_absent(app, &head.headers, &query.credential)?;
    app.admission.ask(query).await.inspect_err(|problem| {
        // Whose token was good once does not guess: that shows only in the store, or in its end.
        if problem.code == ProblemCode::CredentialInvalid {
            app.doors.failed(head.source);
        }
    })
}

async fn look(app: &App, head: &Head) -> Result<Response, Problem> {
    check_door(app, head)?;
    let ask = read(app, head).await?;
    let room = app
        .admission
        .look(&ask)
        .await
        .inspect_err(|problem| note_failure(app, head, problem))?;
    Ok(Json(Verdict {
        verdict: "admit",
        room,
    })
    .into_response())
}

async fn enter(app: &App, head: &Head) -> Result<(Admitted, Hold), Problem> {
    check_door(app, head)?;
    let ask = read(app, head).await?;
    let hold = app.doors.open(head.source).map_err(turned_away)?;
    let admitted = app
        .admission
        .decide(ask)
        .await
        .inspect_err(|problem| note_failure(app, head, problem))?;
    Ok((admitted, hold))
}

/// Links that are none are counted where they came from.
fn note_failure(app: &App, head: &Head, problem: &Problem) {
    if problem.code == ProblemCode::InviteNotFound {
        app.doors.failed(head.source);
    }
}

/// A refusal as a socket that is closed at once counts as one for as long as it is open.
fn refuse_by_close(
    app: &App,
    head: &Head,
    problem: &Problem,
    key: &HeaderValue,
    request: &mut Request,
) -> Response {
    match app.doors.open(head.source) {
        Ok(hold) => upgrade::refuse(app, problem, hold, key, request),
        Err(turned) => ProblemResponse(turned_away(turned)).into_response(),
    }
}

/// Answers are of the moment, and readable for allowed origins only.
fn dress(app: &App, head: &Head, response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    if headers.get(header::CONTENT_TYPE).is_some() {
        headers.insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
    }
    let Some(origin) = head.headers.get(header::ORIGIN) else {
        return;
    };
    if origin::check(app, head.peer, &head.headers).is_err() {
        return;
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("Authorization"),
    );
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Retry-After"),
    );
    headers.insert(
        header::ACCESS_CONTROL_MAX_AGE,
        HeaderValue::from_static("600"),
    );
}

fn bad(detail: &str) -> Problem {
    Problem::new(ProblemCode::BadRequest, detail)
}

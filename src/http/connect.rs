//! `GET /v1/connect`: the verdict, and the upgrade that follows a yes.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rollcall_protocol::{Problem, ProblemCode, RoomView, SUBPROTOCOL};
use serde::Serialize;
use tokio::{net::TcpStream, runtime::Handle, time::timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role},
    },
};

use super::{App, guard, problem::ProblemResponse};
use crate::{
    admission::{Admitted, Query},
    connection::{self, websocket_config},
    server::Peer,
};

/// From the 101 to the raw socket, and from a refusal's close frame to the peer's.
const UPGRADE_DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);

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
    let head = Head::of(&request);
    let wish = wish(&head.headers);
    let closes = matches!(wish, Ok(Wish::Enter(_))) && wants_close(head.query());
    let answer = match wish {
        Err(problem) => Err(problem),
        Ok(Wish::Ask) => look(&app, peer.ip(), &head).await,
        Ok(Wish::Enter(key)) => match enter(&app, peer.ip(), &head).await {
            Ok(admitted) => Ok(upgrade(&app, admitted, &key, &mut request)),
            Err(problem) if closes => Ok(refuse_by_close(&app, &problem, &key, &mut request)),
            Err(problem) => Err(problem),
        },
    };
    let mut response = answer.unwrap_or_else(|problem| ProblemResponse(problem).into_response());
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        dress(&app, &head.headers, &mut response);
    }
    response
}

/// A request without its body, which may not be shared across an await.
struct Head {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Head {
    fn of(request: &Request) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
        }
    }

    fn query(&self) -> Option<&str> {
        self.uri.query()
    }
}

/// CORS preflight for the verdict.
pub(super) async fn preflight(State(app): State<App>, headers: HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    dress(&app, &headers, &mut response);
    response
}

/// What the request wants, by its headers (RFC 6455 section 4.2.1).
fn wish(headers: &HeaderMap) -> Result<Wish, Problem> {
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
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(bad("Sec-WebSocket-Version must be 13."));
    }
    let key = key
        .filter(|key| is_key(key))
        .ok_or_else(|| bad("Sec-WebSocket-Key is missing or malformed."))?;
    Ok(Wish::Enter(key.clone()))
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

fn check_door(app: &App, peer: IpAddr, head: &Head) -> Result<(), Problem> {
    guard::allowed_origin(app, &head.headers)?;
    match app.readiness.get() {
        crate::node::State::Ready => {}
        crate::node::State::Standby => return Err(crate::admission::standby()),
        crate::node::State::Draining => return Err(crate::admission::draining()),
    }
    if let Some(limiter) = &app.handshakes
        && let Err(until) = limiter.check_key(&client_address(app, peer, &head.headers))
    {
        let wait = until.wait_time_from(governor::clock::Clock::now(limiter.clock()));
        return Err(Problem::new(
            ProblemCode::RateLimited,
            "Too many attempts. Please try again in a moment.",
        )
        .retry_after(wait));
    }
    Ok(())
}

/// The peer, or behind a listed proxy the last address in `X-Forwarded-For` that is not itself a listed proxy.
fn client_address(app: &App, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let is_proxy = |ip: &IpAddr| app.config.trusted_proxies.contains(ip);
    if !is_proxy(&peer) {
        return peer;
    }
    let forwarded = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut hops: Vec<IpAddr> = forwarded
        .flat_map(|value| value.split(','))
        .filter_map(|hop| hop.trim().parse().ok())
        .collect();
    hops.retain(|hop| !is_proxy(hop));
    hops.last().copied().unwrap_or(peer)
}

async fn look(app: &App, peer: IpAddr, head: &Head) -> Result<Response, Problem> {
    check_door(app, peer, head)?;
    if head.method != Method::GET {
        return Err(Problem::new(ProblemCode::MethodNotAllowed, "Ask with GET."));
    }
    let ask = app
        .admission
        .ask(Query::parse(head.query(), &head.headers)?)?;
    let room = app.admission.look(&ask).await?;
    Ok(Json(Verdict {
        verdict: "admit",
        room,
    })
    .into_response())
}

async fn enter(app: &App, peer: IpAddr, head: &Head) -> Result<Admitted, Problem> {
    check_door(app, peer, head)?;
    let ask = app
        .admission
        .ask(Query::parse(head.query(), &head.headers)?)?;
    app.admission.decide(ask).await
}

/// Answers 101 and gives the connection a small task of its own on the raw socket and on the runtime of connections; what
/// hyper keeps for the handshake ends here.
fn upgrade(app: &App, admitted: Admitted, key: &HeaderValue, request: &mut Request) -> Response {
    let upgraded = hyper::upgrade::on(&mut *request);
    let app = app.clone();
    app.tracker.clone().spawn(async move {
        // Dropping `admitted` here is the departure of somebody whose upgrade failed (rule R3).
        let Some(socket) = raw_socket(upgraded, &app, &app.connection_runtime).await else {
            return;
        };
        let connection = connection::run(socket, admitted, Arc::clone(&app.deps));
        app.tracker.spawn_on(connection, &app.connection_runtime);
    });
    switching(key, request.headers())
}

/// Upgrades only to close with the problem's code, for pages that cannot ask twice. Never takes a seat.
fn refuse_by_close(
    app: &App,
    problem: &Problem,
    key: &HeaderValue,
    request: &mut Request,
) -> Response {
    app.metrics.joined(problem.code.as_str());
    let upgraded = hyper::upgrade::on(&mut *request);
    let frame = CloseFrame {
        code: problem.code.close_code().into(),
        reason: problem.code.as_str().into(),
    };
    let (app, tracker) = (app.clone(), app.tracker.clone());
    tracker.spawn(async move {
        let Some(mut socket) = raw_socket(upgraded, &app, &Handle::current()).await else {
            return;
        };
        let parting = async {
            socket.close(Some(frame)).await?;
            while let Some(Ok(_)) = futures::StreamExt::next(&mut socket).await {}
            Ok::<(), tokio_tungstenite::tungstenite::Error>(())
        };
        // A peer that does not answer the close gets no more than this.
        let _ = timeout(UPGRADE_DEADLINE, parting).await;
    });
    let mut response = switching(key, request.headers());
    if let Some(offer) = first_plain_offer(request.headers())
        .filter(|_| problem.code == ProblemCode::UnsupportedProtocol)
    {
        // Browsers drop a socket whose offers all went unanswered, and the page would never see the code.
        response
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, offer);
    }
    response
}

/// The first offer that carries no credential.
fn first_plain_offer(headers: &HeaderMap) -> Option<HeaderValue> {
    let offers = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let plain = offers
        .split(',')
        .map(str::trim)
        .find(|offer| !offer.starts_with("rollcall."))?;
    HeaderValue::from_str(plain).ok()
}

/// Takes the TcpStream back from hyper, so that no buffer of its own stays, for tasks of `runtime`.
async fn raw_socket(
    upgraded: OnUpgrade,
    app: &App,
    runtime: &Handle,
) -> Option<WebSocketStream<TcpStream>> {
    let upgraded = timeout(UPGRADE_DEADLINE, upgraded).await.ok()?.ok()?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    let stream = moved(parts.io.into_inner(), runtime)
        .inspect_err(|error| tracing::warn!(%error, "a connection could not be handed over"))
        .ok()?;
    let config = Some(websocket_config(&app.config));
    let socket =
        WebSocketStream::from_partially_read(stream, parts.read_buf.to_vec(), Role::Server, config);
    Some(socket.await)
}

/// A socket wakes its task through the runtime it was registered with.
fn moved(stream: TcpStream, runtime: &Handle) -> std::io::Result<TcpStream> {
    let stream = stream.into_std()?;
    let _entered = runtime.enter();
    TcpStream::from_std(stream)
}

fn switching(key: &HeaderValue, headers: &HeaderMap) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    let offers = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok());
    if offers
        .flat_map(|value| value.split(','))
        .any(|offer| offer.trim() == SUBPROTOCOL)
    {
        answer.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(SUBPROTOCOL),
        );
    }
    response
}

/// Answers are of the moment, and readable for allowed origins only.
fn dress(app: &App, request: &HeaderMap, response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    if headers.get(header::CONTENT_TYPE).is_some() {
        headers.insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
    }
    let Some(origin) = request.get(header::ORIGIN) else {
        return;
    };
    if guard::allowed_origin(app, request).is_err() {
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

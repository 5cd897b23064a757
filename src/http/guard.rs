//! Who may talk to the server at all: hosts and origins in dev mode, API keys for the management API.

use std::net::{IpAddr, Ipv4Addr};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use rollcall_protocol::{Problem, ProblemCode};

use super::{App, origin, problem::ProblemResponse, turned_away};
use crate::{admission::bearer_token, server::Peer};

/// The longest credential, and as much again for everything else.
const MAX_URI: usize = 16 * 1024;
/// A page's cookies may come with a token.
const MAX_HEADERS: usize = 24 * 1024;

/// What holds for every request.
pub(super) async fn request(State(app): State<App>, request: Request, next: Next) -> Response {
    match check_shape(&request).and_then(|()| check_host(&app, &request)) {
        Ok(()) => next.run(request).await,
        Err(problem) => ProblemResponse(problem).into_response(),
    }
}

/// Sizes, and the one `Host` that HTTP/1.1 asks for (RFC 9112 section 3.2).
fn check_shape(request: &Request) -> Result<(), Problem> {
    let target = request.uri().path_and_query();
    if target.is_some_and(|target| target.as_str().len() > MAX_URI) {
        let detail = format!("The address is longer than {MAX_URI} bytes.");
        return Err(Problem::new(ProblemCode::UriTooLong, detail));
    }
    let headers = request.headers();
    let size = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    if headers.iter().map(size).sum::<usize>() > MAX_HEADERS {
        let detail = format!("The headers are larger than {MAX_HEADERS} bytes.");
        return Err(Problem::new(ProblemCode::HeadersTooLarge, detail));
    }
    let hosts = headers.get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        let detail = "A request needs exactly one Host header.";
        return Err(Problem::new(ProblemCode::BadRequest, detail));
    }
    Ok(())
}

/// In dev mode the server trusts whoever reaches it, so only this machine's own pages may: requests carry a loopback
/// Host (a page elsewhere whose name resolves to 127.0.0.1 carries its own), and management requests are same-origin.
fn check_host(app: &App, request: &Request) -> Result<(), Problem> {
    if app.config.dev_mode() && !has_loopback_host(request) {
        let detail =
            "In dev mode (no --api-key) requests must be for localhost, 127.0.0.1 or [::1].";
        return Err(Problem::new(ProblemCode::HostForbidden, detail));
    }
    Ok(())
}

fn has_loopback_host(request: &Request) -> bool {
    let Some(host) = host_header(request.headers()).or_else(|| {
        request
            .uri()
            .authority()
            .map(axum::http::uri::Authority::as_str)
    }) else {
        return false;
    };
    let name = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
        .map_or(host, |(name, _)| name);
    let ip = name
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback())
}

fn host_header(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

/// The management API needs an API key; in dev mode a same-origin page, and JSON bodies, which other pages cannot send
/// without asking first.
pub(super) async fn api_key(State(app): State<App>, request: Request, next: Next) -> Response {
    let verdict = if app.config.dev_mode() {
        check_dev(&app, &request)
    } else {
        check_key(&app, &request)
    };
    match verdict {
        Ok(()) => next.run(request).await,
        Err(problem) => ProblemResponse(problem).into_response(),
    }
}

fn check_dev(app: &App, request: &Request) -> Result<(), Problem> {
    // Browsers say by themselves that a page of another site is behind a request, even where they send no Origin.
    let is_foreign = request
        .headers()
        .get(origin::SEC_FETCH_SITE)
        .is_some_and(|site| site != "same-origin" && site != "none");
    if is_foreign || !origin::is_same(app, peer(request), request.headers()) {
        let detail =
            "In dev mode (no --api-key) only pages of this server may call the management API.";
        return Err(Problem::new(ProblemCode::OriginForbidden, detail));
    }
    let has_body = matches!(
        *request.method(),
        Method::POST | Method::PUT | Method::PATCH
    );
    if has_body && has_other_body(request.headers()) {
        return Err(not_json());
    }
    Ok(())
}

/// A body that is declared to be something else than JSON.
fn has_other_body(headers: &HeaderMap) -> bool {
    let is_empty = headers
        .get(header::CONTENT_LENGTH)
        .is_none_or(|length| length == "0")
        && !headers.contains_key(header::TRANSFER_ENCODING);
    !is_empty && !is_json(headers)
}

/// Whether the body is declared to be JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value.map(|value| value.split(';').next().unwrap_or(value).trim());
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
}

/// The refusal of a body that is not JSON.
pub(super) fn not_json() -> Problem {
    Problem::new(
        ProblemCode::UnsupportedMediaType,
        "The body must be JSON, with Content-Type: application/json.",
    )
}

/// Whom the request's TCP connection comes from.
fn peer(request: &Request) -> IpAddr {
    let peer = request.extensions().get::<ConnectInfo<Peer>>();
    peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |ConnectInfo(Peer(peer))| {
        peer.ip()
    })
}

/// Compares with every key in constant time, so that neither a key's bytes nor its place in the list show. Who guesses has
/// to wait.
fn check_key(app: &App, request: &Request) -> Result<(), Problem> {
    let source = app.doors.source(peer(request), request.headers());
    app.doors.check_backoff(source).map_err(turned_away)?;
    let Some(value) = request.headers().get(header::AUTHORIZATION) else {
        return Err(Problem::new(
            ProblemCode::CredentialMissing,
            "An API key is needed: Authorization: Bearer API_KEY.",
        ));
    };
    let given = value
        .to_str()
        .ok()
        .and_then(bearer_token)
        .unwrap_or_default()
        .as_bytes();
    let matches = app.config.api_keys.iter().fold(false, |found, key| {
        let same =
            aws_lc_rs::constant_time::verify_slices_are_equal(key.expose().as_bytes(), given)
                .is_ok();
        found | same
    });
    if matches {
        Ok(())
    } else {
        app.doors.failed(source);
        Err(Problem::new(
            ProblemCode::CredentialInvalid,
            "The API key is not valid.",
        ))
    }
}

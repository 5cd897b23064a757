//! Who may talk to the server at all: hosts and origins in dev mode, origins for rooms, API keys for the management API.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use rollcall_protocol::{Problem, ProblemCode};

use super::{App, problem::ProblemResponse};
use crate::admission::bearer_token;

/// In dev mode the server trusts whoever reaches it, so only this machine's own pages may: requests carry a loopback
/// Host (a page elsewhere whose name resolves to 127.0.0.1 carries its own), and management requests are same-origin.
pub(super) async fn host(State(app): State<App>, request: Request, next: Next) -> Response {
    if app.config.dev_mode() && !has_loopback_host(&request) {
        let detail =
            "In dev mode (no --api-key) requests must be for localhost, 127.0.0.1 or [::1].";
        return ProblemResponse(Problem::new(ProblemCode::HostForbidden, detail)).into_response();
    }
    next.run(request).await
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
        .parse::<std::net::IpAddr>();
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
        check_key(&app, request.headers())
    };
    match verdict {
        Ok(()) => next.run(request).await,
        Err(problem) => ProblemResponse(problem).into_response(),
    }
}

fn check_dev(app: &App, request: &Request) -> Result<(), Problem> {
    if !is_same_origin(app, request.headers()) {
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

/// Compares with every key in constant time, so that neither a key's bytes nor its place in the list show.
fn check_key(app: &App, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
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
        Err(Problem::new(
            ProblemCode::CredentialInvalid,
            "The API key is not valid.",
        ))
    }
}

/// Whether `Origin` is absent, the server's own, or on the list.
pub(super) fn allowed_origin(app: &App, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or_default();
    if is_same_origin(app, headers)
        || app
            .config
            .allowed_origins
            .iter()
            .any(|allowed| covers(allowed, origin))
    {
        return Ok(());
    }
    Err(Problem::new(
        ProblemCode::OriginForbidden,
        "Pages of this origin may not enter rooms here (--allowed-origin).",
    ))
}

/// Same origin means: Origin's host and port are the Host header's, or those of `--public-url`.
fn is_same_origin(app: &App, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let Some(origin) = origin.to_str().ok().and_then(host_and_port) else {
        return false;
    };
    let own = host_header(headers).map(|host| with_port(host, origin.2));
    let public = app.config.public_url.as_deref().and_then(host_and_port);
    own.is_some_and(|own| own == (origin.0.clone(), origin.1))
        || public.is_some_and(|public| (public.0, public.1) == (origin.0, origin.1))
}

/// Host in lower case, port, and the port that the scheme implies.
fn host_and_port(url: &str) -> Option<(String, u16, u16)> {
    let uri: Uri = url.parse().ok()?;
    let implied = match uri.scheme_str()? {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let authority = uri.authority()?;
    Some((
        authority.host().to_ascii_lowercase(),
        authority.port_u16().unwrap_or(implied),
        implied,
    ))
}

fn with_port(host: &str, implied: u16) -> (String, u16) {
    let authority = host.parse::<axum::http::uri::Authority>();
    match authority {
        Ok(authority) => (
            authority.host().to_ascii_lowercase(),
            authority.port_u16().unwrap_or(implied),
        ),
        Err(_) => (String::new(), 0),
    }
}

/// `https://*.example.com` covers every subdomain of example.com, not example.com itself.
fn covers(allowed: &str, origin: &str) -> bool {
    if allowed.eq_ignore_ascii_case(origin) {
        return true;
    }
    let Some((scheme, suffix)) = allowed.split_once("://*.") else {
        return false;
    };
    let Some((origin_scheme, rest)) = origin.split_once("://") else {
        return false;
    };
    let (rest, suffix) = (rest.to_ascii_lowercase(), suffix.to_ascii_lowercase());
    origin_scheme.eq_ignore_ascii_case(scheme)
        && rest
            .strip_suffix(&suffix)
            .is_some_and(|sub| sub.len() > 1 && sub.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_covered_exactly_or_by_subdomain() {
        let rows = [
            ("https://app.example", "https://app.example", true),
            ("https://app.example", "http://app.example", false),
            ("https://app.example", "https://app.example.evil", false),
            ("https://*.app.example", "https://a.app.example", true),
            ("https://*.app.example", "https://a.b.app.example", true),
            ("https://*.app.example", "https://app.example", false),
            ("https://*.app.example", "https://evilapp.example", false),
            (
                "https://*.app.example:8443",
                "https://a.app.example:8443",
                true,
            ),
            ("https://*.app.example:8443", "https://a.app.example", false),
        ];
        for (allowed, origin, expected) in rows {
            assert_eq!(
                covers(allowed, origin),
                expected,
                "{allowed} covers {origin}"
            );
        }
    }
}

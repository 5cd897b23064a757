//! Which pages may enter rooms: their `Origin`, which browsers send with every WebSocket and no page can forge.

use std::net::IpAddr;

use axum::http::{HeaderMap, Uri, header};
use rollcall_protocol::{Problem, ProblemCode};

use super::App;
use crate::admission::Credential;

/// Whether `Origin` is absent, the server's own, or on the list.
pub(super) fn check(app: &App, peer: IpAddr, headers: &HeaderMap) -> Result<(), Problem> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return Ok(());
    };
    let is_only = origins.next().is_none();
    let origin = origin.to_str().unwrap_or_default();
    let is_allowed = || {
        let allowed = &app.config.allowed_origins;
        is_same(app, peer, headers) || allowed.iter().any(|allowed| covers(allowed, origin))
    };
    if is_only && is_allowed() {
        return Ok(());
    }
    Err(Problem::new(
        ProblemCode::OriginForbidden,
        "Pages of this origin may not enter rooms here (--allowed-origin).",
    ))
}

/// Where origins are listed, invite links are for pages of theirs: who has no `Origin` is no browser, and needs a token that
/// says who they are. A page's plain question to its own server has none either, and says so in `Sec-Fetch-Site`.
pub(super) fn check_absent(
    app: &App,
    headers: &HeaderMap,
    credential: &Credential,
) -> Result<(), Problem> {
    let is_listed = !app.config.allowed_origins.is_empty();
    let is_own_page = headers
        .get(SEC_FETCH_SITE)
        .is_some_and(|site| site == "same-origin");
    if is_listed
        && matches!(credential, Credential::Invite(_))
        && !headers.contains_key(header::ORIGIN)
        && !is_own_page
    {
        let detail =
            "Invitation links are for browsers: a client without an Origin needs an access token.";
        return Err(Problem::new(ProblemCode::OriginForbidden, detail));
    }
    Ok(())
}

/// What page a request comes from, in words that pages cannot set (Fetch Metadata).
pub(super) const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Same origin means: Origin's host and port are the Host header's, or those of `--public-url`. A proxy that ends TLS changes
/// neither, and one that rewrites the Host says what it was.
pub(super) fn is_same(app: &App, peer: IpAddr, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let Some(origin) = origin.to_str().ok().and_then(host_and_port) else {
        return false;
    };
    let own = app
        .doors
        .host(peer, headers)
        .map(|host| with_port(host, origin.2));
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
            .is_some_and(|sub| sub.len() > 1 && sub.ends_with('.') && sub.bytes().all(is_name))
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
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
            ("https://*.app.example", "https://evil/x.app.example", false),
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

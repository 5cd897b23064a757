//! Origins and addresses as browsers write them: `scheme://host[:port]` in lower case, without the default port.

use std::net::Ipv6Addr;

/// Why a text is not an origin; ends a sentence that begins with "must".
type Flaw = &'static str;

const SHAPE: Flaw =
    "be an origin, scheme://host[:port], such as https://app.example or https://*.app.example";

/// Reads an origin that may have a wildcard in the place of its first labels.
pub(super) fn pattern(got: &str) -> Result<String, Flaw> {
    if got == "*" {
        return Err("name the origins: with `*` any web page could use its visitors' access");
    }
    let (scheme, rest) = scheme(got).ok_or(SHAPE)?;
    if rest.contains('/') {
        return Err("be an origin, which has no path and no slash at its end");
    }
    let authority = match rest.strip_prefix("*.") {
        // `https://*.com` would be everybody.
        Some(domain) if !host_only(domain).contains('.') => {
            return Err("have at least two labels after `*.`");
        }
        Some(domain) => format!("*.{}", authority(&scheme, domain)?),
        None => authority(&scheme, rest)?,
    };
    Ok(format!("{scheme}://{authority}"))
}

/// Reads an `http` or `https` URL that others are appended to: no query, no fragment, and no slash at the end of what is
/// answered.
pub(super) fn base_url(got: &str) -> Result<String, Flaw> {
    let Some((scheme, rest)) =
        scheme(got).filter(|(scheme, _)| scheme == "http" || scheme == "https")
    else {
        return Err("be an http:// or https:// address, such as https://rollcall.example");
    };
    if rest.contains(['?', '#'])
        || rest
            .chars()
            .any(|sign| sign.is_whitespace() || sign.is_control())
    {
        return Err("be an address without query, fragment or blanks");
    }
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    Ok(format!(
        "{scheme}://{}{}",
        authority(&scheme, host)?,
        path.trim_end_matches('/')
    ))
}

/// Takes the scheme off, in lower case.
pub(super) fn scheme(got: &str) -> Option<(String, &str)> {
    let (scheme, rest) = got.split_once("://")?;
    let starts_well = scheme.starts_with(|first: char| first.is_ascii_alphabetic());
    let goes_on_well = scheme
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    (starts_well && goes_on_well).then(|| (scheme.to_ascii_lowercase(), rest))
}

fn authority(scheme: &str, got: &str) -> Result<String, Flaw> {
    if got.contains('@') {
        return Err("not hold a user name or password");
    }
    let host = host_only(got);
    let valid = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.len() <= 253 && host.split('.').all(is_label),
    };
    if !valid {
        return Err("have a host name or address after ://");
    }
    let host = host.to_ascii_lowercase();
    let after = &got[host.len()..];
    if after.is_empty() {
        return Ok(host);
    }
    match (after.strip_prefix(':').map(str::parse::<u16>), scheme) {
        (Some(Ok(443)), "https" | "wss") | (Some(Ok(80)), "http" | "ws") => Ok(host),
        (Some(Ok(port @ 1..)), _) => Ok(format!("{host}:{port}")),
        _ => Err("have a port from 1 to 65535 after the host, or none"),
    }
}

fn host_only(authority: &str) -> &str {
    let end = match authority.find(']') {
        Some(bracket) => bracket + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    &authority[..end]
}

/// A label of a host name, the underscore of private networks included (RFC 1123, section 2.1).
fn is_label(label: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=63).contains(&label.len())
        && label.bytes().all(valid)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

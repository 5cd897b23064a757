//! Whom a proxy speaks for. Only listed proxies are believed, and of what they say only what they themselves added.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, header};
use ipnet::IpNet;

/// The header in which proxies name the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// RFC 7239.
    Forwarded,
    /// What most proxies send: addresses in commas, each hop at the end.
    XForwardedFor,
}

const FORWARDED: &str = "forwarded";
const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_HOST: &str = "x-forwarded-host";

/// The proxies that are believed.
#[derive(Debug, Clone)]
pub struct Proxies {
    listed: Vec<IpNet>,
    header: Option<ForwardedHeader>,
}

impl Proxies {
    /// Believes these. Without a header of choice, `X-Forwarded-For` goes before `Forwarded`: a proxy that knows only the
    /// former passes on whatever a client wrote into the latter.
    pub fn new(listed: Vec<IpNet>, header: Option<ForwardedHeader>) -> Self {
        Self { listed, header }
    }

    /// Whether this is the address of a listed proxy.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.listed.iter().any(|net| net.contains(&address))
    }

    /// The client behind a request from `peer`: the peer, or the last hop that is not a listed proxy. `None` if a listed
    /// proxy does not say, or says something that is no address.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        if !self.trusts(peer) {
            return Some(peer);
        }
        let hops: Vec<Option<IpAddr>> = match self.header(headers) {
            ForwardedHeader::XForwardedFor => {
                let values = texts(headers, X_FORWARDED_FOR);
                values
                    .flat_map(|value| value.split(','))
                    .map(address)
                    .collect()
            }
            ForwardedHeader::Forwarded => forwarded(headers),
        };
        let is_client = |hop: &Option<IpAddr>| hop.is_none_or(|hop| !self.trusts(hop));
        hops.into_iter().rev().find(is_client).flatten()
    }

    /// The host that the client asked for: `Host`, or what a listed proxy that rewrites it says in `X-Forwarded-Host` or
    /// `Forwarded`.
    pub fn host<'a>(&self, peer: IpAddr, headers: &'a HeaderMap) -> Option<&'a str> {
        if self.trusts(peer) {
            let said = match self.header(headers) {
                // The last is the one that the proxy next to us added.
                ForwardedHeader::XForwardedFor => texts(headers, X_FORWARDED_HOST)
                    .flat_map(|value| value.split(','))
                    .last()
                    .map(str::trim),
                ForwardedHeader::Forwarded => {
                    last_element(headers).and_then(|element| parameter(element, "host"))
                }
            };
            if said.is_some_and(|host| !host.is_empty()) {
                return said;
            }
        }
        headers.get(header::HOST)?.to_str().ok()
    }

    fn header(&self, headers: &HeaderMap) -> ForwardedHeader {
        self.header.unwrap_or_else(|| {
            if headers.contains_key(X_FORWARDED_FOR) || !headers.contains_key(FORWARDED) {
                ForwardedHeader::XForwardedFor
            } else {
                ForwardedHeader::Forwarded
            }
        })
    }
}

fn texts<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    // What is not text is a hop that says nothing.
    headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().unwrap_or_default())
}

/// An address, with or without a port; IPv6 in brackets or bare.
fn address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let bare = hop
        .strip_prefix('[')
        .and_then(|hop| hop.strip_suffix(']'))
        .unwrap_or(hop);
    bare.parse()
        .or_else(|_| hop.parse::<SocketAddr>().map(|hop| hop.ip()))
        .ok()
}

/// The `for` of every element (RFC 7239 section 4); `None` for one that names no address.
fn forwarded(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    texts(headers, FORWARDED)
        .flat_map(|value| split(value, b','))
        .map(|element| parameter(element, "for").and_then(address))
        .collect()
}

fn last_element(headers: &HeaderMap) -> Option<&str> {
    texts(headers, FORWARDED)
        .flat_map(|value| split(value, b','))
        .last()
}

/// The value of a parameter of an element, without its quotes. Nothing that we look for needs a backslash, so a value with one
/// is none.
fn parameter<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = split(element, b';')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))?;
    let value = value.trim();
    let value = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value);
    (!value.contains(['"', '\\'])).then_some(value)
}

/// Splits at separators outside quotes.
fn split(value: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let value = rest?;
        let (mut is_quoted, mut is_escaped) = (false, false);
        let end = value.bytes().position(|byte| {
            let ends = byte == separator && !is_quoted;
            is_quoted ^= byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && is_quoted && !is_escaped;
            ends
        });
        // The separators are ASCII, so both sides are text.
        rest = end.map(|end| &value[end + 1..]);
        Some(&value[..end.unwrap_or(value.len())])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(rows: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in rows {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn proxies(header: Option<ForwardedHeader>) -> Proxies {
        let listed = ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"];
        Proxies::new(listed.map(|net| net.parse().unwrap()).to_vec(), header)
    }

    /// Who connects, the headers, and who that is.
    type Row = (
        &'static str,
        &'static [(&'static str, &'static str)],
        Option<&'static str>,
    );

    #[test]
    fn the_last_hop_that_is_no_listed_proxy_is_the_client() {
        const XFF: &str = X_FORWARDED_FOR;
        let rows: &[Row] = &[
            // Only listed proxies are believed.
            ("198.51.100.1", &[], Some("198.51.100.1")),
            (
                "198.51.100.1",
                &[(XFF, "203.0.113.9")],
                Some("198.51.100.1"),
            ),
            (
                "198.51.100.1",
                &[(FORWARDED, "for=203.0.113.9")],
                Some("198.51.100.1"),
            ),
            ("10.1.2.3", &[(XFF, "203.0.113.9")], Some("203.0.113.9")),
            (
                "::ffff:10.1.2.3",
                &[(XFF, "203.0.113.9")],
                Some("203.0.113.9"),
            ),
            ("2001:db8::1", &[(XFF, "203.0.113.9")], Some("203.0.113.9")),
            // What a client wrote itself stands before what the proxies added.
            (
                "10.1.2.3",
                &[(XFF, "127.0.0.1, 203.0.113.9")],
                Some("203.0.113.9"),
            ),
            (
                "10.1.2.3",
                &[(XFF, "127.0.0.1"), (XFF, "203.0.113.9")],
                Some("203.0.113.9"),
            ),
            (
                "10.1.2.3",
                &[(XFF, "203.0.113.9, 192.0.2.7, 10.9.9.9")],
                Some("203.0.113.9"),
            ),
            (
                "10.1.2.3",
                &[(XFF, "203.0.113.9:4711")],
                Some("203.0.113.9"),
            ),
            (
                "10.1.2.3",
                &[(XFF, "[2001:db9::5]:4711")],
                Some("2001:db9::5"),
            ),
            ("10.1.2.3", &[(XFF, "2001:db9::5")], Some("2001:db9::5")),
            // A proxy that does not say, or says nonsense, is not taken for its client, nor is a hop before that.
            ("10.1.2.3", &[], None),
            ("10.1.2.3", &[(XFF, "10.4.4.4")], None),
            ("10.1.2.3", &[(XFF, "203.0.113.9, unknown")], None),
            ("10.1.2.3", &[(XFF, "203.0.113.9, ")], None),
            ("10.1.2.3", &[(XFF, "203.0.113.9, é")], None),
            // RFC 7239 section 4.
            (
                "10.1.2.3",
                &[(FORWARDED, "for=203.0.113.9")],
                Some("203.0.113.9"),
            ),
            (
                "10.1.2.3",
                &[(FORWARDED, "For=\"[2001:db9:cafe::17]:4711\"")],
                Some("2001:db9:cafe::17"),
            ),
            (
                "10.1.2.3",
                &[(FORWARDED, "for=203.0.113.9;proto=http;by=203.0.113.43")],
                Some("203.0.113.9"),
            ),
            (
                "10.1.2.3",
                &[(FORWARDED, "proto=http ; FOR = \"203.0.113.9:80\"")],
                Some("203.0.113.9"),
            ),
            (
                "10.1.2.3",
                &[(FORWARDED, "for=127.0.0.1, for=203.0.113.9,for=10.2.2.2")],
                Some("203.0.113.9"),
            ),
            (
                "10.1.2.3",
                &[(FORWARDED, "for=127.0.0.1"), (FORWARDED, "for=203.0.113.9")],
                Some("203.0.113.9"),
            ),
            (
                "10.1.2.3",
                &[(FORWARDED, "for=\"a, for=127.0.0.1\", for=203.0.113.9")],
                Some("203.0.113.9"),
            ),
            (
                "10.1.2.3",
                &[(FORWARDED, "for=203.0.113.9, for=unknown")],
                None,
            ),
            (
                "10.1.2.3",
                &[(FORWARDED, "for=203.0.113.9, for=_hidden")],
                None,
            ),
            (
                "10.1.2.3",
                &[(FORWARDED, "for=203.0.113.9, proto=https")],
                None,
            ),
            (
                "10.1.2.3",
                &[(FORWARDED, "for=203.0.113.9, for=\"\\127.0.0.1\"")],
                None,
            ),
            (
                "10.1.2.3",
                &[(FORWARDED, "for=203.0.113.9, for=\"127.0.0.1")],
                None,
            ),
            // Both: the one that a proxy is more likely to have written itself.
            (
                "10.1.2.3",
                &[(FORWARDED, "for=127.0.0.1"), (XFF, "203.0.113.9")],
                Some("203.0.113.9"),
            ),
        ];
        for (peer, said, client) in rows {
            let expected = client.map(|client| client.parse::<IpAddr>().unwrap());
            let found = proxies(None).client(peer.parse().unwrap(), &headers(said));
            assert_eq!(found, expected, "{peer} {said:?}");
        }
    }

    #[test]
    fn the_header_of_choice_is_the_only_one_read() {
        let both = headers(&[
            ("forwarded", "for=203.0.113.1;host=a.example"),
            ("x-forwarded-for", "203.0.113.2"),
            ("x-forwarded-host", "b.example"),
            ("host", "c.example"),
        ]);
        let peer = "10.0.0.1".parse().unwrap();
        let rows = [
            (Some(ForwardedHeader::Forwarded), "203.0.113.1", "a.example"),
            (
                Some(ForwardedHeader::XForwardedFor),
                "203.0.113.2",
                "b.example",
            ),
            (None, "203.0.113.2", "b.example"),
        ];
        for (header, client, host) in rows {
            let proxies = proxies(header);
            assert_eq!(proxies.client(peer, &both), Some(client.parse().unwrap()));
            assert_eq!(proxies.host(peer, &both), Some(host));
        }
        let stranger = "198.51.100.1".parse().unwrap();
        assert_eq!(proxies(None).host(stranger, &both), Some("c.example"));
    }
}

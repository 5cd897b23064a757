//! What is wrong with handshakes, and the status and code that each gets.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{APP, KEY, shake::Shake};
use crate::harness::{jwt, token_for};

/// What is tried, what it gets: a status and a code. An empty code is for what is refused before it is a request.
pub type Row = (&'static str, Shake, u16, &'static str);

pub fn refused_lines_and_headers(invite: &str) -> Vec<Row> {
    let good = || Shake::new(&format!("invite={invite}"));
    let long = |length| "x".repeat(length);
    let mut crowded = good();
    for at in 0..150 {
        crowded = crowded.with(&format!("X-{at}"), "y");
    }
    vec![
        ("POST", good().method("POST"), 405, "method_not_allowed"),
        ("PUT", good().method("PUT"), 405, "method_not_allowed"),
        ("DELETE", good().method("DELETE"), 405, "method_not_allowed"),
        ("HEAD", good().method("HEAD"), 405, ""),
        (
            "no method there is",
            good().method("GETT"),
            405,
            "method_not_allowed",
        ),
        ("no method at all", good().method(""), 400, ""),
        (
            "HTTP/1.0",
            good().line(&format!("GET /v1/connect?invite={invite} HTTP/1.0")),
            400,
            "bad_request",
        ),
        ("HTTP/3.7", good().line("GET /v1/connect HTTP/3.7"), 400, ""),
        ("HTTP/2 preface", good().line("PRI * HTTP/2.0"), 400, ""),
        ("no version", good().line("GET /v1/connect"), 400, ""),
        (
            "blanks in the address",
            good().line("GET /v1/connect?invite=a b HTTP/1.1"),
            400,
            "",
        ),
        (
            "control characters in the address",
            good().line("GET /v1/connect?invite=\u{1} HTTP/1.1"),
            400,
            "",
        ),
        (
            "another address",
            good().line("GET /v1/connect/../admin HTTP/1.1"),
            404,
            "not_found",
        ),
        (
            "an encoded slash",
            good().line("GET /v1%2fconnect HTTP/1.1"),
            404,
            "not_found",
        ),
        (
            "a long address",
            Shake::new(&format!("name={}", long(17 * 1024))),
            414,
            "uri_too_long",
        ),
        (
            "an endless address",
            Shake::new(&format!("name={}", long(70 * 1024))),
            414,
            "",
        ),
        (
            "large headers",
            good().with("Cookie", &long(25 * 1024)),
            431,
            "headers_too_large",
        ),
        (
            "endless headers",
            good().with("Cookie", &long(200 * 1024)),
            431,
            "",
        ),
        ("many headers", crowded, 431, ""),
        ("a header without a name", good().with("", "x"), 400, ""),
        (
            "a blank in a header's name",
            good().with("X Y", "x"),
            400,
            "",
        ),
        ("a zero in a header", good().with("X", "a\0b"), 400, ""),
        ("a folded header", good().with("X", "a\r\n b"), 400, ""),
        ("no Host", good().without("Host"), 400, "bad_request"),
        ("two Hosts", good().with("Host", "HOST"), 400, "bad_request"),
        (
            "two lengths",
            good()
                .with("Content-Length", "1")
                .with("Content-Length", "2"),
            400,
            "",
        ),
        (
            "a length that is none",
            good().with("Content-Length", "-1"),
            400,
            "",
        ),
        (
            "an unknown transfer",
            good().with("Transfer-Encoding", "xyz"),
            400,
            "",
        ),
    ]
}

pub fn refused_upgrades(invite: &str) -> Vec<Row> {
    let good = || Shake::new(&format!("invite={invite}"));
    let version = "Sec-WebSocket-Version";
    let key = "Sec-WebSocket-Key";
    let protocol = "Sec-WebSocket-Protocol";
    vec![
        // RFC 6455 section 4.2.1.
        (
            "no Upgrade",
            good().without("Upgrade"),
            426,
            "upgrade_missing",
        ),
        (
            "another Upgrade",
            good().set("Upgrade", "h2c"),
            426,
            "upgrade_missing",
        ),
        (
            "nearly the Upgrade",
            good().set("Upgrade", "websocket2"),
            426,
            "upgrade_missing",
        ),
        (
            "no Connection",
            good().without("Connection"),
            400,
            "bad_request",
        ),
        (
            "another Connection",
            good().set("Connection", "keep-alive"),
            400,
            "bad_request",
        ),
        ("no version", good().without(version), 400, "bad_request"),
        (
            "an old version",
            good().set(version, "8"),
            400,
            "bad_request",
        ),
        (
            "two versions in one",
            good().set(version, "13, 8"),
            400,
            "bad_request",
        ),
        (
            "two versions",
            good().with(version, "13"),
            400,
            "bad_request",
        ),
        (
            "a negative version",
            good().set(version, "-13"),
            400,
            "bad_request",
        ),
        ("no key", good().without(key), 400, "bad_request"),
        ("an empty key", good().set(key, ""), 400, "bad_request"),
        (
            "a key that is not base64",
            good().set(key, "not base64 at all!!!!!!!"),
            400,
            "bad_request",
        ),
        (
            "a key of 15 bytes",
            good().set(key, "AAAAAAAAAAAAAAAAAAAA"),
            400,
            "bad_request",
        ),
        (
            "a key of 17 bytes",
            good().set(key, "AAAAAAAAAAAAAAAAAAAAAAA="),
            400,
            "bad_request",
        ),
        (
            "a key without padding",
            good().set(key, "dGhlIHNhbXBsZSBub25jZQ"),
            400,
            "bad_request",
        ),
        (
            "two keys",
            good().with(key, "dGhlIHNhbXBsZSBub25jZQ=="),
            400,
            "bad_request",
        ),
        (
            "other subprotocols",
            good().with(protocol, "chat, mqtt"),
            400,
            "unsupported_protocol",
        ),
        (
            "a later subprotocol",
            good().with(protocol, "rollcall.v2"),
            400,
            "unsupported_protocol",
        ),
        (
            "a subprotocol in capitals",
            good().with(protocol, "ROLLCALL.V1"),
            400,
            "unsupported_protocol",
        ),
        (
            "a subprotocol beyond ASCII",
            good().with(protocol, "rollcall.v1, é"),
            400,
            "bad_request",
        ),
    ]
}

pub fn refused_credentials(invite: &str) -> Vec<Row> {
    let good = || Shake::new(&format!("invite={invite}"));
    let query = |query: String| Shake::new(&query);
    let protocol = "Sec-WebSocket-Protocol";
    let token = token_for("ada", "room");
    let exp = 4_102_444_800_i64;
    let unsigned = |header: Value, claims: Value| {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", part(header), part(claims))
    };
    let claims = json!({"sub": "ada", "room": "room", "exp": exp});
    let long = "x".repeat(8 * 1024 + 1);
    let (invalid, bad) = ("credential_invalid", "bad_request");
    let with_invite = |more: &str| query(format!("invite={invite}&{more}"));
    vec![
        ("nothing", query(String::new()), 401, "credential_missing"),
        (
            "two kinds",
            query(format!("invite={invite}&token={token}")),
            400,
            bad,
        ),
        (
            "two invites",
            query(format!("invite={invite}&invite={invite}")),
            400,
            bad,
        ),
        (
            "a query and a header",
            good().with("Authorization", "Bearer x"),
            400,
            bad,
        ),
        (
            "a query and a subprotocol",
            good().with(protocol, "rollcall.v1, rollcall.resume.x"),
            400,
            bad,
        ),
        (
            "two subprotocols",
            Shake::new("").with(
                protocol,
                "rollcall.v1, rollcall.bearer.a, rollcall.bearer.b",
            ),
            400,
            bad,
        ),
        (
            "an empty subprotocol",
            Shake::new("").with(protocol, "rollcall.v1, rollcall.bearer."),
            400,
            bad,
        ),
        ("an empty invite", query("invite=".into()), 400, bad),
        (
            "an endless invite",
            query(format!("invite={long}")),
            400,
            bad,
        ),
        (
            "an invite that is none",
            query("invite=AAAAAAAAAAAAAAAAAAAAAA".into()),
            404,
            "invite_not_found",
        ),
        (
            "SQL",
            query("invite=%27%20OR%201%3D1%20--".into()),
            404,
            "invite_not_found",
        ),
        (
            "zeroes",
            query("invite=%00%00".into()),
            404,
            "invite_not_found",
        ),
        (
            "not UTF-8",
            query("invite=%ff%fe".into()),
            404,
            "invite_not_found",
        ),
        (
            "half an escape",
            query("invite=%f".into()),
            404,
            "invite_not_found",
        ),
        (
            "a resume token that is none",
            query("resume=AAAA".into()),
            401,
            invalid,
        ),
        (
            "a forged resume token",
            query(format!("resume={}", URL_SAFE_NO_PAD.encode([1; 81]))),
            401,
            invalid,
        ),
        (
            "a token that is none",
            query("token=nonsense".into()),
            401,
            invalid,
        ),
        (
            "an unsigned token",
            query(format!(
                "token={}",
                unsigned(json!({"alg": "none"}), claims.clone())
            )),
            401,
            invalid,
        ),
        (
            "a token without a signature",
            query(format!(
                "token={}",
                unsigned(json!({"alg": "HS256"}), claims.clone())
            )),
            401,
            invalid,
        ),
        (
            "a token of another algorithm",
            query(format!(
                "token={}",
                unsigned(json!({"alg": "HS512"}), claims)
            )),
            401,
            invalid,
        ),
        (
            "a token that never ends",
            query(format!(
                "token={}",
                jwt(&json!({"sub": "ada", "room": "room"}))
            )),
            401,
            invalid,
        ),
        (
            "a token that has ended",
            query(format!(
                "token={}",
                jwt(&json!({"sub": "ada", "room": "room", "exp": 1}))
            )),
            401,
            "credential_expired",
        ),
        (
            "a token of nobody",
            query(format!(
                "token={}",
                jwt(&json!({"room": "room", "exp": exp}))
            )),
            401,
            invalid,
        ),
        (
            "a token for another room",
            query(format!("token={token}&room=other")),
            403,
            "room_forbidden",
        ),
        (
            "a token for a room that is not there",
            query(format!("token={}", token_for("ada", "nowhere"))),
            404,
            "room_not_found",
        ),
        (
            "Basic",
            Shake::new("").with("Authorization", "Basic YTpi"),
            400,
            bad,
        ),
        (
            "Bearer alone",
            Shake::new("").with("Authorization", "Bearer"),
            400,
            bad,
        ),
        (
            "two Authorizations",
            Shake::new("")
                .with("Authorization", &format!("Bearer {token}"))
                .with("Authorization", "Bearer x"),
            400,
            bad,
        ),
        (
            "the API key",
            Shake::new("").with("Authorization", &format!("Bearer {KEY}")),
            401,
            invalid,
        ),
        (
            "a long name",
            with_invite(&format!("name={}", "n".repeat(65))),
            400,
            bad,
        ),
        ("an empty name", with_invite("name="), 400, bad),
        (
            "a name with a line break",
            with_invite("name=a%0Ab"),
            400,
            bad,
        ),
        ("two names", with_invite("name=a&name=b"), 400, bad),
        ("a short client", with_invite("client=short"), 400, bad),
        (
            "a long client",
            with_invite(&format!("client={}", "c".repeat(65))),
            400,
            bad,
        ),
        (
            "a room that is none",
            query(format!("token={token}&room=..%2f..%2fetc")),
            400,
            bad,
        ),
    ]
}

pub fn refused_origins(invite: &str) -> Vec<Row> {
    let from = |origin: &str| Shake::new(&format!("invite={invite}")).set("Origin", origin);
    let forbidden = |what, shake| (what, shake, 403, "origin_forbidden");
    vec![
        forbidden("another site", from("https://evil.example")),
        forbidden("no site", from("null")),
        forbidden("an empty one", from("")),
        forbidden("without TLS", from("http://app.example")),
        forbidden("another port", from("https://app.example:8443")),
        forbidden("a longer name", from("https://app.example.evil")),
        forbidden("a longer beginning", from("https://evilapp.example")),
        forbidden("a user", from("https://app.example@evil.example")),
        forbidden("a path", from("https://app.example/")),
        forbidden("a dot", from("https://app.example.")),
        forbidden("a subdomain's own", from("https://sub.example")),
        forbidden("nearly a subdomain", from("https://evilsub.example")),
        forbidden("two", from("https://evil.example").with("Origin", APP)),
        forbidden(
            "the second of two",
            from(APP).with("Origin", "https://evil.example"),
        ),
        forbidden(
            "none, with an invite",
            Shake::new(&format!("invite={invite}")),
        ),
        forbidden("our own, another scheme", from("ftp://HOST")),
    ]
}

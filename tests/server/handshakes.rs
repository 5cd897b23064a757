//! Handshakes as an attacker writes them: bytes on a real socket, and the status and code of each.

use std::net::SocketAddr;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rollcall::config::Secret;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::harness::{SOON, TestServer, jwt, request, token_for};

const KEY: &str = "an API key of the tests";
const APP: &str = "https://app.example";

/// Writes and reads until the server has nothing more to say. Answers the status, and the problem's code if there is one.
async fn exchange(addr: SocketAddr, bytes: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // Who is refused early may be cut off while still talking.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let is_head = bytes.starts_with(b"HEAD ");
    let read = async {
        while !is_whole(&answer, is_head) {
            match stream.read_buf(&mut answer).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
    };
    if timeout(SOON, read).await.is_err() {
        return (0, "neither answer nor end".to_owned());
    }
    let text = String::from_utf8_lossy(&answer);
    let Some(status) = text.split(' ').nth(1) else {
        return (0, String::new());
    };
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let code = body["code"].as_str().unwrap_or_default();
    (status.parse().unwrap(), code.to_owned())
}

/// Whether the answer has its head, and as much body as it says unless only the head was asked for.
fn is_whole(answer: &[u8], is_head: bool) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let head = head.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    is_head || length.is_none_or(|length| body.len() >= length.parse().unwrap())
}

/// A handshake that is right, to be spoilt.
#[derive(Clone)]
struct Shake {
    line: String,
    headers: Vec<(String, String)>,
}

impl Shake {
    fn new(query: &str) -> Self {
        let headers = [
            ("Host", "HOST"),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self {
            line: format!("GET /v1/connect?{query} HTTP/1.1"),
            headers: headers.map(owned).to_vec(),
        }
    }

    fn line(mut self, line: &str) -> Self {
        self.line = line.to_owned();
        self
    }

    fn method(mut self, method: &str) -> Self {
        self.line = self.line.replacen("GET", method, 1);
        self
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(header, _)| header != name);
        self
    }

    fn set(self, name: &str, value: &str) -> Self {
        self.without(name).with(name, value)
    }

    fn bytes(&self, addr: SocketAddr) -> Vec<u8> {
        let host = addr.to_string();
        let mut text = format!("{}\r\n", self.line);
        for (name, value) in &self.headers {
            text += &format!("{name}: {}\r\n", value.replace("HOST", &host));
        }
        (text + "\r\n").into_bytes()
    }
}

/// What is tried, what it gets: a status and a code. An empty code is for what is refused before it is a request.
type Row = (&'static str, Shake, u16, &'static str);

fn refused_lines_and_headers(invite: &str) -> Vec<Row> {
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

fn refused_upgrades(invite: &str) -> Vec<Row> {
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

fn refused_credentials(invite: &str) -> Vec<Row> {
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

fn refused_origins(invite: &str) -> Vec<Row> {
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

/// Nobody came in, and nothing was written (rule R2).
async fn assert_untouched(server: &TestServer) {
    assert_eq!(
        server.sql("SELECT count(*) FROM participants").await,
        [[Some("0".to_owned())]]
    );
    assert_eq!(
        server.sql("SELECT sum(uses) FROM invites").await,
        [[Some("0".to_owned())]]
    );
    assert_eq!(server.server.hub().seats(), 0);
}

async fn check(server: &TestServer, rows: &[Row]) {
    let mut wrong = Vec::new();
    for (what, shake, status, code) in rows {
        let (got, problem) = exchange(server.addr, &shake.bytes(server.addr)).await;
        if (got, problem.as_str()) != (*status, *code) {
            wrong.push(format!("{what}: {got} {problem}, not {status} {code}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn hostile_handshakes_are_refused_each_with_its_status_and_code() {
    let server = TestServer::start().await;
    server.room("room").await;
    let invite = server.invite("room").await;
    let rows = [
        refused_lines_and_headers(&invite),
        refused_upgrades(&invite),
        refused_credentials(&invite),
    ]
    .concat();
    assert!(rows.len() >= 60);
    check(&server, &rows).await;
    // What no HTTP server can make sense of is dropped, or answered by the bare word for it.
    let rows: [(&str, &[u8], u16); 6] = [
        (
            "a TLS greeting",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            400,
        ),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n", 400),
        (
            "a WebSocket frame",
            b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
            400,
        ),
        ("random bytes", &[0xa7; 300], 400),
        ("a redis command", b"*1\r\n$4\r\nPING\r\n", 400),
        ("nothing but line breaks", &[b'\n'; 70_000], 431),
    ];
    for (what, bytes, status) in rows {
        let got = exchange(server.addr, bytes).await;
        assert_eq!(got, (status, String::new()), "{what}");
    }
    assert_untouched(&server).await;
    // And the same without anything spoilt.
    let good = Shake::new(&format!("invite={invite}"));
    let odd = [
        good.clone(),
        good.clone()
            .set("Upgrade", "WebSocket")
            .set("Connection", "keep-alive, UPGRADE"),
        good.clone().set("Upgrade", "h2c, websocket"),
        good.clone().with(
            "Sec-WebSocket-Extensions",
            "permessage-deflate; client_max_window_bits",
        ),
        good.clone()
            .with("Sec-WebSocket-Protocol", "other, rollcall.v1"),
        good.with("Origin", "http://HOST"),
    ];
    for shake in odd {
        assert_eq!(
            exchange(server.addr, &shake.bytes(server.addr)).await.0,
            101
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn pages_of_other_origins_stay_outside() {
    let server = TestServer::with(|config| {
        config.api_keys = vec![Secret::new(KEY)];
        config.allowed_origins = vec![APP.to_owned(), "https://*.sub.example".to_owned()];
    })
    .await;
    let key = format!("Bearer {KEY}");
    let post = async |path: &str, body| {
        let headers = [("authorization", key.as_str())];
        request(server.addr, hyper::Method::POST, path, &headers, Some(body))
            .await
            .body
    };
    post("/v1/rooms", json!({"id": "room"})).await;
    let made = post("/v1/rooms/room/invites", json!({})).await;
    let invite = made["token"].as_str().unwrap();
    check(&server, &refused_origins(invite)).await;
    assert_untouched(&server).await;
    let query = format!("invite={invite}");
    let token = format!("token={}", token_for("ada", "room"));
    for shake in [
        Shake::new(&query).with("Origin", APP),
        Shake::new(&query).with("Origin", "https://a.sub.example"),
        Shake::new(&query).with("Origin", "http://HOST"),
        Shake::new(&token),
    ] {
        assert_eq!(
            exchange(server.addr, &shake.bytes(server.addr)).await.0,
            101
        );
    }
    // A page's question to its own server has no Origin, and is known by what the browser says of it.
    let plain = Shake::new(&query)
        .without("Upgrade")
        .without("Connection")
        .without("Sec-WebSocket-Key");
    let asked = async |shake: Shake| exchange(server.addr, &shake.bytes(server.addr)).await.0;
    assert_eq!(asked(plain.clone()).await, 403);
    assert_eq!(
        asked(plain.clone().with("Sec-Fetch-Site", "same-origin")).await,
        200
    );
    assert_eq!(asked(plain.with("Sec-Fetch-Site", "cross-site")).await, 403);
    server.stop().await;
}

#[tokio::test]
async fn dev_mode_is_for_this_machines_own_pages_only() {
    let server = TestServer::start().await;
    let json = "application/json";
    let call = |line: &str| {
        Shake {
            line: format!("{line} HTTP/1.1"),
            headers: Vec::new(),
        }
        .with("Host", "HOST")
    };
    let room = || call("POST /v1/rooms").with("Content-Length", "0");
    let host = |host: &str| call("GET /v1/rooms").set("Host", host);
    let (host_forbidden, origin_forbidden) = ("host_forbidden", "origin_forbidden");
    let rows: Vec<Row> = vec![
        ("rebound DNS", host("evil.example"), 403, host_forbidden),
        ("its port", host("evil.example:8080"), 403, host_forbidden),
        (
            "nearly localhost",
            host("localhost.evil.example"),
            403,
            host_forbidden,
        ),
        (
            "nearly an address",
            host("127.0.0.1.evil.example"),
            403,
            host_forbidden,
        ),
        (
            "a user",
            host("localhost@evil.example"),
            403,
            host_forbidden,
        ),
        (
            "this machine from outside",
            host("192.168.0.7"),
            403,
            host_forbidden,
        ),
        ("every address", host("0.0.0.0"), 403, host_forbidden),
        ("an empty Host", host(""), 403, host_forbidden),
        (
            "another page",
            room().with("Origin", "https://evil.example"),
            403,
            origin_forbidden,
        ),
        (
            "a page on another port",
            room().with("Origin", "http://localhost:3000"),
            403,
            origin_forbidden,
        ),
        (
            "a sandboxed page",
            room().with("Origin", "null"),
            403,
            origin_forbidden,
        ),
        (
            "an image on another page",
            call("GET /v1/rooms").with("Sec-Fetch-Site", "cross-site"),
            403,
            origin_forbidden,
        ),
        (
            "a form",
            room()
                .set("Content-Length", "2")
                .with("Content-Type", "text/plain"),
            415,
            "unsupported_media_type",
        ),
        (
            "a form of a file",
            room()
                .set("Content-Length", "2")
                .with("Content-Type", "multipart/form-data; boundary=x"),
            415,
            "unsupported_media_type",
        ),
        (
            "no type",
            room().set("Content-Length", "2"),
            415,
            "unsupported_media_type",
        ),
        (
            "a WebSocket from another page",
            Shake::new("invite=x").with("Origin", "http://localhost:3000"),
            403,
            origin_forbidden,
        ),
    ];
    check(&server, &rows).await;
    assert_eq!(
        server.sql("SELECT count(*) FROM rooms").await,
        [[Some("0".to_owned())]]
    );
    for host in [
        "localhost",
        "LocalHost:1",
        "127.0.0.1",
        "127.8.8.8:99",
        "[::1]",
        "[::1]:8080",
    ] {
        let (status, _) = exchange(
            server.addr,
            &call("GET /v1/rooms").set("Host", host).bytes(server.addr),
        )
        .await;
        assert_eq!(status, 200, "{host}");
    }
    let own = room()
        .with("Origin", "http://HOST")
        .with("Content-Type", json)
        .with("Sec-Fetch-Site", "same-origin");
    assert_eq!(exchange(server.addr, &own.bytes(server.addr)).await.0, 201);
    server.stop().await;
}

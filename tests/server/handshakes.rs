//! Handshakes as an attacker writes them: bytes on a real socket, and the status and code of each.

mod shake;
mod table;

use std::net::SocketAddr;

use rollcall::config::Secret;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use self::{
    shake::Shake,
    table::{
        Row, refused_credentials, refused_lines_and_headers, refused_origins, refused_upgrades,
    },
};
use crate::harness::{SOON, TestServer, request, token_for};

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

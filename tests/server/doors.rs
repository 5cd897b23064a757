//! How many may come, how often, and from where: each limit with its code, its wait and its metric.

use std::net::SocketAddr;

use hyper::Method;
use rollcall::config::Secret;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::harness::{Answer, Client, SOON, TestServer, jwt, open, raw, request, token_for};

/// How often a limit was met, by its own account.
async fn limited(server: &TestServer, limit: &str) -> u64 {
    let metrics = server.get("/metrics").await;
    let text = metrics.body.as_str().unwrap().to_owned();
    let line = format!("rollcall_limited_total{{limit=\"{limit}\"}} ");
    let count = text.lines().find_map(|metric| metric.strip_prefix(&line));
    count.map_or(0, |count| count.parse().unwrap())
}

/// Tries until what was given up is free again.
async fn eventually(server: &TestServer, query: &str) -> Client {
    let tries = async {
        loop {
            if let Ok(client) = server.try_connect(query).await {
                return client;
            }
        }
    };
    timeout(SOON, tries).await.expect("a place becomes free")
}

fn assert_turned_away(refusal: &Answer, status: u16, code: &str) {
    assert_eq!(
        (refusal.status, refusal.code()),
        (status, code),
        "{}",
        refusal.body
    );
    assert!(refusal.body["retry_after_ms"].as_u64().unwrap() > 0);
    assert!(refusal.headers.contains_key("retry-after"));
}

/// Asks for the verdict from another address of this machine.
async fn ask_from(local: [u8; 4], server: &TestServer, query: &str) -> u16 {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((local, 0))).unwrap();
    let mut stream = socket.connect(server.addr).await.unwrap();
    let head = format!(
        "GET /v1/connect?{query} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        server.addr
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer[9..12].parse().unwrap()
}

#[tokio::test]
async fn connections_are_limited_in_all_and_http_goes_on() {
    let server = TestServer::with(|config| config.limits.max_connections = Some(2)).await;
    server.room("room").await;
    let query = |name| format!("token={}", token_for(name, "room"));
    let ada = server.connect(&query("ada")).await;
    let _grace = server.connect(&query("grace")).await;
    let refusal = server.try_connect(&query("joan")).await.err().unwrap();
    assert_turned_away(&refusal, 503, "overloaded");
    assert_eq!(limited(&server, "connections").await, 1);
    // A refusal changes nothing (rule R2), and asking is not connecting.
    assert_eq!(
        server
            .get(&format!("/v1/connect?{}", query("joan")))
            .await
            .status,
        200
    );
    let people = server.get("/v1/rooms/room/participants").await;
    assert_eq!(people.body["items"].as_array().unwrap().len(), 2);
    ada.leave().await;
    eventually(&server, &query("joan")).await;
    server.stop().await;
}

#[tokio::test]
async fn connections_are_limited_by_address() {
    let server = TestServer::with(|config| config.limits.connections_per_address = Some(2)).await;
    server.room("room").await;
    let query = |name| format!("token={}", token_for(name, "room"));
    let first = server.connect(&query("ada")).await;
    let _second = server.connect(&query("grace")).await;
    let refusal = server.try_connect(&query("joan")).await.err().unwrap();
    assert_turned_away(&refusal, 429, "rate_limited");
    assert_eq!(limited(&server, "connections_per_address").await, 1);
    first.drop_dead();
    eventually(&server, &query("joan")).await;
    // Sockets that say nothing are counted too: the third is closed without a word.
    let quiet = [
        TcpStream::connect(server.addr).await.unwrap(),
        TcpStream::connect(server.addr).await.unwrap(),
    ];
    let mut third = TcpStream::connect(server.addr).await.unwrap();
    let closed = timeout(SOON, third.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    assert_eq!(ask_from([127, 0, 0, 2], &server, &query("joan")).await, 200);
    drop(quiet);
    server.stop().await;
}

#[tokio::test]
async fn behind_a_listed_proxy_everybody_is_counted_alone() {
    let server = TestServer::with(|config| {
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.limits.connections_per_address = Some(1);
    })
    .await;
    server.room("room").await;
    let query = |name| format!("token={}", token_for(name, "room"));
    let rows = [
        ("ada", "x-forwarded-for", "2001:db8:1:2::1", true),
        ("grace", "x-forwarded-for", "2001:db8:1:2:ffff::9", false),
        ("grace", "x-forwarded-for", "2001:db8:1:3::9", true),
        ("joan", "forwarded", "for=\"[2001:db8:1:3::1]:4711\"", false),
        ("joan", "forwarded", "for=192.0.2.1;proto=https", true),
        // Who writes the header himself stands before what the proxy adds.
        ("mary", "x-forwarded-for", "198.51.100.7, 192.0.2.1", false),
        // A proxy that does not say for whom it speaks is not one client.
        ("mary", "x-other", "", true),
        ("edith", "x-other", "", true),
    ];
    let mut open_sockets = Vec::new();
    for (name, header, value, is_admitted) in rows {
        match open(server.addr, &query(name), &[(header, value)]).await {
            Ok(socket) => {
                assert!(is_admitted, "{name} {value}");
                open_sockets.push(socket);
            }
            Err(refusal) => {
                assert!(!is_admitted, "{name} {value}: {}", refusal.body);
                assert_turned_away(&refusal, 429, "rate_limited");
            }
        }
    }
    drop(open_sockets);
    server.stop().await;
}

#[tokio::test]
async fn a_page_is_same_origin_behind_a_proxy_that_ends_tls() {
    let listed =
        TestServer::with(|config| config.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()])
            .await;
    let unlisted = TestServer::start().await;
    type Headers = &'static [(&'static str, &'static str)];
    let rows: [(Headers, bool, bool); 3] = [
        // The proxy hands the Host on, as nginx is told to.
        (
            &[("host", "localhost"), ("origin", "https://localhost")],
            true,
            true,
        ),
        // It puts its own, and says what it was.
        (
            &[
                ("host", "127.0.0.1:8080"),
                ("x-forwarded-host", "app.example"),
                ("origin", "https://app.example"),
            ],
            true,
            false,
        ),
        (
            &[
                ("host", "127.0.0.1:8080"),
                ("x-forwarded-host", "app.example"),
                ("origin", "https://evil.example"),
            ],
            false,
            false,
        ),
    ];
    for (headers, is_listed_fine, is_unlisted_fine) in rows {
        for (server, is_fine) in [(&listed, is_listed_fine), (&unlisted, is_unlisted_fine)] {
            let mut text =
                String::from("GET /v1/connect?invite=none HTTP/1.1\r\nConnection: close\r\n");
            for (name, value) in headers {
                text += &format!("{name}: {value}\r\n");
            }
            let mut stream = TcpStream::connect(server.addr).await.unwrap();
            stream.write_all((text + "\r\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let code = if is_fine {
                "invite_not_found"
            } else {
                "origin_forbidden"
            };
            assert!(answer.contains(code), "{headers:?}: {answer}");
        }
    }
    listed.stop().await;
    unlisted.stop().await;
}

#[tokio::test]
async fn handshakes_are_limited_in_all() {
    let server =
        TestServer::with(|config| config.limits.total_handshakes_per_second = Some(1)).await;
    // The burst is two seconds' worth.
    for last in [1, 2] {
        assert_eq!(
            ask_from([127, 0, 0, last], &server, "invite=none").await,
            404
        );
    }
    assert_eq!(ask_from([127, 0, 0, 3], &server, "invite=none").await, 503);
    let refusal = open(server.addr, "invite=none", &[]).await.err().unwrap();
    assert_turned_away(&refusal, 503, "overloaded");
    assert_eq!(limited(&server, "total_handshakes").await, 2);
    server.stop().await;
}

#[tokio::test]
async fn who_brings_credentials_that_are_none_has_to_wait() {
    let server =
        TestServer::with(|config| config.limits.failed_credentials_per_minute = Some(4)).await;
    server.room("room").await;
    let good = format!("token={}", token_for("ada", "room"));
    let expired = format!(
        "token={}",
        jwt(&json!({"sub": "ada", "room": "room", "exp": 1}))
    );
    for (query, code) in [
        ("invite=none", "invite_not_found"),
        ("token=none", "credential_invalid"),
        ("resume=none", "credential_invalid"),
        // Whose token was good once does not guess.
        (&expired, "credential_expired"),
        (&expired, "credential_expired"),
        ("", "credential_missing"),
        ("invite=none", "invite_not_found"),
        ("invite=none", "invite_not_found"),
    ] {
        let refusal = open(server.addr, query, &[]).await.err().unwrap();
        assert_eq!(refusal.code(), code);
    }
    for query in ["invite=none", &good] {
        let refusal = open(server.addr, query, &[]).await.err().unwrap();
        assert_turned_away(&refusal, 429, "rate_limited");
        assert!(refusal.body["retry_after_ms"].as_u64().unwrap() <= 1_000);
    }
    assert_eq!(limited(&server, "failed_credentials").await, 2);
    assert_eq!(ask_from([127, 0, 0, 2], &server, &good).await, 200);
    server.stop().await;
}

#[tokio::test]
async fn who_guesses_api_keys_has_to_wait() {
    let key = "an API key of the tests";
    let server = TestServer::with(|config| {
        config.api_keys = vec![Secret::new(key)];
        config.limits.failed_credentials_per_minute = Some(2);
    })
    .await;
    let call = async |key: &str| {
        let bearer = format!("Bearer {key}");
        request(
            server.addr,
            Method::GET,
            "/v1/rooms",
            &[("authorization", &bearer)],
            None,
        )
        .await
    };
    assert_eq!(call(key).await.status, 200);
    for _ in 0..3 {
        assert_eq!(call("a guess").await.code(), "credential_invalid");
    }
    assert_turned_away(&call("a guess").await, 429, "rate_limited");
    // Were the right key let in meanwhile, the wait would not keep anybody from guessing.
    assert_turned_away(&call(key).await, 429, "rate_limited");
    server.stop().await;
}

#[tokio::test]
async fn bytes_are_limited_and_the_connection_lives() {
    let server = TestServer::with(|config| config.limits.bytes_per_second = Some(16 * 1024)).await;
    server.room("room").await;
    let mut ada = server
        .connect(&format!("token={}", token_for("ada", "room")))
        .await;
    // Twice a second's worth after quiet.
    let payload = "x".repeat(12 * 1024);
    for reference in 0..3 {
        ada.send(json!({"type": "broadcast", "event": "e", "payload": payload, "ref": reference}))
            .await;
    }
    let error = ada.next_of("error").await;
    assert_eq!(
        (&error["code"], &error["ref"]),
        (&json!("rate_limited"), &json!(2))
    );
    assert!(ada.quiet().await.is_empty());
    assert_eq!(limited(&server, "bytes").await, 1);
    ada.leave().await;
    server.stop().await;
}

#[tokio::test]
async fn messages_beyond_the_limit_are_counted() {
    let server = TestServer::with(|config| {
        config.limits.messages_per_second = 1;
        config.limits.message_burst = 2;
    })
    .await;
    server.room("room").await;
    let mut ada = server
        .connect(&format!("token={}", token_for("ada", "room")))
        .await;
    for _ in 0..3 {
        ada.send(json!({"type": "broadcast", "event": "e", "payload": 1}))
            .await;
    }
    assert_eq!(ada.next_of("error").await["code"], "rate_limited");
    assert_eq!(limited(&server, "messages").await, 1);
    ada.leave().await;
    server.stop().await;
}

#[tokio::test]
async fn live_rooms_are_limited_whether_they_are_there_or_would_be_made() {
    let server = TestServer::with(|config| config.limits.max_rooms = Some(1)).await;
    server.room("one").await;
    server.room("two").await;
    let ada = server
        .connect(&format!("token={}", token_for("ada", "one")))
        .await;
    // Who comes to a live room is not one room more.
    let grace = server
        .connect(&format!("token={}", token_for("grace", "one")))
        .await;
    let exp = server.clock.now().as_millis() / 1000 + 60;
    let makes = jwt(&json!({"sub": "joan", "room": "three", "create": true, "exp": exp}));
    for query in [
        format!("token={}", token_for("joan", "two")),
        format!("token={makes}"),
    ] {
        let refusal = server.try_connect(&query).await.err().unwrap();
        assert_turned_away(&refusal, 503, "overloaded");
        let asked = server.get(&format!("/v1/connect?{query}")).await;
        assert_turned_away(&asked, 503, "overloaded");
    }
    assert_eq!(
        server.get("/v1/rooms/three").await.status,
        404,
        "nothing was made (rule R2)"
    );
    assert!(limited(&server, "rooms").await > 0);
    ada.leave().await;
    grace.leave().await;
    eventually(&server, &format!("token={makes}")).await;
    server.stop().await;
}

#[tokio::test]
async fn rooms_that_say_nothing_have_the_configured_number_of_seats() {
    let server = TestServer::with(|config| config.room_max_participants = Some(1)).await;
    server.room("small").await;
    let made = server
        .post("/v1/rooms", json!({"id": "large", "max_participants": 2}))
        .await;
    assert_eq!(made.status, 201);
    let join = async |name: &str, room: &str| {
        server
            .try_connect(&format!("token={}", token_for(name, room)))
            .await
    };
    let _ada = join("ada", "small").await.ok().unwrap();
    let refusal = join("grace", "small").await.err().unwrap();
    assert_eq!((refusal.status, refusal.code()), (409, "room_full"));
    assert_eq!(limited(&server, "participants").await, 1);
    let _in_large = [
        join("ada", "large").await.ok().unwrap(),
        join("grace", "large").await.ok().unwrap(),
    ];
    assert_eq!(
        join("joan", "large").await.err().unwrap().code(),
        "room_full"
    );
    server.stop().await;
}

/// Reads until the server hangs up, and answers what it said.
async fn hung_up(stream: &mut TcpStream) -> String {
    let mut said = String::new();
    let end = timeout(SOON, stream.read_to_string(&mut said)).await;
    end.expect("an end").ok();
    said
}

#[tokio::test]
async fn who_is_slow_to_ask_is_hung_up_on() {
    let server = TestServer::with(|config| {
        config.limits.handshake_timeout = std::time::Duration::from_millis(50);
    })
    .await;
    server.room("room").await;
    let host = server.addr;
    let said_so_far: [(&str, String, &str); 5] = [
        ("nothing", String::new(), ""),
        ("half a head", "GET /v1/connect?inv".to_owned(), ""),
        (
            "a head without its end",
            format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: y\r\n"),
            "",
        ),
        // One whole request, then nothing more.
        (
            "one request",
            format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            "200 OK",
        ),
        (
            "half a body",
            format!(
                "POST /v1/rooms HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{{"
            ),
            "request_timeout",
        ),
    ];
    for (what, bytes, answer) in said_so_far {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let said = hung_up(&mut stream).await;
        assert!(
            said.contains(answer) && said.is_empty() == answer.is_empty(),
            "{what}: {said}"
        );
    }
    // Whoever is in is not hurried.
    let silent = raw(server.addr, &format!("token={}", token_for("ada", "room"))).await;
    let mut other = TcpStream::connect(server.addr).await.unwrap();
    hung_up(&mut other).await;
    assert_eq!(server.server.hub().seats(), 1);
    drop(silent);
    server.stop().await;
}

#[tokio::test]
async fn every_answer_says_how_little_it_may_be_used_for() {
    let server = TestServer::start().await;
    for path in [
        "/",
        "/join/x",
        "/demo/room.js",
        "/admin",
        "/admin/dashboard.js",
        "/healthz",
        "/v1/rooms",
        "/nowhere",
        "/v1/connect?invite=x",
        "/openapi.json",
        "/metrics",
    ] {
        let answer = server.get(path).await;
        let header = |name: &str| answer.headers[name].to_str().unwrap().to_owned();
        let policy = header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(
            header("cross-origin-opener-policy"),
            "same-origin",
            "{path}"
        );
        assert_eq!(
            header("cross-origin-resource-policy"),
            "same-origin",
            "{path}"
        );
        assert!(
            !answer.headers.contains_key("strict-transport-security"),
            "{path}"
        );
    }
    server.stop().await;
}

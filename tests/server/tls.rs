//! TLS without a proxy: who is let in, what is agreed on, and a certificate renewed under way.

use std::{path::Path, sync::Arc};

use futures::{SinkExt, StreamExt};
use rcgen::{CertifiedKey, KeyPair, SerialNumber};
use rollcall::tls::TlsFiles;
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest},
};

use crate::harness::{SOON, TestServer, request, token_for};

/// A certificate of one's own for localhost, with this serial number, in the two files of the server.
fn certify(dir: &Path, serial: u64) -> (TlsFiles, CertificateDer<'static>) {
    let signing_key = KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.serial_number = Some(SerialNumber::from(serial));
    let cert = params.self_signed(&signing_key).unwrap();
    let made = CertifiedKey { cert, signing_key };
    let files = TlsFiles {
        cert: dir.join("cert.pem"),
        key: dir.join("key.pem"),
    };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    (files, made.cert.der().clone())
}

async fn serve(files: &TlsFiles) -> TestServer {
    let files = files.clone();
    TestServer::with(|config| config.tls = Some(files)).await
}

/// Shakes hands, trusting this certificate only.
async fn shake(
    server: &TestServer,
    trusted: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(server.addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let shaken = TlsConnector::from(Arc::new(config)).connect(name, stream);
    timeout(SOON, shaken).await.expect("a handshake or an end")
}

type Socket = WebSocketStream<TlsStream<TcpStream>>;

async fn join(server: &TestServer, trusted: &CertificateDer<'static>, name: &str) -> Socket {
    let stream = shake(server, trusted, rustls::ALL_VERSIONS, &[])
        .await
        .unwrap();
    let url = format!(
        "wss://{}/v1/connect?token={}",
        server.addr,
        token_for(name, "room")
    );
    let request = url.into_client_request().unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream)
        .await
        .unwrap();
    assert_eq!(receive(&mut socket).await["type"], "welcome");
    socket
}

async fn receive(socket: &mut Socket) -> Value {
    let next = timeout(SOON, socket.next())
        .await
        .expect("a message in time");
    let message = next.expect("not closed").unwrap();
    serde_json::from_str(message.to_text().unwrap()).unwrap()
}

/// The next message of this type; others pass.
async fn receive_of(socket: &mut Socket, kind: &str) -> Value {
    loop {
        let message = receive(socket).await;
        if message["type"] == kind {
            return message;
        }
    }
}

/// Reads until this user has joined.
async fn sees(socket: &mut Socket, user: &str) {
    loop {
        let message = receive_of(socket, "presence").await;
        let joined = message["joined"].as_array().into_iter().flatten();
        if joined.into_iter().any(|member| member["user_id"] == user) {
            return;
        }
    }
}

async fn send(socket: &mut Socket, message: Value) {
    socket
        .send(Message::text(message.to_string()))
        .await
        .unwrap();
}

/// A room is made by hand: the harness speaks plain HTTP.
async fn make_room(server: &TestServer, trusted: &CertificateDer<'static>) {
    let mut stream = shake(server, trusted, rustls::ALL_VERSIONS, &["http/1.1"])
        .await
        .unwrap();
    let body = r#"{"id":"room"}"#;
    let call = format!(
        "POST /v1/rooms HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        server.addr,
        body.len()
    );
    stream.write_all(call.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(
        answer.contains("strict-transport-security: max-age="),
        "{answer}"
    );
}

#[tokio::test]
async fn a_room_over_tls_is_a_room() {
    let dir = TempDir::new().unwrap();
    let (files, cert) = certify(dir.path(), 1);
    let server = serve(&files).await;
    make_room(&server, &cert).await;
    let mut ada = join(&server, &cert, "ada").await;
    let mut grace = join(&server, &cert, "grace").await;
    sees(&mut ada, "grace").await;
    // More than TLS and the kernel hold for somebody who does not read, then everything in order.
    let payload = "x".repeat(12 * 1024);
    for number in 0..50 {
        send(
            &mut ada,
            json!({"type": "broadcast", "event": "e", "payload": [number, payload]}),
        )
        .await;
    }
    send(&mut ada, json!({"type": "heartbeat"})).await;
    receive_of(&mut ada, "heartbeat_ack").await;
    let mut last = -1;
    for _ in 0..50 {
        let broadcast = receive_of(&mut grace, "broadcast").await;
        let number = broadcast["payload"][0].as_i64().unwrap();
        assert_eq!(number, last + 1);
        last = number;
    }
    send(&mut grace, json!({"type": "heartbeat"})).await;
    receive_of(&mut grace, "heartbeat_ack").await;
    send(&mut ada, json!({"type": "leave"})).await;
    let left = receive_of(&mut grace, "presence").await;
    assert_eq!(left["left"][0]["reason"], "left");
    drop((ada, grace));
    server.stop().await;
}

#[tokio::test]
async fn what_is_spoken_is_tls_1_2_and_up_and_http_1_1() {
    let dir = TempDir::new().unwrap();
    let (files, cert) = certify(dir.path(), 1);
    let server = serve(&files).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let stream = shake(&server, &cert, &[version], &["h2", "http/1.1"])
            .await
            .unwrap();
        let agreed = stream.get_ref().1;
        assert_eq!(agreed.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(agreed.protocol_version(), Some(version.version));
    }
    // A client that only speaks HTTP/2 is told so at once, rather than to be answered in what it cannot read.
    assert!(
        shake(&server, &cert, rustls::ALL_VERSIONS, &["h2"])
            .await
            .is_err()
    );
    // A TLS 1.1 greeting.
    let mut old = TcpStream::connect(server.addr).await.unwrap();
    let hello = [
        &[0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2][..],
        &[7; 32],
        &[0, 0, 2, 0xc0, 0x13, 1, 0],
    ]
    .concat();
    old.write_all(&hello).await.unwrap();
    let mut answer = Vec::new();
    timeout(SOON, old.read_to_end(&mut answer))
        .await
        .expect("an end")
        .ok();
    assert_eq!(answer.first(), Some(&0x15), "an alert");
    // Nor does anything in clear text get an answer.
    let mut plain = TcpStream::connect(server.addr).await.unwrap();
    plain
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    timeout(SOON, plain.read_to_end(&mut answer))
        .await
        .expect("an end")
        .ok();
    assert!(!answer.starts_with(b"HTTP"));
    server.stop().await;
}

#[tokio::test]
async fn a_handshake_that_does_not_go_on_ends() {
    let dir = TempDir::new().unwrap();
    let (files, _) = certify(dir.path(), 1);
    let server = TestServer::with(|config| {
        config.tls = Some(files);
        config.limits.handshake_timeout = std::time::Duration::from_millis(50);
    })
    .await;
    for bytes in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let end = timeout(SOON, stream.read_to_end(&mut Vec::new())).await;
        end.expect("an end").ok();
    }
    server.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_for_those_who_come_and_a_broken_one_for_nobody() {
    let dir = TempDir::new().unwrap();
    let (files, first) = certify(dir.path(), 1);
    let server = serve(&files).await;
    make_room(&server, &first).await;
    let mut ada = join(&server, &first, "ada").await;

    let (_, second) = certify(dir.path(), 2);
    server.server.reload().await;
    assert!(
        shake(&server, &first, rustls::ALL_VERSIONS, &[])
            .await
            .is_err()
    );
    let mut grace = join(&server, &second, "grace").await;
    sees(&mut ada, "grace").await;

    // A certificate whose key has not been written yet.
    let (_, third) = certify(dir.path(), 3);
    std::fs::write(&files.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    server.server.reload().await;
    assert!(
        shake(&server, &third, rustls::ALL_VERSIONS, &[])
            .await
            .is_err()
    );
    std::fs::remove_file(&files.cert).unwrap();
    server.server.reload().await;
    let _joan = join(&server, &second, "joan").await;
    sees(&mut grace, "joan").await;
    drop((ada, grace));
    server.stop().await;
}

#[tokio::test]
async fn a_plain_server_has_nothing_to_reload() {
    let server = TestServer::start().await;
    server.server.reload().await;
    let answer = request(server.addr, hyper::Method::GET, "/healthz", &[], None).await;
    assert_eq!(answer.status, 200);
    server.stop().await;
}

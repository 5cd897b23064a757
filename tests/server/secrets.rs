//! No secret leaves the server but to whom it is for: not into logs, however verbose, nor metrics, errors, process lists or the
//! database.

use std::{net::SocketAddr, process::Stdio};

use futures::SinkExt;
use hyper::Method;
use rollcall::clock::Clock;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::oneshot,
    task::JoinSet,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Answer, Client, JWT_SECRET, SOON, open, request};

const API_KEY: &str = "apikey-5up3r-s3cr3t-of-the-test";
const GUESS: &str = "guess-that-is-nobodys-key";
const CLIENT: &str = "client-id-kept-by-one-browser";
const PAYLOAD: &str = "payload-between-two-people";

/// The real binary at its most talkative, with everything it wrote.
struct Traced {
    child: Child,
    addr: SocketAddr,
    log: JoinSet<String>,
    dir: TempDir,
}

impl Traced {
    async fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, JWT_SECRET).unwrap();
        let url = format!("sqlite://{}", dir.path().join("rollcall.db").display());
        let mut child = Command::new(env!("CARGO_BIN_EXE_rollcall"))
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--log",
                "trace",
                "--log-format",
                "json",
            ])
            .args(["--flush-interval", "50ms", "--database-url", &url])
            .arg("--jwt-secret-file")
            .arg(&secret)
            .env_clear()
            .env("ROLLCALL_API_KEY", API_KEY)
            .env("RUST_BACKTRACE", "full")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (said, listening) = oneshot::channel();
        let mut log = JoinSet::new();
        log.spawn(async move {
            let (mut log, mut said) = (String::new(), Some(said));
            while let Some(line) = lines.next_line().await.unwrap() {
                let event: Value = serde_json::from_str(&line).unwrap_or_default();
                if event["message"] == "listening"
                    && let Some(said) = said.take()
                {
                    let address = event["address"].as_str().unwrap();
                    said.send(address.parse::<SocketAddr>().unwrap()).unwrap();
                }
                log += &line;
                log.push('\n');
            }
            log
        });
        let addr = timeout(SOON, listening).await.unwrap().unwrap();
        Self {
            child,
            addr,
            log,
            dir,
        }
    }

    async fn call(&self, method: Method, path: &str, key: &str, body: Option<Value>) -> Answer {
        let bearer = format!("Bearer {key}");
        request(self.addr, method, path, &[("authorization", &bearer)], body).await
    }

    async fn stop(mut self) -> (String, TempDir) {
        let pid = self.child.id().unwrap().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .await
                .unwrap()
                .success()
        );
        timeout(SOON * 2, self.child.wait()).await.unwrap().unwrap();
        (self.log.join_next().await.unwrap().unwrap(), self.dir)
    }
}

#[tokio::test]
async fn no_secret_is_in_a_log_a_metric_an_error_a_process_list_or_the_database() {
    let server = Traced::start().await;
    let addr = server.addr;
    let post = async |path: &str, body| {
        server
            .call(Method::POST, path, API_KEY, Some(body))
            .await
            .body
    };
    post("/v1/rooms", json!({"id": "room"})).await;
    let invite = post("/v1/rooms/room/invites", json!({})).await["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let minted = post("/v1/rooms/room/tokens", json!({"sub": "ada"})).await["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let exp = Clock::system().now().as_millis() / 1000 + 60;
    let forged = crate::harness::jwt(&json!({"sub": "eve", "room": "room", "exp": exp})) + "x";
    let expired = crate::harness::jwt(&json!({"sub": "eve", "room": "room", "exp": 1}));

    // Each way in, and each way not to get in.
    let protocols = format!("rollcall.v1, rollcall.bearer.{minted}");
    let ada = open(addr, "", &[("sec-websocket-protocol", &protocols)])
        .await
        .unwrap();
    let mut ada = Client::greeted(ada).await;
    let guest = open(addr, &format!("invite={invite}&client={CLIENT}"), &[])
        .await
        .unwrap();
    let guest = Client::greeted(guest).await;
    let resume = guest.resume_token();
    guest.drop_dead();
    let mut guest =
        Client::greeted(open(addr, &format!("resume={resume}"), &[]).await.unwrap()).await;
    let mut errors = Vec::new();
    for query in [
        format!("token={forged}"),
        format!("token={expired}"),
        format!("invite={invite}x"),
        format!("resume={resume}x"),
        format!("invite={invite}&token={minted}"),
        format!("invite={invite}&name={}", "n".repeat(99)),
    ] {
        errors.push(
            open(addr, &query, &[])
                .await
                .err()
                .unwrap()
                .body
                .to_string(),
        );
    }
    errors.push(
        server
            .call(Method::GET, "/v1/rooms", GUESS, None)
            .await
            .body
            .to_string(),
    );
    errors.push(
        server
            .call(
                Method::POST,
                "/v1/rooms",
                API_KEY,
                Some(json!({"id": "room"})),
            )
            .await
            .body
            .to_string(),
    );
    // Messages, right and wrong.
    ada.send(json!({"type": "update", "state": {"secret": PAYLOAD}}))
        .await;
    ada.send(json!({"type": "broadcast", "event": "e", "payload": PAYLOAD}))
        .await;
    ada.send(json!({"type": "token", "token": forged})).await;
    errors.push(ada.next_of("error").await.to_string());
    ada.socket
        .send(Message::text(format!("{{{PAYLOAD}")))
        .await
        .unwrap();
    errors.push(ada.next_of("error").await.to_string());
    guest.next_of("broadcast").await;

    let metrics = server
        .call(Method::GET, "/metrics", API_KEY, None)
        .await
        .body
        .to_string();
    let stats = server
        .call(Method::GET, "/v1/admin/stats", API_KEY, None)
        .await
        .body
        .to_string();
    let invites = server
        .call(Method::GET, "/v1/rooms/room/invites", API_KEY, None)
        .await
        .body
        .to_string();
    let process = std::fs::read(format!("/proc/{}/cmdline", server.child.id().unwrap())).unwrap();
    let process = String::from_utf8_lossy(&process).into_owned();
    guest.leave().await;
    ada.leave().await;
    let (log, dir) = server.stop().await;
    assert!(
        log.contains("\"DEBUG\"") && log.contains("joined"),
        "the log is as verbose as it gets"
    );

    let database: Vec<u8> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().is_none_or(|name| name != "secret"))
        .flat_map(|path| std::fs::read(path).unwrap())
        .collect();
    let database = String::from_utf8_lossy(&database).into_owned();
    let secrets = [
        API_KEY, JWT_SECRET, GUESS, CLIENT, &invite, &minted, &forged, &expired, &resume,
    ];
    let places = [
        ("the log", &log),
        ("the errors", &errors.concat()),
        ("the metrics", &metrics),
        ("the stats", &stats),
        ("the list of invites", &invites),
        ("the process list", &process),
        ("the database", &database),
    ];
    for (place, text) in places {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} is in {place}");
            // Nor the part that matters of something longer.
            let tail = &secret[secret.len() - secret.len().min(16)..];
            assert!(!text.contains(tail), "the end of {secret} is in {place}");
        }
    }
    assert!(!log.contains(PAYLOAD), "what people say is in the log");
}

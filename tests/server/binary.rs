//! The real binary: its commands, its exit codes, SIGTERM, and a kill in mid-flight.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use rollcall::clock::Clock;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

use crate::harness::{self, Client, SOON, open, request, sql};

/// A `rollcall serve` of its own, killed with the test.
struct Binary {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    addr: SocketAddr,
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
    command
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .env_clear();
    command
}

impl Binary {
    async fn start(url: &str, more: &[&str]) -> Self {
        let mut args = vec![
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--log-format",
            "json",
            "--database-url",
            url,
        ];
        args.extend(more);
        let mut child = command(&args)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let listening = async {
            loop {
                let line: Value =
                    serde_json::from_str(&log.next_line().await.unwrap().expect("it listens"))
                        .unwrap();
                if line["message"] == "listening" {
                    return line["address"].as_str().unwrap().parse().unwrap();
                }
            }
        };
        let addr = tokio::time::timeout(SOON, listening).await.unwrap();
        Self { child, log, addr }
    }

    async fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().await;
        assert!(sent.unwrap().success());
    }

    /// Sends a signal and answers the exit code and the rest of the log.
    async fn signalled(mut self, signal: &str) -> (Option<i32>, Vec<String>) {
        self.signal(signal).await;
        let mut lines = Vec::new();
        let ended = async {
            while let Some(line) = self.log.next_line().await.unwrap() {
                lines.push(line);
            }
            self.child.wait().await.unwrap()
        };
        let status = tokio::time::timeout(SOON * 2, ended)
            .await
            .expect("it ends");
        (status.code(), lines)
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let answer = request(self.addr, hyper::Method::POST, path, &[], Some(body)).await;
        assert!(answer.status < 300, "{path}: {}", answer.body);
        answer.body
    }

    /// Makes the room `room`, and an invite to it.
    async fn room_and_invite(&self) -> String {
        self.post("/v1/rooms", json!({"id": "room"})).await;
        let made = self.post("/v1/rooms/room/invites", json!({})).await;
        made["token"].as_str().unwrap().to_owned()
    }

    /// How many sweeps the reaper has made.
    async fn sweeps(&self) -> usize {
        let path = "/v1/admin/reaps";
        let answer = request(self.addr, hyper::Method::GET, path, &[], None).await;
        answer.body["items"].as_array().unwrap().len()
    }

    async fn connect(&self, query: &str) -> Client {
        Client::greeted(open(self.addr, query, &[]).await.expect("admitted")).await
    }

    /// Runs a command against this server.
    async fn ask(&self, args: &[&str]) -> (i32, String) {
        let server = format!("http://{}", self.addr);
        let output = command(args)
            .args(["--server", &server])
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.code().unwrap(), text)
    }
}

fn database(dir: &TempDir) -> String {
    format!("sqlite://{}", dir.path().join("rollcall.db").display())
}

const HASTY: &[&str] = &[
    "--heartbeat-interval",
    "200ms",
    "--heartbeat-timeout",
    "500ms",
    "--flush-interval",
    "50ms",
    "--reconnect-grace",
    "100ms",
    "--room-idle-timeout",
    "1s",
];

#[tokio::test]
async fn r10_sigterm_drains_and_exits_zero() {
    let dir = TempDir::new().unwrap();
    let server = Binary::start(&database(&dir), &[]).await;
    let invite = server.room_and_invite().await;
    let mut ada = server.connect(&format!("invite={invite}&name=Ada")).await;
    let ((code, log), closed) = tokio::join!(server.signalled("-TERM"), ada.closed());
    assert_eq!((code, closed), (Some(0), 1012), "{log:#?}");
    let rows = sql(&database(&dir), "SELECT stopped_at IS NOT NULL FROM nodes").await;
    assert_eq!(rows, [[Some("1".to_owned())]]);
}

#[tokio::test]
async fn r6_a_kill_loses_no_participant_and_the_seat_is_held() {
    let dir = TempDir::new().unwrap();
    let url = database(&dir);
    let server = Binary::start(&url, &["--flush-interval", "50ms"]).await;
    let invite = server.room_and_invite().await;
    let mut ada = server.connect(&format!("invite={invite}&name=Ada")).await;
    let mut bob = server.connect(&format!("invite={invite}&name=Bob")).await;
    ada.sees(&["Ada", "Bob"]).await;
    bob.quiet().await;
    // A heartbeat is in the table once a flush that began after it has ended: two more have.
    let flushes = async || {
        request(
            server.addr,
            hyper::Method::GET,
            "/v1/admin/stats",
            &[],
            None,
        )
        .await
        .body["flush"]["flushes"]
            .as_u64()
            .unwrap()
    };
    let before = flushes().await;
    let heard = bob.replay.member(&bob.id()).unwrap()["last_seen_at"]
        .as_str()
        .unwrap()
        .to_owned();
    while flushes().await < before + 2 {}
    let (code, _) = server.signalled("-KILL").await;
    assert_eq!(code, None, "killed");
    let query = format!(
        "SELECT last_seen_at, is_active FROM participants WHERE id = '{}'",
        bob.id()
    );
    let row = sql(&url, &query).await.remove(0);
    assert!(
        row[0].as_deref().unwrap() >= heard.as_str(),
        "{row:?} is not behind {heard}"
    );
    assert_eq!(row[1].as_deref(), Some("1"));

    let server = Binary::start(&url, &["--restart-grace", "1s"]).await;
    let mut ada = server
        .connect(&format!("resume={}", ada.resume_token()))
        .await;
    assert_eq!(
        ada.replay.names(),
        ["Ada", "Bob"],
        "nobody was seen to leave"
    );
    let left = loop {
        let presence = ada.next_of("presence").await;
        if let Some(left) = presence.get("left") {
            break left[0].clone();
        }
    };
    assert_eq!(
        (left["id"].as_str(), left["reason"].as_str()),
        (Some(bob.id().as_str()), Some("timeout"))
    );
    assert_eq!(
        left["last_seen_at"].as_str(),
        row[0].as_deref(),
        "the last-seen of before the kill"
    );
    server.signalled("-TERM").await;
    let row = sql(&url, &query).await.remove(0);
    assert_eq!(row[1].as_deref(), Some("0"), "no ghost in is_active");
}

/// A laptop's lid, a stopped virtual machine: longer than every patience that the server has.
#[tokio::test]
async fn r9_a_frozen_server_sees_nobody_leave_and_reaps_no_room() {
    let dir = TempDir::new().unwrap();
    let reaping = [HASTY, &["--reap-interval", "200ms"]].concat();
    let server = Binary::start(&database(&dir), &reaping).await;
    let invite = server.room_and_invite().await;
    let mut ada = server.connect(&format!("invite={invite}&name=Ada")).await;
    let bob = server.connect(&format!("invite={invite}&name=Bob")).await;
    ada.sees(&["Ada", "Bob"]).await;
    server.signal("-STOP").await;
    // Beyond the 5 s that count as a stall, the heartbeat timeout, the grace and the room's patience: all of it real,
    // since the process is.
    tokio::time::sleep(Duration::from_millis(6_500)).await;
    // Bob's connection breaks while nobody can see it.
    let back = format!("resume={}", bob.resume_token());
    bob.drop_dead();
    server.signal("-CONT").await;
    let mut seen = ada.quiet().await;
    let mut bob = server.connect(&back).await;
    assert_eq!(bob.welcome["resumed"], true);
    // Five sweeps take longer than the heartbeat timeout and the grace together.
    let before = server.sweeps().await;
    for sweep in 1..=5 {
        while server.sweeps().await < before + sweep {}
        seen.extend(ada.quiet().await);
        seen.extend(bob.quiet().await);
    }
    seen.retain(|message| message["type"] == "presence");
    assert_eq!(seen, [Value::Null; 0], "nobody left, nobody came");
    let last_seen = "SELECT max(last_seen_at), max(last_active_at) FROM participants, rooms";
    let row = sql(&database(&dir), last_seen).await.remove(0);
    let now = serde_json::to_value(Clock::system().now()).unwrap();
    assert!(
        row.iter().all(|at| at.as_deref() <= now.as_str()),
        "{row:?}"
    );
    bob.leave().await;
    ada.leave().await;
    server.signalled("-TERM").await;
}

#[tokio::test]
async fn a_sweep_and_an_expired_link_by_command_line() {
    let dir = TempDir::new().unwrap();
    let server = Binary::start(&database(&dir), HASTY).await;
    let (code, text) = server.ask(&["room", "create", "room"]).await;
    assert_eq!(code, 0, "{text}");
    let (code, text) = server.ask(&["invite", "create", "room", "--json"]).await;
    assert_eq!(code, 0, "{text}");
    let made: Value = serde_json::from_str(&text).unwrap();
    let invite = made["token"].as_str().unwrap();
    let expired = async || {
        request(
            server.addr,
            hyper::Method::GET,
            "/v1/rooms/room/expiry",
            &[],
            None,
        )
        .await
        .body["expired"]
            == true
    };
    while !expired().await {}
    let refused = open(server.addr, &format!("invite={invite}"), &[])
        .await
        .err()
        .unwrap();
    let sentence =
        "This invitation link has expired. Rooms become inactive after 1 second of no activity.";
    assert_eq!(
        (refused.status, refused.body["detail"].as_str()),
        (410, Some(sentence))
    );
    let (code, text) = server.ask(&["reap", "--dry-run"]).await;
    assert_eq!((code, text.contains("room")), (0, true), "{text}");
    let (code, text) = server.ask(&["reap", "--json"]).await;
    assert_eq!(code, 0, "{text}");
    assert_eq!(
        sql(&database(&dir), "SELECT count(*) FROM rooms").await,
        [[Some("0".to_owned())]]
    );
    let refused = open(server.addr, &format!("invite={invite}"), &[])
        .await
        .err()
        .unwrap();
    assert_eq!(
        (refused.status, refused.body["detail"].as_str()),
        (410, Some(sentence))
    );
    let (code, text) = server.ask(&["room", "show", "room"]).await;
    assert_eq!((code, text.contains("room_not_found")), (1, true), "{text}");
    for read_only in [&["stats"][..], &["room", "list"][..]] {
        let (code, text) = server.ask(read_only).await;
        assert_eq!(code, 0, "{read_only:?}: {text}");
    }
    server.signalled("-TERM").await;
}

#[tokio::test]
async fn migrate_and_verify() {
    let dir = TempDir::new().unwrap();
    let url = database(&dir);
    let verify = async || {
        command(&["verify", "--database-url", &url])
            .output()
            .await
            .unwrap()
    };
    assert_eq!(
        verify().await.status.code(),
        Some(1),
        "nothing to verify yet"
    );
    let migrated = command(&["migrate", "--database-url", &url])
        .output()
        .await
        .unwrap();
    assert_eq!(migrated.status.code(), Some(0), "{migrated:?}");
    let verified = verify().await;
    assert_eq!(
        verified.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&verified.stdout)
    );
    sql(&url, "DROP INDEX participants_room_key").await;
    let broken = verify().await;
    assert_eq!(
        broken.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&broken.stdout)
    );
}

#[tokio::test]
async fn every_mistake_is_reported_at_once() {
    let output = command(&[
        "serve",
        "--listen",
        "0.0.0.0:0",
        "--flush-interval",
        "soon",
        "--heartbeat-timeout",
        "1s",
    ]);
    let output = { output }.output().await.unwrap();
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8_lossy(&output.stderr);
    for option in [
        "--listen",
        "--api-key",
        "--flush-interval",
        "--heartbeat-timeout",
    ] {
        assert!(text.contains(option), "{option} in {text}");
    }
}

#[tokio::test]
async fn an_api_key_is_needed_where_one_is_set_and_no_secret_is_logged() {
    let dir = TempDir::new().unwrap();
    let key = "a-management-key-of-a-test";
    let more = [
        "--api-key",
        key,
        "--jwt-secret",
        harness::JWT_SECRET,
        "--log",
        "debug",
    ];
    let server = Binary::start(&database(&dir), &more).await;
    let post = async |headers: &[(&str, &str)]| {
        request(
            server.addr,
            hyper::Method::POST,
            "/v1/rooms",
            headers,
            Some(json!({"id": "room"})),
        )
        .await
    };
    assert_eq!(post(&[]).await.code(), "credential_missing");
    assert_eq!(
        post(&[("authorization", "Bearer wrong")]).await.code(),
        "credential_invalid"
    );
    let bearer = format!("Bearer {key}");
    assert_eq!(post(&[("authorization", &bearer)]).await.status, 201);
    let token = harness::token_for("ada", "room");
    let ada = server.connect(&format!("token={token}")).await;
    let resume = ada.resume_token();
    drop(ada);
    let (_, log) = server.signalled("-TERM").await;
    let log = log.join("\n");
    assert!(log.contains("joined"), "{log}");
    for secret in [key, harness::JWT_SECRET, &token, &resume] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
}

//! The real binary, its log as it comes, and signals to it.

use std::{net::SocketAddr, process::Stdio};

use rollcall::config::Database;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use crate::harness::{self, Answer, Client, SOON, open, request};

/// A `rollcall serve`, killed with the test.
pub struct Program {
    child: Child,
    log: watch::Receiver<Vec<Value>>,
    _reader: JoinSet<()>,
}

impl Program {
    pub fn start(database: &Database, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rollcall"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
            .args(["--database-url", database.url.expose()])
            .args(["--database-schema", &database.schema])
            .args(["--jwt-secret", harness::JWT_SECRET])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .env_clear()
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (said, log) = watch::channel(Vec::new());
        let mut reader = JoinSet::new();
        reader.spawn(async move {
            while let Some(line) = lines.next_line().await.unwrap() {
                // What ends the program is said in plain words.
                let line =
                    serde_json::from_str(&line).unwrap_or_else(|_| json!({ "message": line }));
                said.send_modify(|log| log.push(line));
            }
        });
        Self {
            child,
            log,
            _reader: reader,
        }
    }

    /// All it has said.
    pub fn log(&self) -> Vec<Value> {
        self.log.borrow().clone()
    }

    /// Waits for a line whose message begins so.
    pub async fn says(&mut self, message: &str) -> Value {
        self.says_after(0, message).await
    }

    /// The same, passing over that many lines.
    pub async fn says_after(&mut self, skipped: usize, message: &str) -> Value {
        let is_it = |line: &&Value| line["message"].as_str().unwrap().starts_with(message);
        let find = |log: &[Value]| log.iter().skip(skipped).find(is_it).cloned();
        let heard = self.log.wait_for(|log| find(log).is_some());
        // Whatever comes of the wait, the log says more.
        let _ = timeout(SOON * 2, heard).await.map(|_| ());
        let log = self.log();
        find(&log).unwrap_or_else(|| panic!("{message:?} is not in {log:#?}"))
    }

    /// Waits until it serves, and answers where.
    pub async fn listens(&mut self) -> SocketAddr {
        let line = self.says("listening").await;
        line["address"].as_str().unwrap().parse().unwrap()
    }

    pub async fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().await;
        assert!(sent.unwrap().success());
    }

    /// Waits for its end, and for the end of its log.
    pub async fn ends(&mut self) -> Option<i32> {
        let ended = async {
            let status = self.child.wait().await.unwrap();
            // Fails once the reader has come to the end, with everything read.
            while self.log.changed().await.is_ok() {}
            status.code()
        };
        timeout(SOON * 2, ended).await.expect("it ends")
    }
}

pub async fn get(addr: SocketAddr, path: &str) -> Answer {
    request(addr, hyper::Method::GET, path, &[], None).await
}

pub async fn make_room(addr: SocketAddr, id: &str) {
    let body = Some(json!({ "id": id }));
    let answer = request(addr, hyper::Method::POST, "/v1/rooms", &[], body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
}

pub async fn connect(addr: SocketAddr, query: &str) -> Client {
    let socket = open(addr, query, &[]).await;
    Client::greeted(socket.unwrap_or_else(|refusal| panic!("refused: {}", refusal.body))).await
}

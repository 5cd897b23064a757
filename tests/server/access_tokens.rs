//! Access tokens: every algorithm signed for real, hostile tokens, keys that come from elsewhere and change, and what becomes
//! of a connection whose token ends.

mod hostile;
mod issuer;
mod jwks;
mod key_server;
mod renewal;

use std::{
    ops::Deref,
    sync::{Arc, mpsc},
};

use rollcall::{clock::Clock, config::Config, store::memory::MemoryStore};
use rollcall_protocol::Timestamp;
use tempfile::TempDir;

use crate::harness::{Answer, TestServer, config};

/// The moment at which a manual clock begins.
const NOW: i64 = 1_795_514_400;

/// A server over memory, with a room. Its clock and its timers are the test's paused time, which moves by `advance` only.
struct Scene {
    server: TestServer,
    /// Time goes on by itself when nothing is left to do, and what is on its way through a socket looks like nothing; but
    /// not while a thread is busy, and this one waits until the scene is dropped.
    time: mpsc::Sender<()>,
}

impl Deref for Scene {
    type Target = TestServer;

    fn deref(&self) -> &TestServer {
        &self.server
    }
}

impl Scene {
    async fn stop(self) {
        drop(self.time);
        self.server.stop().await;
    }
}

async fn server(change: impl FnOnce(&mut Config)) -> Scene {
    let (time, held) = mpsc::channel();
    tokio::task::spawn_blocking(move || held.recv());
    let clock = Clock::manual(Timestamp::from_millis(NOW * 1000));
    let mut config = config();
    // What becomes of tokens is asked here, not how many bad ones an address may bring.
    config.limits.failed_credentials_per_minute = None;
    change(&mut config);
    let server = TestServer::on(
        config,
        Arc::new(MemoryStore::new(clock.clone())),
        Arc::new(TempDir::new().unwrap()),
        clock,
    )
    .await;
    server.room("room").await;
    Scene { server, time }
}

/// Asks for the verdict on a token.
async fn ask(server: &TestServer, token: &str) -> Answer {
    let token: String = form_urlencoded::byte_serialize(token.as_bytes()).collect();
    server.get(&format!("/v1/connect?token={token}")).await
}

/// The code of the verdict, or `admit`.
async fn verdict(server: &TestServer, token: &str) -> String {
    let answer = ask(server, token).await;
    match answer.status {
        200 => answer.body["verdict"].as_str().unwrap().to_owned(),
        _ => answer.code().to_owned(),
    }
}

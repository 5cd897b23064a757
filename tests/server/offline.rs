//! A node without sockets, in paused time: memory for a store, and memory under the real connection code.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, SinkExt, StreamExt};
use rollcall::{
    admission::{Admitted, Query},
    clock::Clock,
    config::Config,
    node::Node,
    store::{RoomKey, RoomSettings, Store, memory::MemoryStore},
};
use rollcall_protocol::{OnIdle, Problem, RoomId, Timestamp};
use serde_json::{Value, json};
use tokio::{io::DuplexStream, task::coop::unconstrained};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, Role},
    },
};
use tokio_util::sync::CancellationToken;

use crate::{
    harness::{config, jwt},
    replay::Replay,
};

/// Long after the tests' own epoch.
const EXP: i64 = 1_800_000_000;
/// What one end may be ahead of the other.
const BUFFER: usize = 64 * 1024;

/// A running node and one room in it, which is never idle.
pub struct Offline {
    pub node: Node,
    pub room: RoomKey,
}

/// Somebody connected.
pub struct Peer {
    pub socket: WebSocketStream<DuplexStream>,
    pub replay: Replay,
    pub welcome: Value,
}

impl Offline {
    pub async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        // Access tokens are judged by the same clock.
        let clock = Clock::manual(Timestamp::from_millis(1_795_514_400_000));
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
        let node = Node::start(Arc::new(config), store, clock).await.unwrap();
        let room = make_room(&node, "room").await;
        Self { node, room }
    }

    /// Where somebody comes in by an access token of their own.
    pub fn door(who: &str, room: &str) -> String {
        format!(
            "token={}",
            jwt(&json!({"sub": who, "room": room, "exp": EXP}))
        )
    }

    /// Where somebody comes in to observe.
    pub fn observers_door(who: &str, room: &str) -> String {
        let claims = json!({"sub": who, "room": room, "exp": EXP, "observe": true});
        format!("token={}", jwt(&claims))
    }

    pub async fn join(&self, who: &str) -> Peer {
        self.connect(&Self::door(who, "room")).await.unwrap()
    }

    pub async fn connect(&self, query: &str) -> Result<Peer, Problem> {
        self.connect_over(query, BUFFER).await
    }

    /// Connects over memory that holds no more than `buffer` bytes in each direction.
    pub async fn connect_over(&self, query: &str, buffer: usize) -> Result<Peer, Problem> {
        let query = Query::parse(Some(query), &hyper::HeaderMap::new())?;
        let ask = self.node.admission.ask(query).await?;
        let admitted = self.node.admission.decide(ask).await?;
        let (ours, theirs) = tokio::io::duplex(buffer);
        self.node.seat(ours, admitted).await;
        let mut socket = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        let welcome = next_json(&mut socket).await.expect("a welcome");
        Ok(Peer {
            socket,
            replay: Replay::new(&welcome),
            welcome,
        })
    }

    /// Upgrades somebody who was admitted before, and answers the code of the close; `None` after a welcome.
    pub async fn seat(&self, admitted: Admitted) -> Option<u16> {
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        self.node.seat(ours, admitted).await;
        let mut socket = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        match socket.next().await {
            Some(Ok(Message::Close(Some(frame)))) => Some(frame.code.into()),
            _ => None,
        }
    }

    /// How often the metrics say that a connection ended so.
    pub fn ended(&self, reason: &str) -> u64 {
        let label = format!("rollcall_connections_ended_total{{reason=\"{reason}\"}} ");
        let metrics = self.node.metrics.render(0, 0);
        let value = metrics.lines().find_map(|line| line.strip_prefix(&label));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// Stops, and fails the test if anything was left (rule R10).
    pub async fn stop(self) {
        self.node
            .shut_down(&CancellationToken::new())
            .await
            .expect("nothing is left");
    }
}

/// Makes a room that is never idle.
pub async fn make_room(node: &Node, id: &str) -> RoomKey {
    let settings = RoomSettings {
        idle_timeout: None,
        on_idle: OnIdle::Keep,
        max_participants: None,
        max_age: None,
        metadata: serde_json::Map::new(),
    };
    let id: RoomId = id.parse().unwrap();
    node.store.create_room(&id, &settings).await.unwrap();
    node.store.room(&id).await.unwrap().unwrap().key
}

async fn next_json(socket: &mut WebSocketStream<DuplexStream>) -> Option<Value> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Close(_))) | Some(Err(_)) | None => return None,
            Some(Ok(_)) => {}
        }
    }
}

impl Peer {
    pub fn id(&self) -> String {
        self.of_self("participant_id")
    }

    /// Where to come back by.
    pub fn way_back(&self) -> String {
        format!("resume={}", self.of_self("resume_token"))
    }

    fn of_self(&self, field: &str) -> String {
        self.welcome["self"][field].as_str().unwrap().to_owned()
    }

    pub async fn say(&mut self, message: Value) {
        self.socket
            .send(Message::text(message.to_string()))
            .await
            .unwrap();
    }

    /// Leaves cleanly, and waits until the server has closed.
    pub async fn leave(mut self) {
        self.say(json!({"type": "leave"})).await;
        while next_json(&mut self.socket).await.is_some() {}
    }

    /// The next message, applied.
    pub async fn next(&mut self) -> Option<Value> {
        let message = next_json(&mut self.socket).await?;
        self.replay.apply(&message);
        Some(message)
    }

    /// Applies everything that has come; a breach of a rule panics in the replayer. Answers it; `None` after the end.
    pub fn catch_up(&mut self) -> Option<Vec<Value>> {
        let mut came = Vec::new();
        loop {
            // A crowd's messages are more than one task is let take in a row.
            match unconstrained(self.next()).now_or_never() {
                Some(Some(message)) => came.push(message),
                Some(None) => return None,
                None => return Some(came),
            }
        }
    }

    /// Reads to the end; answers the close frame.
    pub async fn closed(&mut self) -> Option<CloseFrame> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Close(frame))) => return frame,
                Some(Ok(Message::Text(text))) => {
                    self.replay.apply(&serde_json::from_str(&text).unwrap());
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }
}

/// Lets everybody else work until nothing is left to do at this moment of paused time.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

//! A node over the memory store, in paused time.

use std::sync::Arc;

use axum::http::HeaderMap;
use rollcall::{
    admission::{Admitted, Query},
    clock::Clock,
    config::{Config, Secret},
    node::Node,
    store::{RoomKey, RoomSettings, Store, memory::MemoryStore},
};
use rollcall_protocol::{OnIdle, Problem, RoomId, Timestamp};
use tokio::runtime::{Builder, Runtime};

/// The secret that access tokens are signed with.
pub(crate) const SECRET: &str = "a secret of more than thirty-two bytes for fuzzing";
/// When every node starts, in milliseconds since 1970.
pub(crate) const EPOCH: i64 = 1_795_514_400_000;
/// The one room, which is never idle.
pub(crate) const ROOM: &str = "room";

/// A node with one room.
pub(crate) struct Stage {
    pub(crate) node: Node,
    pub(crate) room: RoomKey,
}

/// A runtime whose time passes only when nothing else is left to do.
pub(crate) fn paused() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing of the system")
}

/// What a node is told, and every access token is checked by.
pub(crate) fn config() -> Config {
    let mut config = Config::default_dev();
    config.jwt_secret = Some(Secret::new(SECRET));
    config
}

/// When the access tokens of those who join end: a node that every input is tried on grows old.
const TOKENS_END: i64 = EPOCH + 1_000 * 365 * 24 * 3_600_000;

impl Stage {
    pub(crate) async fn set(config: Config) -> Self {
        let clock = Clock::manual(Timestamp::from_millis(EPOCH));
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
        let node = Node::start(Arc::new(config), store, clock)
            .await
            .expect("the memory store always answers");
        let id: RoomId = ROOM.parse().expect("a room id");
        let settings = RoomSettings {
            idle_timeout: None,
            on_idle: OnIdle::Keep,
            max_participants: None,
            max_age: None,
            metadata: serde_json::Map::new(),
        };
        let made = node.store.create_room(&id, &settings).await;
        made.expect("the memory store always answers");
        let room = node.store.room(&id).await.ok().flatten();
        let room = room.expect("the room just made").key;
        Self { node, room }
    }

    /// Where somebody comes in by an access token of their own.
    pub(crate) fn door(&self, who: &str) -> String {
        let (room, user) = (ROOM.parse(), who.parse());
        let token = self.node.admission.tokens().mint(
            &room.expect("a room id"),
            &user.expect("a user id"),
            None,
            Timestamp::from_millis(TOKENS_END),
        );
        format!("token={}", token.expect("a secret is configured"))
    }

    /// Decides a join by what the query says.
    pub(crate) async fn admit(&self, query: &str) -> Result<Admitted, Problem> {
        let query = Query::parse(Some(query), &HeaderMap::new())?;
        let ask = self.node.admission.ask(query).await?;
        self.node.admission.decide(ask).await
    }
}

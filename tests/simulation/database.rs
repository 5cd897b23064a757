//! The database under the simulation: in memory, or a SQLite file. It outlives the nodes.

use std::sync::Arc;

use rollcall::{
    clock::Clock,
    store::{
        InviteKey, InviteRow, ParticipantKey, ParticipantRow, RoomKey, RoomRow, Store,
        memory::MemoryStore, sqlite::SqliteStore,
    },
};
use rollcall_protocol::RoomId;
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::{
    faults::Faults,
    store::{FaultyStore, Hold},
};

/// Which database a run is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Memory,
    Sqlite,
}

/// A database, looked at and changed behind the node's back.
pub struct Database {
    kind: Backing,
    /// A handle that serves nobody.
    raw: Arc<dyn Store>,
    writer: Arc<Mutex<()>>,
    clock: Clock,
}

enum Backing {
    Memory(MemoryStore),
    Sqlite(TempDir),
}

/// Everything that is in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    pub rooms: Vec<RoomRow>,
    pub participants: Vec<ParticipantRow>,
    pub invites: Vec<InviteRow>,
}

const ALL: u32 = 10_000;

impl Database {
    pub async fn open(kind: Kind, clock: Clock) -> Self {
        let (kind, raw): (_, Arc<dyn Store>) = match kind {
            Kind::Memory => {
                let store = MemoryStore::new(clock.clone());
                (Backing::Memory(store.clone()), Arc::new(store))
            }
            Kind::Sqlite => {
                let dir = TempDir::new().unwrap();
                let raw = sqlite(&dir, &clock).await;
                (Backing::Sqlite(dir), raw)
            }
        };
        Self {
            kind,
            raw,
            writer: Arc::default(),
            clock,
        }
    }

    /// A handle for a node, with faults.
    pub async fn handle(&self, faults: &Faults) -> Arc<dyn Store> {
        let (inner, writer): (Arc<dyn Store>, _) = match &self.kind {
            Backing::Memory(store) => (Arc::new(store.clone()), None),
            Backing::Sqlite(dir) => (
                sqlite(dir, &self.clock).await,
                Some(Arc::clone(&self.writer)),
            ),
        };
        Arc::new(FaultyStore::new(inner, faults.clone(), writer))
    }

    fn hold(&self) -> Option<Hold> {
        matches!(self.kind, Backing::Sqlite(_)).then(Hold::new)
    }

    pub async fn rows(&self) -> Rows {
        // Nothing is written between one question and the next.
        let _turn = self.writer.lock().await;
        let _hold = self.hold();
        let rooms = self.raw.rooms(RoomKey(0), ALL).await.unwrap();
        let (mut participants, mut invites) = (Vec::new(), Vec::new());
        for room in &rooms {
            let of_room = self.raw.participants(room.key, ParticipantKey(0), ALL);
            participants.extend(of_room.await.unwrap());
            invites.extend(self.raw.invites(room.key, InviteKey(0), ALL).await.unwrap());
        }
        Rows {
            rooms,
            participants,
            invites,
        }
    }

    /// Deletes a room as somebody would who tells the server nothing.
    pub async fn delete_room(&self, id: &RoomId) {
        let _turn = self.writer.lock().await;
        let _hold = self.hold();
        self.raw.delete_room(id).await.unwrap();
    }

    pub async fn close(&self) {
        let _hold = self.hold();
        self.raw.close().await;
    }
}

async fn sqlite(dir: &TempDir, clock: &Clock) -> Arc<dyn Store> {
    let _hold = Hold::new();
    let url = format!("sqlite://{}", dir.path().join("rollcall.db").display());
    Arc::new(SqliteStore::open(&url, clock.clone()).await.unwrap())
}

impl Rows {
    pub fn room(&self, key: RoomKey) -> Option<&RoomRow> {
        self.rooms.iter().find(|room| room.key == key)
    }

    pub fn room_of(&self, id: &str) -> Option<&RoomRow> {
        self.rooms.iter().find(|room| room.id.as_str() == id)
    }

    pub fn participant(&self, room: RoomKey, id: &str) -> Option<&ParticipantRow> {
        self.participants
            .iter()
            .find(|row| row.room_key == room && row.id.to_string() == id)
    }
}

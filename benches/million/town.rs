//! The node under test, its database and its runtimes, as `main.rs` has them.
//!
//! Everybody has been there before: the rows of the database, which is in this process too, are made before anything is
//! measured, and coming back adds none.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, anyhow, ensure};
use futures::{StreamExt, TryStreamExt};
use rollcall::{
    admission::{Admitted, Ask},
    clock::Clock,
    config::Config,
    connection::{self, websocket_config},
    node::Node,
    store::{
        AccessMethod, Created, FlushBatch, Identity, JoinParticipant, JoinRoom, JoinWrite,
        LockWait, RoomKey, Store, memory::MemoryStore,
    },
};
use rollcall_protocol::{DisplayName, ParticipantId, RoomId, UserId};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};
use uuid::Uuid;

use crate::{
    options::{ROOM, Run},
    wire::{Pipe, Wires},
};

/// Joins under way at a time.
const AT_ONCE: usize = 512;
/// How long the access tokens of all last.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A database with rooms and people, and no node yet.
pub(crate) struct Ground {
    config: Arc<Config>,
    clock: Clock,
    store: MemoryStore,
    services: Runtime,
    connections: Runtime,
    wires: &'static Wires,
}

/// A node that serves.
pub(crate) struct Town {
    pub(crate) node: Node,
    clock: Clock,
    services: Runtime,
    connections: Runtime,
    pub(crate) wires: &'static Wires,
}

impl Ground {
    /// Makes all rows. In a crowded run they say that everybody is there, as a restart would find them.
    pub(crate) fn lay(run: &Run) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let mut config = Config::default_dev();
        // Nobody in the crowd comes back.
        config.restart_grace =
            Duration::from_secs(10) + Duration::from_micros(50) * run.people() as u32;
        let ground = Self {
            config: Arc::new(config),
            store: MemoryStore::new(clock.clone()),
            clock,
            services: Builder::new_multi_thread().enable_all().build()?,
            connections: Builder::new_multi_thread()
                .thread_name("connections")
                .enable_all()
                .build()?,
            wires: Wires::lay(run.connections),
        };
        ground.services.block_on(ground.settle(run))?;
        Ok(ground)
    }

    async fn settle(&self, run: &Run) -> anyhow::Result<()> {
        let former = self.store.clone();
        if run.is_crowded() {
            former.take_over(self.config.node_terms()).await?;
        }
        for room in 0..run.rooms() {
            populate(&former, room, run.welcome_members, &self.config).await?;
        }
        if run.is_crowded() {
            former.flush(&FlushBatch::default()).await?;
            former.stop().await?;
        }
        Ok(())
    }

    /// Starts the node.
    pub(crate) fn open(self) -> anyhow::Result<Town> {
        let store: Arc<dyn Store> = Arc::new(self.store);
        let start = Node::start(Arc::clone(&self.config), store, self.clock.clone());
        let node = self.services.block_on(start)?;
        Ok(Town {
            node,
            clock: self.clock,
            services: self.services,
            connections: self.connections,
            wires: self.wires,
        })
    }
}

async fn populate(
    store: &MemoryStore,
    room: usize,
    people: usize,
    config: &Config,
) -> anyhow::Result<()> {
    let (id, settings) = (room_id(room)?, config.room_defaults());
    let Created::New(row) = store.create_room(&id, &settings).await? else {
        return Err(anyhow!("the room is there already"));
    };
    let identities: Vec<Identity> = (0..people)
        .map(|person| Ok(ask(room, person, &Clock::system())?.identity()))
        .collect::<anyhow::Result<_>>()?;
    let writes = (0..people).map(|person| newcomer(row.key, room, person));
    let writes = writes.collect::<anyhow::Result<_>>()?;
    let batch = store.begin_joins(&identities, LockWait::Wait).await?;
    batch.commit(writes).await?;
    Ok(())
}

fn newcomer(key: RoomKey, room: usize, person: usize) -> anyhow::Result<JoinWrite> {
    Ok(JoinWrite {
        index: person,
        keeps_last_seen: None,
        room: JoinRoom::Existing(key),
        participant: JoinParticipant::New {
            id: ParticipantId(Uuid::now_v7()),
            user_id: Some(user_id(room, person)?),
            name: name(person)?,
            access_method: AccessMethod::Token,
            invite: None,
        },
    })
}

fn ask(room: usize, person: usize, clock: &Clock) -> anyhow::Result<Ask> {
    Ok(Ask::User {
        room_id: room_id(room)?,
        user_id: user_id(room, person)?,
        name: Some(name(person)?),
        create: false,
        keeps_last_seen: true,
        expires_at: clock.now() + DAY,
    })
}

fn room_id(room: usize) -> anyhow::Result<RoomId> {
    Ok(format!("room-{room}").parse()?)
}

fn user_id(room: usize, person: usize) -> anyhow::Result<UserId> {
    Ok(format!("user-{room}-{person}").parse()?)
}

fn name(person: usize) -> anyhow::Result<DisplayName> {
    Ok(format!("Somebody {person}").parse()?)
}

impl Town {
    /// Everybody who has a wire joins, by the real admission, and is spawned as the server spawns them.
    pub(crate) fn fill(&self) -> anyhow::Result<()> {
        let handle = self.connections.handle();
        let joins = futures::stream::iter(0..self.wires.len()).map(anyhow::Ok);
        self.services
            .block_on(joins.try_for_each_concurrent(AT_ONCE, |index| async move {
                let admitted = self.admit(index).await?;
                self.seat(self.wires.pipe(index), admitted, handle).await;
                Ok(())
            }))
    }

    /// Lets one person in.
    pub(crate) async fn admit(&self, index: usize) -> anyhow::Result<Admitted> {
        let ask = ask(index / ROOM, index % ROOM, &self.clock)?;
        let decided = self.node.admission.decide(ask).await;
        decided.map_err(|problem| anyhow!("{}: {}", problem.code.as_str(), problem.detail))
    }

    /// As `http::connect` does it with a socket that hyper gave back.
    pub(crate) async fn seat(&self, pipe: Pipe, admitted: Admitted, runtime: &Handle) {
        let socket = self.upgraded(pipe).await;
        let connection = connection::run(socket, admitted, Arc::clone(&self.node.deps));
        self.node.connections.spawn_on(connection, runtime);
    }

    pub(crate) async fn upgraded(&self, pipe: Pipe) -> WebSocketStream<Pipe> {
        let config = Some(websocket_config(&self.node.config));
        WebSocketStream::from_partially_read(pipe, Vec::new(), Role::Server, config).await
    }

    /// Writes what is dirty now.
    pub(crate) fn flush(&self) -> anyhow::Result<()> {
        Ok(self.services.block_on(self.node.flusher.flush())?)
    }

    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.services.block_on(work)
    }

    /// Nobody has anything to complain of, and nobody has gone.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let complaints = self.wires.tally().complaints();
        ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
        let held = self.node.connections.len();
        let all = self.wires.len();
        ensure!(held == all, "{held} of {all} connections are held");
        Ok(())
    }
}

/// Looks again and again until it is so.
pub(crate) fn wait_for(
    what: &str,
    limit: Duration,
    is_so: impl Fn() -> bool,
) -> anyhow::Result<()> {
    const LOOK_EVERY: Duration = Duration::from_millis(20);
    let looks = limit.as_millis() / LOOK_EVERY.as_millis();
    for _ in 0..looks {
        if is_so() {
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    is_so()
        .then_some(())
        .with_context(|| format!("{what}: not within {limit:?}"))
}

//! Admission wired up as `src/server.rs` does, without a listener, and the same joins with a commit for each.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use rollcall::{
    admission::{AccessTokens, Admission, Admitted, Ask, Parts, ResumeKey},
    clock::Clock,
    config::Config,
    flusher::Flusher,
    hub::Hub,
    metrics::Metrics,
    store::{
        AccessMethod, Facts, JoinParticipant, JoinRoom, JoinWrite, LockWait, RoomSettings, Store,
        postgres::PostgresStore,
    },
};
use rollcall_protocol::{OnIdle, ParticipantId};
use serde_json::Map;
use tokio::{task::JoinSet, time::Instant};
use uuid::Uuid;

use crate::{bed::Bed, series::Series};

/// A node that is in charge, and admits.
#[derive(Debug)]
pub(crate) struct Rig {
    store: Arc<PostgresStore>,
    admission: Admission,
    flusher: Flusher,
    /// The worker.
    _tasks: JoinSet<()>,
}

impl Rig {
    /// On an empty database: whoever is made later has no seat, which is no matter here.
    pub(crate) async fn new(bed: &Bed, most_in_flight: usize) -> anyhow::Result<Self> {
        let store = Arc::new(bed.store().await?);
        let config = Config::default_dev();
        store
            .take_over(config.node_terms())
            .await?
            .context("the database is new")?;
        let metrics = Arc::new(Metrics::default());
        let hub = Hub::new(&config, store.clock().clone(), Arc::clone(&metrics));
        let flusher = Flusher::new(
            hub.clone(),
            store.clone(),
            Arc::clone(&metrics),
            config.flush_interval,
        );
        let clock = Clock::system();
        let parts = Parts {
            hub,
            flusher: flusher.clone(),
            tokens: AccessTokens::new(&config, clock.clone(), &metrics).0,
            metrics,
            clock,
            resume_key: ResumeKey::new(&store.signing_key().await?),
            defaults: defaults(&config),
            queue: most_in_flight,
        };
        let (admission, worker) = Admission::new(store.clone(), parts);
        let mut tasks = JoinSet::new();
        tasks.spawn(worker.run());
        Ok(Self {
            store,
            admission,
            flusher,
            _tasks: tasks,
        })
    }

    /// Joins through admission, so many at a time; answers how long each took, in milliseconds. Who was admitted stays
    /// until the caller lets go.
    pub(crate) async fn grouped(
        &self,
        asks: &[Ask],
        in_flight: usize,
    ) -> anyhow::Result<(Series, Vec<Admitted>)> {
        let mut tasks = JoinSet::new();
        for share in asks.chunks(asks.len().div_ceil(in_flight)) {
            tasks.spawn(decide_all(self.admission.clone(), share.to_vec()));
        }
        let (mut latencies_ms, mut admitted) = (Series::default(), Vec::new());
        while let Some(done) = tasks.join_next().await {
            let (more_latencies_ms, more_admitted) = done??;
            latencies_ms.append(more_latencies_ms);
            admitted.extend(more_admitted);
        }
        Ok((latencies_ms, admitted))
    }

    /// Joins past admission, one transaction each, on so many connections; answers how long each took, in milliseconds.
    pub(crate) async fn one_by_one(
        &self,
        asks: &[Ask],
        connections: usize,
    ) -> anyhow::Result<Series> {
        let mut tasks = JoinSet::new();
        for share in asks.chunks(asks.len().div_ceil(connections)) {
            tasks.spawn(commit_each(Arc::clone(&self.store), share.to_vec()));
        }
        let mut latencies_ms = Series::default();
        while let Some(done) = tasks.join_next().await {
            latencies_ms.append(done??);
        }
        Ok(latencies_ms)
    }

    /// Writes that those who were let go have left.
    pub(crate) async fn flush(&self) -> anyhow::Result<()> {
        Ok(self.flusher.flush().await?)
    }
}

async fn decide_all(
    admission: Admission,
    asks: Vec<Ask>,
) -> anyhow::Result<(Series, Vec<Admitted>)> {
    let (mut latencies_ms, mut admitted) = (Series::default(), Vec::new());
    for ask in asks {
        let asked = Instant::now();
        let decided = admission.decide(ask).await;
        latencies_ms.push(asked.elapsed().as_secs_f64() * 1_000.0);
        admitted.push(decided.map_err(|problem| anyhow!("{}", problem.detail))?);
    }
    Ok((latencies_ms, admitted))
}

async fn commit_each(store: Arc<PostgresStore>, asks: Vec<Ask>) -> anyhow::Result<Series> {
    let mut latencies_ms = Series::default();
    for ask in asks {
        let asked = Instant::now();
        let batch = store.begin_joins(&[ask.identity()], LockWait::Wait).await?;
        let facts = batch.facts().first().context("one was asked for")?;
        let write = admit(&ask, facts)?;
        batch.commit(vec![write]).await?;
        latencies_ms.push(asked.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(latencies_ms)
}

/// What the verdict makes of it, without looking.
fn admit(ask: &Ask, facts: &Facts) -> anyhow::Result<JoinWrite> {
    let participant = match (ask, &facts.participant) {
        (_, Some(row)) => JoinParticipant::Returning {
            key: row.key,
            name: None,
        },
        (
            Ask::Invite {
                client_hash, name, ..
            },
            None,
        ) => JoinParticipant::New {
            id: ParticipantId(Uuid::now_v7()),
            user_id: None,
            name: name.clone().context("newcomers have names")?,
            access_method: AccessMethod::Invite,
            invite: Some((
                facts.invite.as_ref().context("invites are there")?.key,
                *client_hash,
            )),
        },
        (_, None) => anyhow::bail!("users are there"),
    };
    let room = facts.room.as_ref().context("rooms are there")?.key;
    Ok(JoinWrite {
        index: 0,
        keeps_last_seen: None,
        room: JoinRoom::Existing(room),
        participant,
    })
}

fn defaults(config: &Config) -> RoomSettings {
    RoomSettings {
        idle_timeout: Some(config.room_idle_timeout),
        on_idle: OnIdle::Delete,
        max_participants: None,
        max_age: None,
        metadata: Map::new(),
    }
}

//! Rule R1 on a real SQLite file: whoever was admitted finds the room there, whatever a reaper does meanwhile.
//!
//! Every task has a store of its own on the same file, so it is SQLite's locks that are tested, not our pool's order.
//! Seen to fail, within a dozen joins: when the exact look is left out (candidates are trusted), and when it is taken on
//! a reader just before `BEGIN IMMEDIATE` instead of after it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rollcall::{
    clock::Clock,
    store::{
        AccessMethod, Identity, JoinParticipant, JoinRoom, JoinWrite, LockWait, ReapCriteria,
        RoomKey, RoomSettings, Store, StoreError, sqlite::SqliteStore,
    },
};
use rollcall_protocol::{OnIdle, ParticipantId};
use serde_json::Map;
use tempfile::TempDir;
use tokio::task::JoinSet;
use uuid::Uuid;

const JOINERS: usize = 4;
const JOINS: usize = 500;
const ROOMS: usize = 5;
/// Nobody waits for it: the reaper steps the clock on by as much before each sweep, so that then every room is idle
/// that nobody joins between.
const TIMEOUT: Duration = Duration::from_secs(3_600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_that_admitted_somebody_is_not_reaped_under_them_r1() {
    let dir = TempDir::new().unwrap();
    let url = format!("sqlite://{}", dir.path().join("rollcall.db").display());
    let is_over = Arc::new(AtomicBool::new(false));
    let clock = Clock::manual("2026-11-24T12:00:00.000Z".parse().unwrap());
    let reaper = SqliteStore::open(&url, clock.clone()).await.unwrap();
    let mut joiners = JoinSet::new();
    for joiner in 0..JOINERS {
        let store = SqliteStore::open(&url, clock.clone()).await.unwrap();
        joiners.spawn({
            let clock = clock.clone();
            async move { join_many(&store, &clock, joiner).await }
        });
    }
    let mut reapers = JoinSet::new();
    let over = Arc::clone(&is_over);
    reapers.spawn(async move { reap_until(&reaper, &clock, &over).await });

    let mut looked = 0;
    while let Some(count) = joiners.join_next().await {
        looked += count.unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    let reaped = reapers.join_next().await.unwrap().unwrap();
    // Otherwise nothing was raced.
    assert!(
        looked > JOINERS * JOINS / 4,
        "only {looked} looks told something"
    );
    assert!(reaped > 100, "only {reaped} rooms were reaped");
}

/// Joins rooms in turn, each time as somebody new, and looks at once and again a join later whether the room is there.
/// Answers how often that was before it could be idle again: later the reaper would be right.
async fn join_many(store: &SqliteStore, clock: &Clock, joiner: usize) -> usize {
    let mut looked = 0;
    let mut previous = None;
    for n in 0..JOINS {
        let room = format!("r{}", (n * 7 + joiner) % ROOMS);
        let user_id = format!("{joiner}-{n}").parse().unwrap();
        let identity = Identity::User {
            room_id: room.parse().unwrap(),
            user_id,
        };
        let joined = loop {
            match join(store, &identity).await {
                Ok(joined) => break joined,
                Err(StoreError::Unavailable(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        };
        for (room, participant, idle_at) in [Some(joined), previous].into_iter().flatten() {
            let found = store.participant(room, participant).await.unwrap();
            if clock.now() < idle_at {
                assert!(
                    found.is_some(),
                    "join {n} of {joiner}: the room was reaped under it"
                );
                looked += 1;
            }
        }
        previous = Some(joined);
        // SQLite's lock between connections is not fair: without a pause the reaper never gets it.
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    looked
}

async fn join(
    store: &SqliteStore,
    identity: &Identity,
) -> Result<(RoomKey, ParticipantId, rollcall_protocol::Timestamp), StoreError> {
    let batch = store
        .begin_joins(std::slice::from_ref(identity), LockWait::Wait)
        .await?;
    let facts = &batch.facts()[0];
    let Identity::User { room_id, user_id } = identity else {
        unreachable!("all are users here")
    };
    let settings = RoomSettings {
        idle_timeout: Some(TIMEOUT),
        on_idle: OnIdle::Delete,
        max_participants: None,
        max_age: None,
        metadata: Map::new(),
    };
    let write = JoinWrite {
        index: 0,
        keeps_last_seen: None,
        room: match &facts.room {
            Some(room) => JoinRoom::Existing(room.key),
            None => JoinRoom::Create {
                id: room_id.clone(),
                settings,
            },
        },
        participant: JoinParticipant::New {
            id: ParticipantId(Uuid::now_v7()),
            user_id: Some(user_id.clone()),
            name: "somebody".parse().unwrap(),
            access_method: AccessMethod::Token,
            invite: None,
        },
    };
    let now = batch.now();
    let joined = batch.commit(vec![write]).await?.remove(0);
    Ok((joined.room.key, joined.participant.id, now + TIMEOUT))
}

async fn reap_until(store: &SqliteStore, clock: &Clock, is_over: &AtomicBool) -> usize {
    let mut reaped = 0;
    while !is_over.load(Ordering::Relaxed) {
        // Long enough for both looks of a join: after the step they tell nothing.
        tokio::time::sleep(Duration::from_millis(12)).await;
        clock.step(TIMEOUT.as_millis() as i64);
        let keys = store
            .reap_candidates(ReapCriteria::default(), RoomKey(0), 100)
            .await
            .unwrap();
        // The joins' turn: a reaper whose candidates are no longer idle is the point of this test. The lock is asked
        // for in turn by all, so a few joins between are enough.
        tokio::time::sleep(Duration::from_millis(3)).await;
        match store.reap(&keys, ReapCriteria::default(), false).await {
            Ok(rooms) => reaped += rooms.len(),
            Err(StoreError::Unavailable(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    reaped
}

//! The store behind pgbouncer in transaction mode: three server connections, shared by everybody, a transaction each.

use std::sync::Arc;

use rollcall::{
    config::Secret,
    store::{
        FlushBatch, InviteKey, ParticipantKey, ReapCriteria, RoomKey, RoomPatch, Seen, Store,
        postgres::PostgresStore,
    },
};
use rollcall_test_cluster::Pooler;
use tokio::task::JoinSet;

use crate::{
    bench::{Bench, Db},
    life::{TERMS, departed, guest, id, join, join_all, make_invite, make_room, row, see, user},
};

const STORES: usize = 4;
const ROUNDS: usize = 10;
const ROOMS: [&str; 3] = ["a", "b", "c"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_behind_a_pooler_leaves_nothing_in_its_sessions() {
    let mut bench = Bench::new();
    let pooler = Pooler::start(&bench.cluster.url());
    let direct = std::mem::replace(&mut bench.database.url, Secret::new(pooler.url()));
    let store = bench.open().await;
    store.take_over(TERMS).await.unwrap().unwrap();
    let key = store.signing_key().await.unwrap();
    assert_eq!(store.signing_key().await.unwrap(), key);
    for room in ROOMS {
        make_room(&store, room).await;
    }
    everybody_joins_while_one_flushes(&bench, &store).await;
    one_of_each(&store).await;
    for check in PostgresStore::verify(&bench.database).await {
        assert!(check.outcome.is_ok(), "{check:?}");
    }

    // The next node, over the same sessions.
    let next = bench.open().await;
    assert_eq!(next.take_over(TERMS).await.unwrap(), None);
    store.stop().await.unwrap();
    store.close().await;
    let restored = next.take_over(TERMS).await.unwrap().unwrap();
    assert!(restored.seats.len() >= STORES * ROUNDS, "{restored:?}");
    next.stop().await.unwrap();
    next.close().await;

    sessions_are_clean(&pooler).await;
    bench.database.url = direct;
}

async fn everybody_joins_while_one_flushes(bench: &Bench, store: &PostgresStore) {
    let mut joiners = JoinSet::new();
    for joiner in 0..STORES {
        let store = Arc::new(bench.open().await);
        joiners.spawn(async move {
            for round in 0..ROUNDS {
                let mut batch: Vec<_> = ROOMS
                    .iter()
                    .map(|room| user(room, &format!("{joiner}-{round}")))
                    .collect();
                // Everybody brings her along, so that rows are fought over too.
                batch.extend(ROOMS.iter().map(|room| user(room, "ann")));
                join_all(&*store, &batch).await.unwrap();
            }
            store.close().await;
        });
    }
    while !joiners.is_empty() {
        flush_everybody(store).await;
        while let Some(joined) = joiners.try_join_next() {
            joined.unwrap();
        }
    }
    let counts = store.counts().await.unwrap();
    let people = ROOMS.len() * (STORES * ROUNDS + 1);
    assert_eq!(counts.participants, people as u64);
}

async fn flush_everybody(store: &PostgresStore) {
    let mut batch = FlushBatch::default();
    for room in store.rooms(RoomKey(0), 100).await.unwrap() {
        let now = store.clock().now();
        batch.rooms.push((room.key, now));
        let people = store.participants(room.key, ParticipantKey(0), 1_000);
        for row in people.await.unwrap() {
            let state = Some(r#"{"page":3}"#.to_owned());
            batch.states.push((row.key, state));
            batch.participants.push(Seen {
                key: row.key,
                last_seen_at: now,
                departed: None,
            });
        }
    }
    batch.participants.sort_by_key(|seen| seen.key);
    batch.states.sort_by_key(|(key, _)| *key);
    assert_eq!(store.flush(&batch).await.unwrap().missing, []);
}

/// What the life above has not asked.
async fn one_of_each(store: &PostgresStore) {
    let room = make_room(store, "d").await;
    let invite = make_invite(store, "d", 1).await;
    let joined = join(store, guest(1, 1)).await.participant;
    assert_eq!(
        store.facts(&guest(1, 1)).await.unwrap().1.participant,
        Some(joined.clone())
    );
    let patch = RoomPatch {
        idle_timeout: Some(Some(std::time::Duration::from_millis(1))),
        ..RoomPatch::default()
    };
    store.patch_room(&room.id, &patch).await.unwrap().unwrap();
    store.touch_room(&room.id).await.unwrap().unwrap();
    assert_eq!(
        store.invites(room.key, InviteKey(0), 9).await.unwrap()[0].uses,
        1
    );
    let (who, key) = (joined.id, room.key);
    let removed = store.remove_participant(key, who, true, true).await;
    assert!(removed.unwrap().unwrap().is_barred);
    let restored = store.restore_participant(key, who).await;
    assert!(!restored.unwrap().unwrap().is_barred);
    assert!(
        store
            .revoke_invite(invite.id)
            .await
            .unwrap()
            .unwrap()
            .revoked_at
            .is_some()
    );
    let back = join(store, guest(1, 1)).await.participant;
    let now = store.clock().now();
    see(store, &back, now, departed(&back, now)).await.unwrap();
    assert!(!row(store, &back).await.is_active);
    let criteria = ReapCriteria::default();
    // The room is idle a millisecond after the flush; asking takes longer.
    let found = store
        .reap_candidates(criteria, RoomKey(room.key.0 - 1), 1)
        .await
        .unwrap();
    assert_eq!(found, [room.key]);
    let dry = store.reap(&[room.key], criteria, true).await.unwrap();
    assert_eq!(store.reap(&[room.key], criteria, false).await.unwrap(), dry);
    assert_eq!(store.room_by_key(room.key).await.unwrap(), None);
    let keep = std::time::Duration::ZERO;
    assert_eq!(store.purge_invites(keep, 9).await.unwrap(), 1);
    store.delete_room(&id("c")).await.unwrap().unwrap();
    store.ping().await.unwrap();
}

/// Looks at all three server connections, each held by a transaction meanwhile.
async fn sessions_are_clean(pooler: &Pooler) {
    let mut holders = Vec::new();
    for _ in 0..3 {
        let mut db = Db::connect(&pooler.url()).await;
        db.run("BEGIN").await;
        holders.push(db);
    }
    let mut sessions = Vec::new();
    for db in &mut holders {
        sessions.push(db.one("SELECT pg_backend_pid()").await);
        let prepared = db.table("SELECT statement FROM pg_prepared_statements");
        assert_eq!(prepared.await, [""; 0]);
        let settings = "SELECT name, setting FROM pg_settings
             WHERE source = 'session' AND name NOT IN ('application_name', 'client_encoding', 'DateStyle', 'TimeZone')
             UNION ALL SELECT 'rollcall.writer', w FROM current_setting('rollcall.writer', true) AS w WHERE w <> ''";
        assert_eq!(db.table(settings).await, [""; 0]);
        let locks =
            "SELECT locktype FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'";
        assert_eq!(db.table(locks).await, [""; 0]);
    }
    sessions.sort();
    sessions.dedup();
    assert_eq!(sessions.len(), 3);
}

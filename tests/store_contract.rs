//! One suite for every store: what `Store` promises, case by case. Time is a manual clock, stepped.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use rollcall::{
    clock::Clock,
    config::Database,
    store::{
        AccessMethod, Created, Departed, Facts, FlushBatch, Identity, InviteKey, InviteRow,
        JoinParticipant, JoinRoom, JoinWrite, Joined, LockWait, NewInvite, NodeTerms,
        ParticipantKey, ParticipantRow, Precision, ReapCriteria, RoomEndCause, RoomKey, RoomPatch,
        RoomRow, RoomSettings, Seen, Store, StoreError, memory::MemoryStore,
        postgres::PostgresStore, sqlite::SqliteStore,
    },
};
use rollcall_protocol::{DisplayName, InviteId, OnIdle, ParticipantId, RoomId, Timestamp, UserId};
use serde_json::{Map, json};
use tempfile::TempDir;
use uuid::Uuid;

const IDLE: Duration = Duration::from_secs(600);
const HEARTBEAT: Duration = Duration::from_secs(75);
const TERMS: NodeTerms = NodeTerms {
    heartbeat_interval: Duration::from_secs(30),
    heartbeat_timeout: HEARTBEAT,
    reconnect_grace: Duration::from_secs(10),
    restart_grace: Duration::from_secs(60),
    flush_interval: Duration::from_secs(5),
    last_seen_precision: Precision::EXACT,
};
const DAY: i64 = 86_400_000;
const KEEP: Duration = Duration::from_secs(30 * 86_400);

/// A store, a second handle of the same database, as another process has one, and the clock of both.
struct Bench {
    store: Box<dyn Store>,
    other: Box<dyn Store>,
    clock: Clock,
    /// What the database lives in, for as long as it is tested.
    _home: Box<dyn std::any::Any>,
}

impl Bench {
    async fn sqlite() -> Self {
        let dir = TempDir::new().unwrap();
        let url = format!("sqlite://{}", dir.path().join("rollcall.db").display());
        let clock = Clock::manual("2026-11-24T12:00:00.000Z".parse().unwrap());
        let store = SqliteStore::open(&url, clock.clone()).await.unwrap();
        let other = SqliteStore::open(&url, clock.clone()).await.unwrap();
        Self {
            store: Box::new(store),
            other: Box::new(other),
            clock,
            _home: Box::new(dir),
        }
    }

    /// A schema of its own in the cluster of this test run.
    async fn postgres() -> Self {
        let cluster = rollcall_test_cluster::shared();
        let mut database = Database::at(cluster.url());
        database.schema = format!("test_{}", Uuid::now_v7().simple());
        let clock = Clock::manual("2026-11-24T12:00:00.000Z".parse().unwrap());
        let store = PostgresStore::open(&database, clock.clone()).await.unwrap();
        let other = PostgresStore::open(&database, clock.clone()).await.unwrap();
        Self {
            store: Box::new(store),
            other: Box::new(other),
            clock,
            _home: Box::new(cluster),
        }
    }

    async fn memory() -> Self {
        let clock = Clock::manual("2026-11-24T12:00:00.000Z".parse().unwrap());
        let store = MemoryStore::new(clock.clone());
        Self {
            other: Box::new(store.clone()),
            store: Box::new(store),
            clock,
            _home: Box::new(()),
        }
    }

    fn step(&self, duration: Duration) {
        self.clock.step(duration.as_millis() as i64);
    }

    async fn room(&self, name: &str, settings: RoomSettings) -> RoomRow {
        match self.store.create_room(&id(name), &settings).await.unwrap() {
            Created::New(room) => room,
            Created::Exists(_) => panic!("{name} exists"),
        }
    }

    async fn invite(&self, room: &str, token: u8, max_uses: Option<u32>) -> InviteRow {
        let invite = NewInvite {
            id: InviteId(Uuid::now_v7()),
            token_hash: [token; 32],
            expires_in: None,
            max_uses,
        };
        self.store
            .create_invite(&id(room), &invite)
            .await
            .unwrap()
            .unwrap()
    }

    async fn facts(&self, identity: &Identity) -> Facts {
        self.store.facts(identity).await.unwrap().1
    }

    /// Joins as a user, as admission does, without its verdict.
    async fn join(&self, room: &str, who: &str) -> Joined {
        let identity = user(room, who);
        let batch = self
            .store
            .begin_joins(&[identity], LockWait::Skip)
            .await
            .unwrap();
        let write = admit(0, &batch.facts()[0], room, who);
        batch.commit(vec![write]).await.unwrap().remove(0)
    }

    /// Joins by an invite.
    async fn join_by_invite(
        &self,
        token: u8,
        client: Option<[u8; 32]>,
    ) -> Result<Joined, StoreError> {
        let batch = self
            .store
            .begin_joins(
                &[Identity::Invite {
                    token_hash: [token; 32],
                    client_hash: client,
                }],
                LockWait::Skip,
            )
            .await?;
        let facts = &batch.facts()[0];
        let participant = match &facts.participant {
            Some(row) => JoinParticipant::Returning {
                key: row.key,
                name: None,
            },
            None => JoinParticipant::New {
                id: ParticipantId(Uuid::now_v7()),
                user_id: None,
                name: name("guest"),
                access_method: AccessMethod::Invite,
                invite: Some((facts.invite.as_ref().unwrap().key, client)),
            },
        };
        let room = JoinRoom::Existing(facts.room.as_ref().unwrap().key);
        Ok(batch
            .commit(vec![JoinWrite {
                index: 0,
                keeps_last_seen: None,
                room,
                participant,
            }])
            .await?
            .remove(0))
    }

    async fn seen(&self, participant: &ParticipantRow, at: Timestamp, departed: Option<Departed>) {
        let participants = vec![Seen {
            key: participant.key,
            last_seen_at: at,
            departed,
        }];
        let flushed = self
            .store
            .flush(&FlushBatch {
                participants,
                ..FlushBatch::default()
            })
            .await
            .unwrap();
        assert_eq!(flushed.missing, []);
    }

    async fn row(&self, participant: &ParticipantRow) -> ParticipantRow {
        self.store
            .participant(participant.room_key, participant.id)
            .await
            .unwrap()
            .unwrap()
    }

    async fn candidates(&self, criteria: ReapCriteria) -> Vec<RoomKey> {
        self.store
            .reap_candidates(criteria, RoomKey(0), 100)
            .await
            .unwrap()
    }

    async fn reap(&self, room: RoomKey) -> usize {
        self.store
            .reap(&[room], ReapCriteria::default(), false)
            .await
            .unwrap()
            .len()
    }
}

fn id(room: &str) -> RoomId {
    room.parse().unwrap()
}

fn name(name: &str) -> DisplayName {
    name.parse().unwrap()
}

fn user(room: &str, who: &str) -> Identity {
    Identity::User {
        room_id: id(room),
        user_id: who.parse::<UserId>().unwrap(),
    }
}

fn settings() -> RoomSettings {
    RoomSettings {
        idle_timeout: Some(IDLE),
        on_idle: OnIdle::Delete,
        max_participants: None,
        max_age: None,
        metadata: Map::new(),
    }
}

fn admit(index: usize, facts: &Facts, room: &str, who: &str) -> JoinWrite {
    JoinWrite {
        index,
        keeps_last_seen: None,
        room: match &facts.room {
            Some(room) => JoinRoom::Existing(room.key),
            None => JoinRoom::Create {
                id: id(room),
                settings: settings(),
            },
        },
        participant: match &facts.participant {
            Some(row) => JoinParticipant::Returning {
                key: row.key,
                name: None,
            },
            None => JoinParticipant::New {
                id: ParticipantId(Uuid::now_v7()),
                user_id: Some(who.parse().unwrap()),
                name: name(who),
                access_method: AccessMethod::Token,
                invite: None,
            },
        },
    }
}

fn plus(at: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::from_millis(at.as_millis() + seconds * 1_000)
}

macro_rules! on_every_store {
    ($($case:ident),* $(,)?) => {
        mod sqlite { $(#[tokio::test] async fn $case() { super::$case(super::Bench::sqlite().await).await; })* }
        mod postgres { $(#[tokio::test] async fn $case() { super::$case(super::Bench::postgres().await).await; })* }
        mod memory { $(#[tokio::test] async fn $case() { super::$case(super::Bench::memory().await).await; })* }
    };
}

#[path = "store_contract/privacy.rs"]
mod privacy;

on_every_store! {
    a_join_makes_room_and_participant, a_returning_user_is_one_generation_on, a_dropped_batch_changes_nothing_r2,
    a_batch_joins_many, facts_by_resume_name_the_incarnation, max_uses_holds, the_same_client_is_the_same_participant,
    last_seen_never_goes_back_r6, a_late_departure_does_not_undo_a_join_r6, a_repeated_flush_is_harmless_r6,
    missing_rows_are_reported_r6, states_are_kept_and_end, idle_is_exact, a_seen_participant_keeps_the_room_r1,
    criteria_spare_rooms, kept_and_never_idle_rooms_stay, a_dry_run_changes_nothing, max_age_ends_a_room,
    a_flushed_room_is_no_candidate, a_reaped_rooms_invite_says_so, a_room_reborn_is_another, invites_are_purged_late,
    seats_are_restored, one_node_serves, removal_bars_and_revokes, lists_are_paged, rooms_are_patched_and_touched,
    the_signing_key_stays, an_invite_is_revoked_once, facts_of_nothing, the_clock_is_sampled,
}

async fn a_join_makes_room_and_participant(bench: Bench) {
    let joined = bench.join("r", "ann").await;
    assert_eq!(joined.room.settings, settings());
    assert_eq!(joined.room.created_at, joined.participant.joined_at);
    assert_eq!(joined.participant.generation, 1);
    assert!(joined.participant.is_active && joined.participant.left_at.is_none());
    assert_eq!(
        bench.store.room(&id("r")).await.unwrap().as_ref(),
        Some(&joined.room)
    );
    assert_eq!(
        bench.store.room_by_key(joined.room.key).await.unwrap(),
        Some(joined.room.clone())
    );
    assert_eq!(bench.row(&joined.participant).await, joined.participant);
    let counts = bench.other.counts().await.unwrap();
    assert_eq!(
        (counts.rooms, counts.participants, counts.invites),
        (1, 1, 0)
    );
}

async fn a_returning_user_is_one_generation_on(bench: Bench) {
    let first = bench.join("r", "ann").await;
    let left_at = plus(first.participant.joined_at, 5);
    bench
        .seen(
            &first.participant,
            left_at,
            Some(Departed {
                left_at,
                generation: 1,
            }),
        )
        .await;
    assert!(!bench.row(&first.participant).await.is_active);
    bench.step(Duration::from_secs(60));
    let batch = bench
        .store
        .begin_joins(&[user("r", "ann")], LockWait::Skip)
        .await
        .unwrap();
    let mut write = admit(0, &batch.facts()[0], "r", "ann");
    write.participant = JoinParticipant::Returning {
        key: first.participant.key,
        name: Some(name("Ann B")),
    };
    let now = batch.now();
    let again = batch.commit(vec![write]).await.unwrap().remove(0);
    let row = again.participant;
    assert_eq!(
        (row.key, row.generation, row.is_active, row.left_at),
        (first.participant.key, 2, true, None)
    );
    assert_eq!(
        (row.last_seen_at, row.name, row.joined_at),
        (now, name("Ann B"), first.participant.joined_at)
    );
    assert_eq!(again.room.last_active_at, now);
}

async fn a_dropped_batch_changes_nothing_r2(bench: Bench) {
    let joined = bench.join("r", "ann").await;
    bench.invite("r", 1, Some(1)).await;
    bench.step(Duration::from_secs(60));
    for _ in 0..20 {
        let batch = bench
            .store
            .begin_joins(&[user("r", "bob"), user("new", "bob")], LockWait::Skip)
            .await
            .unwrap();
        drop(batch);
    }
    // A commit that fails halfway is no commit either: the room of the second write is not there.
    let batch = bench
        .store
        .begin_joins(&[user("r", "bob"), user("r", "cid")], LockWait::Skip)
        .await
        .unwrap();
    let good = admit(0, &batch.facts()[0], "r", "bob");
    let mut bad = admit(1, &batch.facts()[1], "r", "cid");
    bad.room = JoinRoom::Existing(RoomKey(9_999));
    assert!(matches!(
        batch.commit(vec![good, bad]).await,
        Err(StoreError::Broken(_))
    ));
    let counts = bench.store.counts().await.unwrap();
    assert_eq!((counts.rooms, counts.participants), (1, 1));
    assert_eq!(bench.store.room(&id("r")).await.unwrap(), Some(joined.room));
    // The writer is free.
    bench.join("r", "bob").await;
}

async fn a_batch_joins_many(bench: Bench) {
    bench.room("r", settings()).await;
    let who: Vec<_> = (0..50).map(|n| format!("u{n}")).collect();
    let identities: Vec<_> = who.iter().map(|who| user("r", who)).collect();
    let batch = bench
        .store
        .begin_joins(&identities, LockWait::Skip)
        .await
        .unwrap();
    // Answers are in the order of the writes, which need not be the identities'.
    let writes: Vec<_> = (0..50)
        .rev()
        .step_by(2)
        .map(|n| admit(n, &batch.facts()[n], "r", &who[n]))
        .collect();
    let joined = batch.commit(writes.clone()).await.unwrap();
    assert_eq!(joined.len(), 25);
    for (write, joined) in writes.iter().zip(&joined) {
        assert_eq!(joined.participant.name.as_str(), who[write.index]);
    }
}

async fn facts_by_resume_name_the_incarnation(bench: Bench) {
    let joined = bench.join("r", "ann").await;
    let resume = Identity::Resume {
        room_key: joined.room.key,
        participant_id: joined.participant.id,
    };
    let facts = bench.facts(&resume).await;
    assert_eq!(
        (facts.room, facts.participant, facts.invite),
        (Some(joined.room), Some(joined.participant), None)
    );
    bench.store.delete_room(&id("r")).await.unwrap();
    bench.join("r", "ann").await;
    assert_eq!(bench.facts(&resume).await, Facts::default());
}

async fn max_uses_holds(bench: Bench) {
    bench.room("r", settings()).await;
    bench.invite("r", 1, Some(2)).await;
    bench.join_by_invite(1, None).await.unwrap();
    bench.join_by_invite(1, None).await.unwrap();
    assert!(matches!(
        bench.join_by_invite(1, None).await,
        Err(StoreError::Broken(_))
    ));
    let facts = bench
        .facts(&Identity::Invite {
            token_hash: [1; 32],
            client_hash: None,
        })
        .await;
    assert_eq!(facts.invite.unwrap().uses, 2);
    assert_eq!(bench.store.counts().await.unwrap().participants, 2);
}

async fn the_same_client_is_the_same_participant(bench: Bench) {
    bench.room("r", settings()).await;
    bench.invite("r", 1, Some(2)).await;
    let first = bench.join_by_invite(1, Some([7; 32])).await.unwrap();
    let again = bench.join_by_invite(1, Some([7; 32])).await.unwrap();
    assert_eq!(first.participant.id, again.participant.id);
    assert_eq!(again.participant.generation, 2);
    let other = bench.join_by_invite(1, Some([8; 32])).await.unwrap();
    assert_ne!(first.participant.id, other.participant.id);
    let facts = bench
        .facts(&Identity::Invite {
            token_hash: [1; 32],
            client_hash: Some([7; 32]),
        })
        .await;
    assert_eq!(facts.invite.unwrap().uses, 2);
    assert_eq!(facts.participant, Some(again.participant));
}

async fn last_seen_never_goes_back_r6(bench: Bench) {
    let joined = bench.join("r", "ann").await.participant;
    let later = plus(joined.joined_at, 30);
    bench.seen(&joined, later, None).await;
    bench.seen(&joined, plus(later, -10), None).await;
    assert_eq!(bench.row(&joined).await.last_seen_at, later);
    // Nor by a join after the clock was set back.
    bench.clock.step(-3_600_000);
    assert_eq!(bench.join("r", "ann").await.participant.last_seen_at, later);
    // Nor when one key comes twice in a batch.
    let seen = |at| Seen {
        key: joined.key,
        last_seen_at: at,
        departed: None,
    };
    let participants = vec![seen(plus(later, 9)), seen(plus(later, 5))];
    bench
        .store
        .flush(&FlushBatch {
            participants,
            ..FlushBatch::default()
        })
        .await
        .unwrap();
    assert_eq!(bench.row(&joined).await.last_seen_at, plus(later, 9));
}

async fn a_late_departure_does_not_undo_a_join_r6(bench: Bench) {
    let first = bench.join("r", "ann").await.participant;
    let again = bench.join("r", "ann").await.participant;
    let left_at = plus(first.joined_at, 40);
    bench
        .seen(
            &first,
            left_at,
            Some(Departed {
                left_at,
                generation: 1,
            }),
        )
        .await;
    let row = bench.row(&first).await;
    assert!(row.is_active && row.left_at.is_none());
    assert_eq!(row.last_seen_at, left_at);
    bench
        .seen(
            &again,
            plus(left_at, 9),
            Some(Departed {
                left_at,
                generation: 2,
            }),
        )
        .await;
    let row = bench.row(&first).await;
    assert_eq!(
        (row.is_active, row.left_at),
        (false, Some(plus(left_at, 9)))
    );
}

async fn a_repeated_flush_is_harmless_r6(bench: Bench) {
    let ann = bench.join("r", "ann").await;
    let at = plus(ann.participant.joined_at, 40);
    let departed = Some(Departed {
        left_at: at,
        generation: 1,
    });
    let batch = FlushBatch {
        rooms: vec![(ann.room.key, at)],
        participants: vec![Seen {
            key: ann.participant.key,
            last_seen_at: at,
            departed,
        }],
        states: vec![(ann.participant.key, Some(r#"{"a":1}"#.to_owned()))],
    };
    bench.store.flush(&batch).await.unwrap();
    let (room, row) = (
        bench.store.room(&id("r")).await.unwrap(),
        bench.row(&ann.participant).await,
    );
    assert_eq!(room.as_ref().unwrap().last_active_at, at);
    bench.store.flush(&batch).await.unwrap();
    assert_eq!(
        (
            bench.store.room(&id("r")).await.unwrap(),
            bench.row(&ann.participant).await
        ),
        (room, row)
    );
    // An older batch that comes late changes nothing either.
    let older = FlushBatch {
        rooms: vec![(ann.room.key, plus(at, -30))],
        ..FlushBatch::default()
    };
    bench.store.flush(&older).await.unwrap();
    assert_eq!(
        bench
            .store
            .room(&id("r"))
            .await
            .unwrap()
            .unwrap()
            .last_active_at,
        at
    );
}

async fn missing_rows_are_reported_r6(bench: Bench) {
    let ann = bench.join("r", "ann").await.participant;
    let at = plus(ann.joined_at, 1);
    let gone = ParticipantKey(ann.key.0 + 1_000);
    let seen = |key| Seen {
        key,
        last_seen_at: at,
        departed: None,
    };
    let batch = FlushBatch {
        participants: vec![seen(ann.key), seen(gone)],
        states: vec![(gone, Some("1".to_owned()))],
        ..FlushBatch::default()
    };
    assert_eq!(bench.store.flush(&batch).await.unwrap().missing, [gone]);
    assert_eq!(bench.row(&ann).await.last_seen_at, at);
    assert_eq!(
        bench
            .store
            .flush(&FlushBatch::default())
            .await
            .unwrap()
            .missing,
        []
    );
}

async fn states_are_kept_and_end(bench: Bench) {
    bench.store.take_over(TERMS).await.unwrap().unwrap();
    let (ann, bob) = (
        bench.join("r", "ann").await.participant,
        bench.join("r", "bob").await.participant,
    );
    let state = |key, text: Option<&str>| (key, text.map(str::to_owned));
    let states = vec![
        state(ann.key, Some(r#"{"typing":"é"}"#)),
        state(bob.key, Some("2")),
    ];
    bench
        .store
        .flush(&FlushBatch {
            states,
            ..FlushBatch::default()
        })
        .await
        .unwrap();
    let states = vec![state(bob.key, None)];
    bench
        .store
        .flush(&FlushBatch {
            states,
            ..FlushBatch::default()
        })
        .await
        .unwrap();
    bench.store.stop().await.unwrap();
    let restored = bench.other.take_over(TERMS).await.unwrap().unwrap();
    let states: Vec<_> = restored
        .seats
        .iter()
        .map(|seat| seat.state.as_deref())
        .collect();
    assert_eq!(states, [Some(r#"{"typing":"é"}"#), None]);
}

async fn idle_is_exact(bench: Bench) {
    let room = bench.room("r", settings()).await;
    let elapsed = || bench.clock.now().saturating_since(room.created_at);
    bench.step(IDLE - Duration::from_secs(5) - elapsed());
    assert_eq!(bench.candidates(ReapCriteria::default()).await, []);
    assert_eq!(bench.reap(room.key).await, 0);
    bench.step(IDLE - elapsed());
    assert_eq!(bench.candidates(ReapCriteria::default()).await, [room.key]);
    assert_eq!(bench.reap(room.key).await, 1);
    assert_eq!(bench.store.room(&id("r")).await.unwrap(), None);
    assert_eq!(bench.reap(room.key).await, 0);
}

async fn a_seen_participant_keeps_the_room_r1(bench: Bench) {
    let ann = bench.join("r", "ann").await;
    let at = plus(ann.participant.joined_at, 500);
    bench
        .seen(
            &ann.participant,
            at,
            Some(Departed {
                left_at: at,
                generation: 1,
            }),
        )
        .await;
    bench.step(IDLE + Duration::from_secs(60));
    assert_eq!(
        bench.candidates(ReapCriteria::default()).await,
        [ann.room.key]
    );
    let facts = bench.facts(&user("r", "ann")).await;
    assert_eq!(facts.last_activity, Some(at));
    assert_eq!(
        bench.store.last_activity(ann.room.key).await.unwrap(),
        Some(at)
    );
    assert_eq!(bench.reap(ann.room.key).await, 0);
    // What was found is remembered, so the next sweep does not look again.
    assert_eq!(
        bench
            .store
            .room(&id("r"))
            .await
            .unwrap()
            .unwrap()
            .last_active_at,
        at
    );
    assert_eq!(bench.candidates(ReapCriteria::default()).await, []);
    bench.step(Duration::from_secs(500));
    assert_eq!(bench.reap(ann.room.key).await, 1);
    assert_eq!(bench.store.counts().await.unwrap().participants, 0);
}

async fn criteria_spare_rooms(bench: Bench) {
    let ann = bench.join("r", "ann").await;
    bench.join("r", "bob").await;
    bench.step(IDLE * 2);
    let old = |seconds| ReapCriteria {
        min_age: Some(Duration::from_secs(seconds)),
        below_participants: None,
    };
    let small = |below| ReapCriteria {
        min_age: None,
        below_participants: Some(below),
    };
    for (criteria, goes) in [
        (old(1_300), false),
        (old(1_100), true),
        (small(2), false),
        (small(3), true),
    ] {
        assert_eq!(
            bench.candidates(criteria).await.len(),
            usize::from(goes),
            "{criteria:?}"
        );
        let would = bench
            .store
            .reap(&[ann.room.key], criteria, true)
            .await
            .unwrap();
        assert_eq!(would.len(), usize::from(goes), "{criteria:?}");
        assert!(
            would
                .iter()
                .all(|room| room.participants == 2 && room.id == id("r"))
        );
    }
    assert!(
        bench
            .store
            .reap(&[ann.room.key], small(2), false)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        bench
            .store
            .reap(&[ann.room.key], small(3), false)
            .await
            .unwrap()
            .len(),
        1
    );
}

async fn kept_and_never_idle_rooms_stay(bench: Bench) {
    let keep = bench
        .room(
            "keep",
            RoomSettings {
                on_idle: OnIdle::Keep,
                max_age: Some(IDLE),
                ..settings()
            },
        )
        .await;
    let never = bench
        .room(
            "never",
            RoomSettings {
                idle_timeout: None,
                ..settings()
            },
        )
        .await;
    bench.clock.step(400 * DAY);
    assert_eq!(bench.candidates(ReapCriteria::default()).await, []);
    let reaped = bench
        .store
        .reap(&[keep.key, never.key], ReapCriteria::default(), false)
        .await
        .unwrap();
    assert_eq!(reaped, []);
    assert_eq!(bench.store.counts().await.unwrap().rooms, 2);
}

async fn a_dry_run_changes_nothing(bench: Bench) {
    let idle = bench.room("idle", settings()).await;
    let busy = bench.join("busy", "ann").await;
    bench
        .seen(&busy.participant, plus(busy.room.created_at, 500), None)
        .await;
    bench.step(IDLE + Duration::from_secs(60));
    let keys = [idle.key, busy.room.key];
    let would = bench
        .store
        .reap(&keys, ReapCriteria::default(), true)
        .await
        .unwrap();
    assert_eq!(
        would.iter().map(|room| room.key).collect::<Vec<_>>(),
        [idle.key]
    );
    assert_eq!(
        bench.store.rooms(RoomKey(0), 10).await.unwrap(),
        [idle, busy.room]
    );
}

async fn max_age_ends_a_room(bench: Bench) {
    let room = bench
        .room(
            "r",
            RoomSettings {
                max_age: Some(IDLE * 3),
                ..settings()
            },
        )
        .await;
    bench.invite("r", 1, None).await;
    bench.step(IDLE * 3);
    bench.join("r", "ann").await;
    assert_eq!(bench.candidates(ReapCriteria::default()).await, [room.key]);
    assert_eq!(bench.reap(room.key).await, 1);
    let facts = bench
        .facts(&Identity::Invite {
            token_hash: [1; 32],
            client_hash: None,
        })
        .await;
    assert_eq!(
        facts.invite.unwrap().room_end.unwrap().cause,
        RoomEndCause::MaxAge
    );
}

async fn a_flushed_room_is_no_candidate(bench: Bench) {
    let room = bench.room("r", settings()).await;
    bench.step(IDLE * 2);
    let batch = FlushBatch {
        rooms: vec![(room.key, plus(room.created_at, 900))],
        ..FlushBatch::default()
    };
    bench.store.flush(&batch).await.unwrap();
    assert_eq!(bench.candidates(ReapCriteria::default()).await, []);
    assert_eq!(bench.reap(room.key).await, 0);
}

async fn a_reaped_rooms_invite_says_so(bench: Bench) {
    let room = bench.room("r", settings()).await;
    bench.invite("r", 1, None).await;
    bench.join_by_invite(1, Some([7; 32])).await.unwrap();
    bench.step(IDLE + Duration::from_secs(1));
    assert_eq!(bench.reap(room.key).await, 1);
    let facts = bench
        .facts(&Identity::Invite {
            token_hash: [1; 32],
            client_hash: Some([7; 32]),
        })
        .await;
    assert_eq!(
        (facts.room, facts.participant, facts.last_activity),
        (None, None, None)
    );
    let invite = facts.invite.unwrap();
    assert_eq!(
        (invite.room_key, invite.room_id, invite.uses),
        (None, id("r"), 1)
    );
    assert_eq!(invite.room_end.unwrap().cause, RoomEndCause::Idle(IDLE));
}

async fn a_room_reborn_is_another(bench: Bench) {
    let first = bench.room("r", settings()).await;
    bench.invite("r", 1, None).await;
    assert_eq!(
        bench.store.delete_room(&id("r")).await.unwrap(),
        Some(first.clone())
    );
    assert_eq!(bench.store.delete_room(&id("r")).await.unwrap(), None);
    let second = bench.room("r", settings()).await;
    assert!(second.key > first.key);
    assert!(
        matches!(bench.store.create_room(&id("r"), &settings()).await.unwrap(), Created::Exists(room) if room == second)
    );
    let facts = bench
        .facts(&Identity::Invite {
            token_hash: [1; 32],
            client_hash: None,
        })
        .await;
    assert_eq!(facts.room, None);
    assert_eq!(
        facts.invite.unwrap().room_end.unwrap().cause,
        RoomEndCause::Closed
    );
    assert_eq!(
        bench
            .store
            .invites(second.key, InviteKey(0), 10)
            .await
            .unwrap(),
        []
    );
    assert_eq!(bench.reap(first.key).await, 0);
}

async fn invites_are_purged_late(bench: Bench) {
    bench.room("r", settings()).await;
    bench.room("alive", settings()).await;
    for token in 1..=3 {
        bench.invite("r", token, None).await;
        bench.join_by_invite(token, None).await.unwrap();
    }
    bench.invite("alive", 9, None).await;
    bench.store.delete_room(&id("r")).await.unwrap();
    bench.clock.step(30 * DAY - 60_000);
    assert_eq!(bench.store.purge_invites(KEEP, 100).await.unwrap(), 0);
    bench.clock.step(120_000);
    assert_eq!(bench.store.purge_invites(KEEP, 2).await.unwrap(), 2);
    assert_eq!(bench.store.purge_invites(KEEP, 2).await.unwrap(), 1);
    assert_eq!(bench.store.purge_invites(KEEP, 2).await.unwrap(), 0);
    assert_eq!(bench.store.counts().await.unwrap().invites, 1);
}

async fn seats_are_restored(bench: Bench) {
    bench.store.take_over(TERMS).await.unwrap().unwrap();
    let [ann, bob, cid] =
        ["ann", "bob", "cid"].map(|who| (if who == "cid" { "other" } else { "r" }, who));
    let ann = bench.join(ann.0, ann.1).await;
    let bob = bench.join(bob.0, bob.1).await.participant;
    let cid = bench.join(cid.0, cid.1).await.participant;
    bench.step(Duration::from_secs(200));
    let at = bench.clock.now();
    bench
        .seen(
            &cid,
            at,
            Some(Departed {
                left_at: at,
                generation: 1,
            }),
        )
        .await;
    bench.seen(&ann.participant, plus(at, -70), None).await;
    bench.store.stop().await.unwrap();
    // How long nobody served does not count.
    bench.clock.step(DAY);
    let restored = bench.other.take_over(TERMS).await.unwrap().unwrap();
    let seats: Vec<_> = restored
        .seats
        .iter()
        .map(|seat| seat.participant.id)
        .collect();
    assert_eq!(seats, [ann.participant.id]);
    assert_eq!(
        restored
            .rooms
            .iter()
            .map(|room| room.key)
            .collect::<Vec<_>>(),
        [ann.room.key]
    );
    let row = bench.row(&bob).await;
    assert_eq!(
        (row.is_active, row.left_at),
        (false, Some(row.last_seen_at))
    );
}

async fn one_node_serves(bench: Bench) {
    assert!(bench.store.take_over(TERMS).await.unwrap().is_some());
    assert!(bench.other.take_over(TERMS).await.unwrap().is_none());
    bench.store.stop().await.unwrap();
    assert!(bench.other.take_over(TERMS).await.unwrap().is_some());
    assert!(bench.store.take_over(TERMS).await.unwrap().is_none());
    // Dropped without a stop: as a killed process.
    drop(bench.other);
    // A store may have to wait until it counts as silent; what it has not is a second node in charge before.
    let taken = async {
        while bench.store.take_over(TERMS).await.unwrap().is_none() {
            bench.clock.step(1_000);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), taken)
        .await
        .expect("a dead node is followed");
    bench.store.close().await;
}

async fn removal_bars_and_revokes(bench: Bench) {
    let room = bench.room("r", settings()).await;
    let invite = bench.invite("r", 1, None).await;
    let guest = bench
        .join_by_invite(1, Some([7; 32]))
        .await
        .unwrap()
        .participant;
    let removed = bench
        .store
        .remove_participant(room.key, guest.id, true, true)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (removed.is_active, removed.is_barred, removed.removals),
        (false, true, 1)
    );
    assert!(removed.left_at >= Some(guest.joined_at));
    let invites = bench
        .store
        .invites(room.key, InviteKey(0), 10)
        .await
        .unwrap();
    assert!(invites[0].key == invite.key && invites[0].revoked_at.is_some());
    let restored = bench
        .store
        .restore_participant(room.key, guest.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (restored.is_barred, restored.is_active, restored.removals),
        (false, false, 1)
    );
    let other = bench.join("r", "ann").await.participant;
    let removed = bench
        .store
        .remove_participant(room.key, other.id, false, false)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((removed.is_barred, removed.removals), (false, 1));
    let nobody = ParticipantId(Uuid::now_v7());
    assert_eq!(
        bench
            .store
            .remove_participant(room.key, nobody, true, true)
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        bench
            .store
            .restore_participant(room.key, nobody)
            .await
            .unwrap(),
        None
    );
    assert_eq!(
        bench
            .store
            .participant(RoomKey(room.key.0 + 999), other.id)
            .await
            .unwrap(),
        None
    );
}

async fn lists_are_paged(bench: Bench) {
    let mut keys = Vec::new();
    for n in 0..5 {
        keys.push(bench.room(&format!("r{n}"), settings()).await.key);
        bench.join("r0", &format!("u{n}")).await;
        bench.invite("r0", n, None).await;
    }
    let page = bench.store.rooms(keys[1], 2).await.unwrap();
    assert_eq!(
        page.iter().map(|room| room.key).collect::<Vec<_>>(),
        keys[2..4]
    );
    let all = bench
        .store
        .participants(keys[0], ParticipantKey(0), 100)
        .await
        .unwrap();
    assert_eq!(all.len(), 5);
    assert_eq!(
        bench
            .store
            .participants(keys[0], all[2].key, 1)
            .await
            .unwrap(),
        all[3..4]
    );
    let all = bench
        .store
        .invites(keys[0], InviteKey(0), 100)
        .await
        .unwrap();
    assert_eq!(
        bench.store.invites(keys[0], all[2].key, 100).await.unwrap(),
        all[3..]
    );
    assert_eq!(
        bench
            .store
            .participants(keys[1], ParticipantKey(0), 100)
            .await
            .unwrap(),
        []
    );
    bench.clock.step(DAY);
    let found = bench
        .store
        .reap_candidates(ReapCriteria::default(), keys[1], 2)
        .await
        .unwrap();
    assert_eq!(found, keys[2..4]);
}

async fn rooms_are_patched_and_touched(bench: Bench) {
    let room = bench.room("r", settings()).await;
    let Some(metadata) = json!({"title": "Ünï"}).as_object().cloned() else {
        unreachable!()
    };
    let patch = RoomPatch {
        idle_timeout: Some(None),
        on_idle: Some(OnIdle::Keep),
        max_participants: Some(Some(4)),
        max_age: Some(Some(IDLE)),
        metadata: Some(metadata.clone()),
    };
    let patched = bench
        .store
        .patch_room(&id("r"), &patch)
        .await
        .unwrap()
        .unwrap();
    let wanted = RoomSettings {
        idle_timeout: None,
        on_idle: OnIdle::Keep,
        max_participants: Some(4),
        max_age: Some(IDLE),
        metadata,
    };
    assert_eq!(
        (&patched.settings, patched.last_active_at),
        (&wanted, room.last_active_at)
    );
    let same = bench
        .store
        .patch_room(&id("r"), &RoomPatch::default())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(same, patched);
    bench.step(IDLE);
    let touched = bench.store.touch_room(&id("r")).await.unwrap().unwrap();
    assert!(touched.last_active_at >= room.last_active_at + IDLE);
    assert_eq!(
        bench.store.patch_room(&id("none"), &patch).await.unwrap(),
        None
    );
    assert_eq!(bench.store.touch_room(&id("none")).await.unwrap(), None);
}

async fn the_signing_key_stays(bench: Bench) {
    let key = bench.store.signing_key().await.unwrap();
    assert_ne!(key, [0; 32]);
    assert_eq!(bench.store.signing_key().await.unwrap(), key);
    assert_eq!(bench.other.signing_key().await.unwrap(), key);
}

async fn an_invite_is_revoked_once(bench: Bench) {
    bench.room("r", settings()).await;
    let invite = bench.invite("r", 1, None).await;
    let first = bench.store.revoke_invite(invite.id).await.unwrap().unwrap();
    assert!(first.revoked_at.is_some());
    bench.step(IDLE);
    assert_eq!(
        bench.store.revoke_invite(invite.id).await.unwrap(),
        Some(first)
    );
    assert_eq!(
        bench
            .store
            .revoke_invite(InviteId(Uuid::now_v7()))
            .await
            .unwrap(),
        None
    );
    let invite = NewInvite {
        id: InviteId(Uuid::now_v7()),
        token_hash: [2; 32],
        expires_in: Some(IDLE),
        max_uses: None,
    };
    let made = bench
        .store
        .create_invite(&id("r"), &invite)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(made.expires_at, Some(made.created_at + IDLE));
    assert_eq!(
        bench
            .store
            .create_invite(&id("none"), &invite)
            .await
            .unwrap(),
        None
    );
}

async fn facts_of_nothing(bench: Bench) {
    let identities = [
        Identity::Invite {
            token_hash: [1; 32],
            client_hash: Some([1; 32]),
        },
        user("r", "ann"),
        Identity::Resume {
            room_key: RoomKey(1),
            participant_id: ParticipantId(Uuid::now_v7()),
        },
    ];
    let batch = bench
        .store
        .begin_joins(&identities, LockWait::Skip)
        .await
        .unwrap();
    assert_eq!(
        batch.facts(),
        [Facts::default(), Facts::default(), Facts::default()]
    );
    assert_eq!(bench.store.last_activity(RoomKey(1)).await.unwrap(), None);
}

async fn the_clock_is_sampled(bench: Bench) {
    bench.clock.step(3 * DAY);
    bench.store.ping().await.unwrap();
    assert!(
        bench
            .store
            .clock()
            .now()
            .saturating_since(bench.clock.now())
            <= Duration::from_millis(1)
    );
    assert!(
        bench
            .clock
            .now()
            .saturating_since(bench.store.clock().now())
            < Duration::from_secs(60)
    );
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_memory_store_says_so() {
    let store = MemoryStore::new(Clock::system());
    let batch = store
        .begin_joins(&[user("r", "ann")], LockWait::Skip)
        .await
        .unwrap();
    store.set_available(false);
    let write = admit(0, &batch.facts()[0], "r", "ann");
    assert!(matches!(
        batch.commit(vec![write]).await,
        Err(StoreError::Unavailable(_))
    ));
    assert!(matches!(
        store.ping().await,
        Err(StoreError::Unavailable(_))
    ));
    store.set_available(true);
    assert_eq!(store.counts().await.unwrap().rooms, 0);
}

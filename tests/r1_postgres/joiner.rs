//! Somebody who joins again and again, decides as admission does, and looks whether it was true.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use rollcall::store::{
    AccessMethod, Facts, FlushBatch, Identity, JoinBatch, JoinParticipant, JoinRoom, JoinWrite,
    Joined, LockWait, NewInvite, RoomSettings, Seen, Store, StoreError, postgres::PostgresStore,
};
use rollcall_protocol::{InviteId, OnIdle, ParticipantId, RoomId, Timestamp};
use serde_json::Map;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::race::{Tally, sqlstate};

/// So few that a room is joined about as often as it falls idle.
const ROOMS: usize = 24;
/// In one transaction, at most.
const BATCH: usize = 6;
/// Different people of a room, so that most come back.
const PEOPLE: usize = 20;

/// One of many, with a connection of its own to look by.
pub(crate) struct Joiner {
    store: Arc<PostgresStore>,
    looks: PgConnection,
    look: String,
    activity: String,
    /// The invite that this joiner made for a room.
    invites: HashMap<usize, [u8; 32]>,
    tally: Tally,
}

/// One join to be.
struct Wish {
    room: usize,
    identity: Identity,
    /// Makes the room, and revives it when it is idle.
    creates: bool,
}

/// A wish that was granted.
struct Granted {
    wish: Wish,
    write: JoinWrite,
    raced: bool,
}

impl Joiner {
    pub(crate) fn new(store: Arc<PostgresStore>, looks: PgConnection, schema: &str) -> Self {
        // `clock_timestamp()` is later than the snapshot by which the rows are looked for.
        let look = format!(
            "SELECT EXISTS (SELECT FROM {schema}.rooms WHERE key = $1), EXISTS (SELECT FROM {schema}.participants WHERE key = $2),
                    clock_timestamp() < $3"
        );
        let activity =
            format!("SELECT max(last_seen_at) FROM {schema}.participants WHERE room_key = $1");
        Self {
            store,
            looks,
            look,
            activity,
            invites: HashMap::new(),
            tally: Tally::default(),
        }
    }

    /// Joins while any are left.
    pub(crate) async fn run(mut self, left: Arc<AtomicUsize>) -> Tally {
        loop {
            let before = self.tally.joins;
            let wishes = self.wishes().await;
            let contended = self.join(wishes, LockWait::Skip).await;
            for wish in contended {
                self.join(vec![wish], LockWait::Wait).await;
            }
            let count = usize::try_from(self.tally.joins - before).unwrap();
            let take = |left: usize| left.checked_sub(count).filter(|left| *left > 0);
            if left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                .is_err()
            {
                return self.tally;
            }
        }
    }

    /// Into different rooms: no two may make the same one.
    async fn wishes(&mut self) -> Vec<Wish> {
        let mut rooms: Vec<usize> = (0..rand::random_range(1..=BATCH))
            .map(|_| rand::random_range(0..ROOMS))
            .collect();
        rooms.sort_unstable();
        rooms.dedup();
        let mut wishes = Vec::new();
        for room in rooms {
            let person = rand::random_range(0..PEOPLE);
            let by_invite = rand::random_bool(0.25);
            let identity = match by_invite {
                true => self.invite(room, person).await,
                false => Identity::User {
                    room_id: room_id(room),
                    user_id: format!("u{person}").parse().unwrap(),
                },
            };
            wishes.push(Wish {
                room,
                identity,
                creates: !by_invite && rand::random_bool(0.85),
            });
        }
        wishes
    }

    /// With a `client` mostly. The room is made for it when there is none.
    async fn invite(&mut self, room: usize, person: usize) -> Identity {
        let client_hash = (person > 0).then(|| {
            let mut hash = [0; 32];
            hash[0] = u8::try_from(person).unwrap();
            hash
        });
        let token_hash = match self.invites.get(&room) {
            Some(token_hash) => *token_hash,
            None => self.new_invite(room).await,
        };
        Identity::Invite {
            token_hash,
            client_hash,
        }
    }

    /// The token's hash, also where the room was gone again before it could be made.
    async fn new_invite(&mut self, room: usize) -> [u8; 32] {
        let invite = NewInvite {
            id: InviteId(Uuid::now_v7()),
            token_hash: rand::random(),
            expires_in: None,
            max_uses: None,
        };
        let made = async {
            self.store
                .create_room(&room_id(room), &settings(room))
                .await?;
            self.store.create_invite(&room_id(room), &invite).await
        };
        match made.await {
            Ok(Some(_)) => drop(self.invites.insert(room, invite.token_hash)),
            Ok(None) => {}
            Err(error) => self.tally.locked(&error),
        }
        invite.token_hash
    }

    /// One transaction; answers whose rooms somebody else has locked.
    async fn join(&mut self, wishes: Vec<Wish>, wait: LockWait) -> Vec<Wish> {
        let identities: Vec<Identity> = wishes.iter().map(|wish| wish.identity.clone()).collect();
        let batch = match self.store.begin_joins(&identities, wait).await {
            Ok(batch) => batch,
            Err(error) => {
                self.tally.locked(&error);
                return Vec::new();
            }
        };
        let (now, facts) = (batch.now(), batch.facts().to_vec());
        let (mut granted, mut contended) = (Vec::new(), Vec::new());
        for (index, wish) in wishes.into_iter().enumerate() {
            if batch.is_contended(index) {
                contended.push(wish);
            } else if let Some(write) = self.judge(index, &facts[index], now, &wish, wait).await {
                granted.push(write.with(wish));
            }
        }
        self.commit(batch, granted).await;
        contended
    }

    /// What to write, unless the room is idle or gone.
    async fn judge(
        &mut self,
        index: usize,
        facts: &Facts,
        now: Timestamp,
        wish: &Wish,
        wait: LockWait,
    ) -> Option<Verdict> {
        let Some(room) = &facts.room else {
            self.invites.remove(&wish.room);
            if !wish.creates {
                self.tally.refused += 1;
                return None;
            }
            self.tally.made += 1;
            let room = JoinRoom::Create {
                id: room_id(wish.room),
                settings: settings(wish.room),
            };
            return Some(Verdict::new(index, room, wish, facts, false));
        };
        let activity = facts.last_activity.unwrap();
        let is_idle = room.idle_at(activity).unwrap() <= now;
        if is_idle && !wish.creates {
            self.tally.refused += 1;
            // The room is locked, so nothing but what the facts missed can be later.
            let latest: Option<DateTime<Utc>> =
                sqlx::query_scalar(sqlx::AssertSqlSafe(self.activity.clone()))
                    .bind(room.key.0)
                    .fetch_one(&mut self.looks)
                    .await
                    .unwrap();
            let is_later = latest.is_some_and(|latest| Timestamp::from(latest) > activity);
            self.tally.refused_wrongly += u64::from(is_later);
            return None;
        }
        let raced = is_idle || wait == LockWait::Wait;
        let room = JoinRoom::Existing(room.key);
        Some(Verdict::new(index, room, wish, facts, raced))
    }

    async fn commit(&mut self, batch: Box<dyn JoinBatch>, granted: Vec<Granted>) {
        if granted.is_empty() {
            return batch.release().await;
        }
        let now = batch.now();
        let writes = granted
            .iter()
            .map(|granted| granted.write.clone())
            .collect();
        let joined = match batch.commit(writes).await {
            Ok(joined) => joined,
            // Which one node in charge does not do: another process makes the same room at the same time.
            Err(StoreError::Broken(source))
                if makes_a_room(&granted) && sqlstate(&*source).as_deref() == Some("23502") =>
            {
                self.tally.made_twice += 1;
                return;
            }
            Err(error) => return self.tally.locked(&error),
        };
        for (granted, joined) in granted.iter().zip(&joined) {
            self.tally.joins += 1;
            self.tally.raced += u64::from(granted.raced);
            self.is_there(joined, now + timeout(granted.wish.room))
                .await;
        }
        if rand::random_bool(0.25) {
            self.heartbeats(&joined).await;
        }
    }

    /// Room and participant are found until they may be gone.
    async fn is_there(&mut self, joined: &Joined, until: Timestamp) {
        let (room, participant, in_time): (bool, bool, bool) =
            sqlx::query_as(sqlx::AssertSqlSafe(self.look.clone()))
                .bind(joined.room.key.0)
                .bind(joined.participant.key.0)
                .bind(until.to_datetime())
                .fetch_one(&mut self.looks)
                .await
                .unwrap();
        self.tally.looked += u64::from(in_time);
        self.tally.not_found += u64::from(in_time && !(room && participant));
    }

    /// As a flush writes them. Who is gone is gone; the schema's triggers know whether rightly.
    async fn heartbeats(&mut self, joined: &[Joined]) {
        let now = self.store.clock().now();
        let mut batch = FlushBatch::default();
        for joined in joined {
            batch.rooms.push((joined.room.key, now));
            batch.participants.push(Seen {
                key: joined.participant.key,
                last_seen_at: now,
                departed: None,
            });
        }
        batch.rooms.sort_unstable();
        batch.participants.sort_unstable_by_key(|seen| seen.key);
        match self.store.flush(&batch).await {
            Ok(_) => self.tally.flushed += joined.len() as u64,
            Err(error) => self.tally.locked(&error),
        }
    }
}

/// What [`Joiner::judge`] decided.
struct Verdict {
    write: JoinWrite,
    raced: bool,
}

impl Verdict {
    fn new(index: usize, room: JoinRoom, wish: &Wish, facts: &Facts, raced: bool) -> Self {
        let participant = match &facts.participant {
            Some(participant) => JoinParticipant::Returning {
                key: participant.key,
                name: None,
            },
            None => newcomer(wish, facts),
        };
        Self {
            write: JoinWrite {
                index,
                keeps_last_seen: None,
                room,
                participant,
            },
            raced,
        }
    }

    fn with(self, wish: Wish) -> Granted {
        let Self { write, raced } = self;
        Granted { wish, write, raced }
    }
}

fn newcomer(wish: &Wish, facts: &Facts) -> JoinParticipant {
    let (user_id, access_method, invite) = match &wish.identity {
        Identity::User { user_id, .. } => (Some(user_id.clone()), AccessMethod::Token, None),
        Identity::Invite { client_hash, .. } => {
            let invite = facts.invite.as_ref().unwrap().key;
            (None, AccessMethod::Invite, Some((invite, *client_hash)))
        }
        Identity::Resume { .. } => unreachable!("nobody resumes here"),
    };
    JoinParticipant::New {
        id: ParticipantId(Uuid::now_v7()),
        user_id,
        // See the triggers of the ledger.
        name: timeout(wish.room).as_millis().to_string().parse().unwrap(),
        access_method,
        invite,
    }
}

fn makes_a_room(granted: &[Granted]) -> bool {
    granted
        .iter()
        .any(|granted| matches!(granted.write.room, JoinRoom::Create { .. }))
}

fn room_id(room: usize) -> RoomId {
    format!("r{room}").parse().unwrap()
}

/// From 5 to 75 ms: some longer, some shorter than a room is left alone.
fn timeout(room: usize) -> Duration {
    Duration::from_millis(5 + (room % 8) as u64 * 10)
}

fn settings(room: usize) -> RoomSettings {
    RoomSettings {
        idle_timeout: Some(timeout(room)),
        on_idle: OnIdle::Delete,
        max_participants: None,
        max_age: None,
        metadata: Map::new(),
    }
}

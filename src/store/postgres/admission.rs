//! What decides a join, and the join itself, for a whole batch in three statements: lock, look, write.
//!
//! The look is a statement of its own, for only one that begins after the locks were taken sees what their last holders
//! did. The write moves the room's row, which is where a join and a reaper meet (rule R1; TARGETS.md, "Joining against
//! reaping"). Order of locks: rooms by key, invites by key, participants by key.

use std::collections::{BTreeMap, HashMap, HashSet};

use async_trait::async_trait;
use rollcall_protocol::{DisplayName, ParticipantId, RoomId, Timestamp, UserId};
use sqlx::{PgConnection, postgres::PgRow};
use uuid::Uuid;

use super::{
    bounded,
    rows::{self, failed, get, is_absent, millis, moment},
    transaction::{Transaction, Write, statement},
};
use crate::store::{
    Facts, Identity, InviteKey, InviteRow, JoinBatch, JoinParticipant, JoinRoom, JoinWrite, Joined,
    LockWait, ParticipantKey, Precision, RoomKey, StoreClock, StoreError,
    columns::{
        INVITE_WIDTH, PARTICIPANT_WIDTH, ROOM_WIDTH, broken, invite_columns, json, on_idle_word,
        participant_columns, room_columns,
    },
};

/// An open admission transaction.
pub(super) struct Batch {
    write: Write,
    facts: Vec<Facts>,
    contended: HashSet<usize>,
    precision: Precision,
}

impl Batch {
    /// Locks, then reads the facts.
    pub(super) async fn begin(
        mut transaction: Transaction,
        identities: &[Identity],
        wait: LockWait,
        asker: Asker<'_>,
        precision: Precision,
    ) -> Result<Self, StoreError> {
        let asked = Asked::new(identities);
        let locked = Locked::take(transaction.db(), &asked, wait).await?;
        let (now, facts) = look(transaction.db(), asked, asker).await?;
        let is_free = |facts: &Facts| locked.covers(facts);
        let contended = (0..facts.len()).filter(|n| !is_free(&facts[*n])).collect();
        Ok(Self {
            write: Write { transaction, now },
            facts,
            contended,
            precision,
        })
    }
}

#[async_trait]
impl JoinBatch for Batch {
    fn now(&self) -> Timestamp {
        self.write.now
    }

    fn facts(&self) -> &[Facts] {
        &self.facts
    }

    fn is_contended(&self, index: usize) -> bool {
        self.contended.contains(&index)
    }

    async fn commit(
        mut self: Box<Self>,
        writes: Vec<JoinWrite>,
    ) -> Result<Vec<Joined>, StoreError> {
        bounded(async move {
            let now = self.write.now;
            let joined = write(self.write.db(), now, self.precision.round(now), &writes).await?;
            self.write.commit().await?;
            Ok(joined)
        })
        .await
    }

    async fn release(self: Box<Self>) {
        // Whatever comes of it, nothing was written.
        let _ = bounded(self.write.transaction.rollback()).await;
    }
}

/// On whose behalf facts are looked up.
#[derive(Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) node: Option<i64>,
    pub(super) manual_now: Option<Timestamp>,
    pub(super) clock: &'a StoreClock,
}

/// Identities as one array a column; what an identity has not is NULL.
#[derive(Default)]
struct Asked {
    token_hashes: Vec<Option<Vec<u8>>>,
    client_hashes: Vec<Option<Vec<u8>>>,
    room_ids: Vec<Option<String>>,
    user_ids: Vec<Option<String>>,
    room_keys: Vec<Option<i64>>,
    participant_ids: Vec<Option<Uuid>>,
}

impl Asked {
    fn new(identities: &[Identity]) -> Self {
        let mut asked = Self::default();
        for identity in identities {
            let (mut token, mut client, mut room_id, mut user, mut room_key, mut id) =
                (None, None, None, None, None, None);
            match identity {
                Identity::Invite {
                    token_hash,
                    client_hash,
                } => {
                    token = Some(token_hash.to_vec());
                    client = client_hash.map(Vec::from);
                }
                Identity::User {
                    room_id: room,
                    user_id,
                } => {
                    room_id = Some(room.to_string());
                    user = Some(user_id.to_string());
                }
                Identity::Resume {
                    room_key: room,
                    participant_id,
                } => {
                    room_key = Some(room.0);
                    id = Some(participant_id.0);
                }
            }
            asked.token_hashes.push(token);
            asked.client_hashes.push(client);
            asked.room_ids.push(room_id);
            asked.user_ids.push(user);
            asked.room_keys.push(room_key);
            asked.participant_ids.push(id);
        }
        asked
    }
}

/// What this transaction has locked.
#[derive(Default)]
struct Locked {
    rooms: HashSet<RoomKey>,
    invites: HashSet<InviteKey>,
}

/// Locks rooms, then invites, each in the order of keys; the argument says what to do about what is locked already. No
/// invite without its room: it is somebody else's turn there, or the room has ended and nothing comes of the invite.
macro_rules! lock_statement {
    ($wait:literal) => {
        concat!(
            "WITH asked (key) AS (
                 SELECT room_key FROM invites WHERE token_hash = ANY ($1)
                 UNION SELECT key FROM rooms WHERE id = ANY ($2)
                 UNION SELECT unnest($3::bigint[])
             ), locked_rooms AS MATERIALIZED (
                 SELECT key FROM rooms WHERE key IN (SELECT key FROM asked) ORDER BY key FOR NO KEY UPDATE ",
            $wait,
            "), locked_invites AS MATERIALIZED (
                 SELECT key FROM invites
                 WHERE token_hash = ANY ($1) AND room_key IN (SELECT key FROM locked_rooms)
                 ORDER BY key FOR NO KEY UPDATE ",
            $wait,
            ")
             SELECT true, key FROM locked_rooms UNION ALL SELECT false, key FROM locked_invites"
        )
    };
}

impl Locked {
    async fn take(
        db: &mut PgConnection,
        asked: &Asked,
        wait: LockWait,
    ) -> Result<Self, StoreError> {
        let sql = match wait {
            LockWait::Skip => lock_statement!("SKIP LOCKED"),
            LockWait::Wait => lock_statement!(""),
        };
        let found = statement(sql)
            .bind(&asked.token_hashes)
            .bind(&asked.room_ids)
            .bind(&asked.room_keys)
            .fetch_all(db)
            .await
            .map_err(failed)?;
        let mut locked = Self::default();
        for row in &found {
            let key = get(row, 1)?;
            if get(row, 0)? {
                locked.rooms.insert(RoomKey(key));
            } else {
                locked.invites.insert(InviteKey(key));
            }
        }
        Ok(locked)
    }

    /// Whether these facts stay true until the transaction ends. Rows that came into being after the locks were taken
    /// are not covered either. An invite whose room has ended lets nobody in any more.
    fn covers(&self, facts: &Facts) -> bool {
        let has_room = |key| self.rooms.contains(&key);
        let has_invite =
            |invite: &InviteRow| invite.room_key.is_none() || self.invites.contains(&invite.key);
        facts.room.as_ref().is_none_or(|room| has_room(room.key))
            && facts.invite.as_ref().is_none_or(has_invite)
    }
}

/// Where the columns of a look begin.
const INVITE_AT: usize = 1;
const ROOM_AT: usize = INVITE_AT + INVITE_WIDTH;
const PARTICIPANT_AT: usize = ROOM_AT + ROOM_WIDTH;
const REST_AT: usize = PARTICIPANT_AT + PARTICIPANT_WIDTH;

/// The facts of one identity, without a lock, and the store's now.
pub(super) async fn facts(
    db: &mut PgConnection,
    identity: &Identity,
    asker: Asker<'_>,
) -> Result<(Timestamp, Facts), StoreError> {
    let (now, facts) = look(db, Asked::new(std::slice::from_ref(identity)), asker).await?;
    Ok((now, facts.into_iter().next().unwrap_or_default()))
}

async fn look(
    db: &mut PgConnection,
    asked: Asked,
    asker: Asker<'_>,
) -> Result<(Timestamp, Vec<Facts>), StoreError> {
    let found = statement(concat!(
        "WITH moment AS MATERIALIZED (SELECT coalesce($7, date_trunc('milliseconds', clock_timestamp())) AS now)
         SELECT asked.n, ",
        invite_columns!("i."),
        ", ",
        room_columns!("r."),
        ", ",
        participant_columns!("p."),
        ", CASE WHEN r.last_active_at + r.idle_timeout_ms * interval '1 ms' <= moment.now
                THEN greatest(r.last_active_at, (SELECT max(q.last_seen_at) FROM participants AS q WHERE q.room_key = r.key))
                ELSE r.last_active_at END,
           moment.now,
           $8 IS NOT NULL AND NOT EXISTS (SELECT FROM nodes WHERE id = $8 AND stopped_at IS NULL)
         FROM moment
         CROSS JOIN unnest($1::bytea[], $2::bytea[], $3::text[], $4::text[], $5::bigint[], $6::uuid[])
             WITH ORDINALITY AS asked (token_hash, client_hash, room_id, user_id, room_key, participant_id, n)
         LEFT JOIN invites_told AS i ON i.token_hash = asked.token_hash
         LEFT JOIN rooms AS r ON r.key = coalesce(i.room_key, asked.room_key, (SELECT key FROM rooms WHERE id = asked.room_id))
         LEFT JOIN LATERAL (
             SELECT * FROM participants AS one
             WHERE one.invite_key = i.key AND one.client_hash = asked.client_hash AND one.room_key = r.key
             UNION ALL
             SELECT * FROM participants AS one WHERE one.room_key = r.key AND one.user_id = asked.user_id
             UNION ALL
             SELECT * FROM participants AS one WHERE one.room_key = r.key AND one.id = asked.participant_id
         ) AS p ON true
         ORDER BY asked.n"
    ))
    .bind(asked.token_hashes)
    .bind(asked.client_hashes)
    .bind(asked.room_ids)
    .bind(asked.user_ids)
    .bind(asked.room_keys)
    .bind(asked.participant_ids)
    .bind(asker.manual_now.map(moment))
    .bind(asker.node)
    .fetch_all(db)
    .await
    .map_err(failed)?;
    let first = found
        .first()
        .ok_or_else(|| broken("nothing was asked, or nothing answered"))?;
    if get(first, REST_AT + 2)? {
        return Err(StoreError::Superseded);
    }
    let now = rows::timestamp(first, REST_AT + 1)?;
    asker.clock.sample(now);
    Ok((now, found.iter().map(read_facts).collect::<Result<_, _>>()?))
}

fn read_facts(row: &PgRow) -> Result<Facts, StoreError> {
    let mut facts = Facts::default();
    if !is_absent(row, INVITE_AT)? {
        facts.invite = Some(rows::invite(row, INVITE_AT)?);
    }
    if !is_absent(row, ROOM_AT)? {
        facts.room = Some(rows::room(row, ROOM_AT)?);
        facts.last_activity = rows::timestamp_if_any(row, REST_AT)?;
    }
    if !is_absent(row, PARTICIPANT_AT)? {
        facts.participant = Some(rows::participant(row, PARTICIPANT_AT)?);
    }
    Ok(facts)
}

/// Writes admitted joins in one statement. Whatever is not as the verdict saw it fails all of them.
async fn write(
    db: &mut PgConnection,
    now: Timestamp,
    seen_at: Timestamp,
    writes: &[JoinWrite],
) -> Result<Vec<Joined>, StoreError> {
    let columns = WriteColumns::new(writes)?;
    let uses = columns.uses.len();
    let found = statement(concat!(
        "WITH created AS (
             INSERT INTO rooms (id, created_at, last_active_at, idle_timeout_ms, on_idle, max_participants, max_age_ms, metadata)
             SELECT id, $1, $1, idle_timeout_ms, on_idle, max_participants, max_age_ms, metadata::json
             FROM unnest($2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::text[])
                 AS made (id, idle_timeout_ms, on_idle, max_participants, max_age_ms, metadata)
             ON CONFLICT (id) DO NOTHING RETURNING *
         ), touched AS (
             UPDATE rooms SET last_active_at = greatest(last_active_at, $1) WHERE key = ANY ($8) RETURNING *
         ), used AS (
             UPDATE invites SET uses = invites.uses + counted.uses
             FROM unnest($9::bigint[], $10::bigint[]) AS counted (key, uses) WHERE invites.key = counted.key
             RETURNING invites.key
         ), returned AS (
             UPDATE participants AS p SET is_active = true, left_at = NULL, generation = p.generation + 1,
                    last_seen_at = CASE WHEN coalesce(back.keeps_last_seen, p.keeps_last_seen)
                                        THEN greatest(p.last_seen_at, $22) ELSE p.joined_at END,
                    keeps_last_seen = coalesce(back.keeps_last_seen, p.keeps_last_seen), name = coalesce(back.name, p.name)
             FROM unnest($11::bigint[], $12::bigint[], $13::text[], $23::boolean[]) AS back (key, room_key, name, keeps_last_seen)
             WHERE p.key = back.key AND p.room_key = back.room_key
             RETURNING p.*
         ), entered AS (
             INSERT INTO participants (id, room_key, user_id, name, access_method, invite_key, client_hash, joined_at,
                    last_seen_at, keeps_last_seen)
             SELECT new.id, coalesce(new.room_key, created.key), new.user_id, new.name, new.access_method, new.invite_key,
                    new.client_hash, $1, CASE WHEN new.keeps_last_seen THEN $22 ELSE $1 END, new.keeps_last_seen
             FROM unnest($14::uuid[], $15::bigint[], $16::text[], $17::text[], $18::text[], $19::text[], $20::bigint[],
                         $21::bytea[], $24::boolean[])
                 AS new (id, room_key, room_id, user_id, name, access_method, invite_key, client_hash, keeps_last_seen)
             LEFT JOIN created ON created.id = new.room_id
             RETURNING *
         )
         SELECT ",
        room_columns!("r."),
        ", ",
        participant_columns!("p."),
        ", (SELECT count(*) FROM used)
         FROM (SELECT * FROM created UNION ALL SELECT * FROM touched) AS r
         JOIN (SELECT * FROM returned UNION ALL SELECT * FROM entered) AS p ON p.room_key = r.key"
    ))
    .bind(moment(now))
    .bind(columns.made.ids)
    .bind(columns.made.idle_timeouts)
    .bind(columns.made.on_idle)
    .bind(columns.made.max_participants)
    .bind(columns.made.max_ages)
    .bind(columns.made.metadata)
    .bind(columns.touched)
    .bind(columns.uses.keys().copied().collect::<Vec<_>>())
    .bind(columns.uses.values().copied().collect::<Vec<_>>())
    .bind(columns.back.keys)
    .bind(columns.back.room_keys)
    .bind(columns.back.names)
    .bind(columns.new.ids)
    .bind(columns.new.room_keys)
    .bind(columns.new.room_ids)
    .bind(columns.new.user_ids)
    .bind(columns.new.names)
    .bind(columns.new.access_methods)
    .bind(columns.new.invite_keys)
    .bind(columns.new.client_hashes)
    .bind(moment(seen_at))
    .bind(columns.back.keeps_last_seen)
    .bind(columns.new.keeps_last_seen)
    .fetch_all(db)
    .await
    .map_err(failed)?;
    collect(writes, &found, uses)
}

/// What was written, in the order of `writes`.
fn collect(writes: &[JoinWrite], found: &[PgRow], uses: usize) -> Result<Vec<Joined>, StoreError> {
    let mut by_key: HashMap<ParticipantKey, Joined> = HashMap::with_capacity(found.len());
    let mut by_id: HashMap<ParticipantId, ParticipantKey> = HashMap::with_capacity(found.len());
    for row in found {
        let counted: i64 = get(row, ROOM_WIDTH + PARTICIPANT_WIDTH)?;
        if counted.unsigned_abs() != uses as u64 {
            return Err(broken("an invite that was found is not there"));
        }
        let joined = Joined {
            room: rows::room(row, 0)?,
            participant: rows::participant(row, ROOM_WIDTH)?,
        };
        by_id.insert(joined.participant.id, joined.participant.key);
        by_key.insert(joined.participant.key, joined);
    }
    let find = |write: &JoinWrite| {
        let key = match &write.participant {
            JoinParticipant::Returning { key, .. } => Some(key),
            JoinParticipant::New { id, .. } => by_id.get(id),
        };
        key.and_then(|key| by_key.get(key))
            .cloned()
            .ok_or_else(|| broken("what a join was to find is not there"))
    };
    writes.iter().map(find).collect()
}

/// Writes as one array a column.
#[derive(Default)]
struct WriteColumns {
    made: MadeColumns,
    touched: Vec<i64>,
    /// How many joins came by each invite.
    uses: BTreeMap<i64, i64>,
    back: BackColumns,
    new: NewColumns,
}

#[derive(Default)]
struct MadeColumns {
    ids: Vec<String>,
    idle_timeouts: Vec<Option<i64>>,
    on_idle: Vec<&'static str>,
    max_participants: Vec<Option<i64>>,
    max_ages: Vec<Option<i64>>,
    metadata: Vec<String>,
}

#[derive(Default)]
struct BackColumns {
    keys: Vec<i64>,
    room_keys: Vec<Option<i64>>,
    names: Vec<Option<String>>,
    keeps_last_seen: Vec<Option<bool>>,
}

/// One participant that comes back, maybe twice.
#[derive(Default)]
struct Back {
    room_key: Option<i64>,
    name: Option<String>,
    keeps_last_seen: Option<bool>,
}

#[derive(Default)]
struct NewColumns {
    ids: Vec<Uuid>,
    room_keys: Vec<Option<i64>>,
    room_ids: Vec<Option<String>>,
    user_ids: Vec<Option<String>>,
    names: Vec<String>,
    access_methods: Vec<&'static str>,
    invite_keys: Vec<Option<i64>>,
    client_hashes: Vec<Option<Vec<u8>>>,
    keeps_last_seen: Vec<bool>,
}

impl WriteColumns {
    fn new(writes: &[JoinWrite]) -> Result<Self, StoreError> {
        let mut columns = Self::default();
        // By key: one participant may come back twice in a batch, and keys in order are locks in order.
        let mut back: BTreeMap<i64, Back> = BTreeMap::new();
        for write in writes {
            let (room_key, room_id) = match &write.room {
                JoinRoom::Existing(key) => (Some(key.0), None),
                JoinRoom::Create { id, settings } => {
                    columns.made.push(id, settings)?;
                    (None, Some(id.to_string()))
                }
            };
            columns.touched.extend(room_key);
            match &write.participant {
                JoinParticipant::Returning { key, name } => {
                    let back = back.entry(key.0).or_default();
                    back.room_key = room_key;
                    let name = name.as_ref().map(DisplayName::to_string);
                    back.name = name.or(back.name.take());
                    back.keeps_last_seen = write.keeps_last_seen.or(back.keeps_last_seen);
                }
                new => {
                    let keeps_last_seen = write.keeps_last_seen.unwrap_or(true);
                    columns.new.keeps_last_seen.push(keeps_last_seen);
                    columns.enter(room_key, room_id, new);
                }
            }
        }
        columns.touched.sort_unstable();
        columns.touched.dedup();
        for (key, back) in back {
            columns.back.keys.push(key);
            columns.back.room_keys.push(back.room_key);
            columns.back.names.push(back.name);
            columns.back.keeps_last_seen.push(back.keeps_last_seen);
        }
        Ok(columns)
    }

    fn enter(
        &mut self,
        room_key: Option<i64>,
        room_id: Option<String>,
        participant: &JoinParticipant,
    ) {
        let JoinParticipant::New {
            id,
            user_id,
            name,
            access_method,
            invite,
        } = participant
        else {
            return;
        };
        if let Some((key, _)) = invite {
            *self.uses.entry(key.0).or_default() += 1;
        }
        self.new.ids.push(id.0);
        self.new.room_keys.push(room_key);
        self.new.room_ids.push(room_id);
        self.new
            .user_ids
            .push(user_id.as_ref().map(UserId::to_string));
        self.new.names.push(name.to_string());
        self.new.access_methods.push(access_method.as_str());
        self.new.invite_keys.push(invite.map(|(key, _)| key.0));
        self.new
            .client_hashes
            .push(invite.and_then(|(_, client)| client).map(Vec::from));
    }
}

impl MadeColumns {
    fn push(
        &mut self,
        id: &RoomId,
        settings: &crate::store::RoomSettings,
    ) -> Result<(), StoreError> {
        self.ids.push(id.to_string());
        self.idle_timeouts.push(settings.idle_timeout.map(millis));
        self.on_idle.push(on_idle_word(settings.on_idle));
        self.max_participants
            .push(settings.max_participants.map(i64::from));
        self.max_ages.push(settings.max_age.map(millis));
        self.metadata.push(json(&settings.metadata)?);
        Ok(())
    }
}

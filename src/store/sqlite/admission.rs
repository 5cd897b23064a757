//! What decides a join, and the join itself: one `BEGIN IMMEDIATE` from the first fact to the commit, so that a reaper
//! comes wholly before or wholly after (rule R1), and a batch that is dropped changes nothing (rule R2).

use std::collections::HashMap;

use async_trait::async_trait;
use rollcall_protocol::Timestamp;
use sqlx::{SqliteConnection, query, sqlite::SqliteRow};

use super::{
    Write, bounded, invites, participants, rooms,
    rows::{self, failed},
};
use crate::store::{
    Facts, Identity, JoinBatch, JoinParticipant, JoinRoom, JoinWrite, Joined, Precision, RoomKey,
    RoomRow, StoreError,
    columns::{
        INVITE_WIDTH, PARTICIPANT_WIDTH, ROOM_WIDTH, broken, invite_columns, participant_columns,
        room_columns,
    },
};

/// An open admission transaction. Dropping it rolls back and frees the writer.
pub(super) struct Batch {
    write: Write,
    facts: Vec<Facts>,
    precision: Precision,
}

impl Batch {
    /// Reads the facts under the lock.
    pub(super) async fn begin(
        mut write: Write,
        identities: &[Identity],
        precision: Precision,
    ) -> Result<Self, StoreError> {
        let mut facts = Vec::with_capacity(identities.len());
        for identity in identities {
            let now = write.now;
            facts.push(find(write.db(), now, identity).await?);
        }
        Ok(Self {
            write,
            facts,
            precision,
        })
    }

    async fn write(mut self, writes: Vec<JoinWrite>) -> Result<Vec<Joined>, StoreError> {
        let now = self.write.now;
        let seen_at = self.precision.round(now);
        // A storm of joins is mostly into one room: its row is written once.
        let mut touched = HashMap::new();
        let mut joined = Vec::with_capacity(writes.len());
        for write in &writes {
            joined.push(join(self.write.db(), now, seen_at, &mut touched, write).await?);
        }
        self.write.commit().await?;
        Ok(joined)
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

    async fn commit(self: Box<Self>, writes: Vec<JoinWrite>) -> Result<Vec<Joined>, StoreError> {
        bounded(self.write(writes)).await
    }
}

/// The facts of one identity.
pub(super) async fn find(
    db: &mut SqliteConnection,
    now: Timestamp,
    identity: &Identity,
) -> Result<Facts, StoreError> {
    let Some(row) = fetch(db, identity).await? else {
        return Ok(Facts::default());
    };
    let is_invite = matches!(identity, Identity::Invite { .. });
    let mut facts = Facts::default();
    let mut at = 0;
    if is_invite {
        facts.invite = Some(rows::invite(&row, at)?);
        at += INVITE_WIDTH;
    }
    if rows::is_absent(&row, at)? {
        return Ok(facts);
    }
    let room = rows::room(&row, at)?;
    at += ROOM_WIDTH;
    if !rows::is_absent(&row, at)? {
        facts.participant = Some(rows::participant(&row, at)?);
    }
    debug_assert_eq!(row_width(&row), at + PARTICIPANT_WIDTH);
    facts.last_activity = Some(match room.idle_at(room.last_active_at) {
        Some(idle) if idle <= now => rooms::last_activity(db, room.key)
            .await?
            .unwrap_or(room.last_active_at),
        _ => room.last_active_at,
    });
    facts.room = Some(room);
    Ok(facts)
}

async fn fetch(
    db: &mut SqliteConnection,
    identity: &Identity,
) -> Result<Option<SqliteRow>, StoreError> {
    let row = match identity {
        Identity::Invite { token_hash, client_hash } => {
            query(concat!(
                "SELECT ",
                invite_columns!("i."),
                ", ",
                room_columns!("r."),
                ", ",
                participant_columns!("p."),
                " FROM invites AS i
                  LEFT JOIN rooms AS r ON r.key = i.room_key
                  LEFT JOIN participants AS p ON p.invite_key = i.key AND p.client_hash = ?2 AND p.room_key = r.key
                  WHERE i.token_hash = ?1"
            ))
            .bind(token_hash.to_vec())
            .bind(client_hash.map(Vec::from))
            .fetch_optional(db)
            .await
        }
        Identity::User { room_id, user_id } => {
            query(concat!(
                "SELECT ",
                room_columns!("r."),
                ", ",
                participant_columns!("p."),
                " FROM rooms AS r LEFT JOIN participants AS p ON p.room_key = r.key AND p.user_id = ?2 WHERE r.id = ?1"
            ))
            .bind(room_id.as_str())
            .bind(user_id.as_str())
            .fetch_optional(db)
            .await
        }
        Identity::Resume { room_key, participant_id } => {
            query(concat!(
                "SELECT ",
                room_columns!("r."),
                ", ",
                participant_columns!("p."),
                " FROM rooms AS r LEFT JOIN participants AS p ON p.room_key = r.key AND p.id = ?2 WHERE r.key = ?1"
            ))
            .bind(room_key.0)
            .bind(participant_id.0.to_string())
            .fetch_optional(db)
            .await
        }
    };
    row.map_err(failed)
}

async fn join(
    db: &mut SqliteConnection,
    now: Timestamp,
    seen_at: Timestamp,
    touched: &mut HashMap<RoomKey, RoomRow>,
    write: &JoinWrite,
) -> Result<Joined, StoreError> {
    let room = match &write.room {
        JoinRoom::Existing(key) => match touched.get(key) {
            Some(room) => room.clone(),
            None => rooms::touch(db, now, *key)
                .await?
                .ok_or_else(|| broken("the room of a join is not there"))?,
        },
        JoinRoom::Create { id, settings } => rooms::insert(db, now, id, settings)
            .await?
            .ok_or_else(|| broken("the room that a join makes is there already"))?,
    };
    touched.entry(room.key).or_insert_with(|| room.clone());
    let participant = participants::join(db, now, seen_at, room.key, write)
        .await?
        .ok_or_else(|| broken("the participant of a join is not there"))?;
    if let JoinParticipant::New {
        invite: Some((key, _)),
        ..
    } = &write.participant
    {
        invites::count_use(db, *key).await?;
    }
    Ok(Joined { room, participant })
}

fn row_width(row: &SqliteRow) -> usize {
    sqlx::Row::len(row)
}

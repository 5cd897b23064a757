//! Joins: facts read in one turn with the commit. Everything is checked before anything is written.

use std::collections::BTreeMap;

use async_trait::async_trait;
use rollcall_protocol::Timestamp;

use super::{
    Turn,
    tables::{Participant, Tables},
};
use crate::store::{
    Facts, Identity, InviteKey, JoinBatch, JoinParticipant, JoinRoom, JoinWrite, Joined,
    ParticipantKey, ParticipantRow, Precision, RoomKey, RoomRow, StoreError,
};

pub(super) struct Batch {
    turn: Turn,
    facts: Vec<Facts>,
    precision: Precision,
}

impl Batch {
    pub(super) fn begin(turn: Turn, identities: &[Identity], precision: Precision) -> Self {
        let tables = turn.tables();
        let facts = identities
            .iter()
            .map(|identity| tables.facts(turn.now, identity))
            .collect();
        drop(tables);
        Self {
            turn,
            facts,
            precision,
        }
    }
}

#[async_trait]
impl JoinBatch for Batch {
    fn now(&self) -> Timestamp {
        self.turn.now
    }

    fn facts(&self) -> &[Facts] {
        &self.facts
    }

    async fn commit(self: Box<Self>, writes: Vec<JoinWrite>) -> Result<Vec<Joined>, StoreError> {
        self.turn.shared.check()?;
        let mut tables = self.turn.tables();
        check(&tables, &writes)?;
        let now = self.turn.now;
        let seen_at = self.precision.round(now);
        Ok(writes
            .iter()
            .filter_map(|write| join(&mut tables, now, seen_at, write))
            .collect())
    }
}

/// Refuses what SQLite's schema refuses.
fn check(tables: &Tables, writes: &[JoinWrite]) -> Result<(), StoreError> {
    let mut uses: BTreeMap<InviteKey, u32> = BTreeMap::new();
    for (at, write) in writes.iter().enumerate() {
        let room = match &write.room {
            JoinRoom::Existing(key) => {
                demand(
                    tables.rooms.contains_key(key),
                    "the room of a join is not there",
                )?;
                Some(*key)
            }
            JoinRoom::Create { id, .. } => {
                let again = |other: &JoinWrite| matches!(&other.room, JoinRoom::Create { id: other, .. } if other == id);
                let is_taken = tables.room(id).is_some() || writes[..at].iter().any(again);
                demand(!is_taken, "the room that a join makes is there already")?;
                None
            }
        };
        match &write.participant {
            JoinParticipant::Returning { key, .. } => {
                let is_there = tables
                    .participants
                    .get(key)
                    .is_some_and(|one| Some(one.row.room_key) == room);
                demand(is_there, "the participant of a join is not there")?;
            }
            new => {
                let clashes_with = |other: &JoinWrite| {
                    other.room == write.room && is_same(&other.participant, new)
                };
                let is_known = room.is_some_and(|room| is_member(tables, room, new));
                demand(
                    !is_known && !writes[..at].iter().any(clashes_with),
                    "the participant of a join is there already",
                )?;
                if let JoinParticipant::New {
                    invite: Some((key, _)),
                    ..
                } = new
                {
                    let Some(invite) = tables.invites.get(key) else {
                        return demand(false, "an invite that was found is not there");
                    };
                    let uses = uses.entry(*key).or_insert(invite.row.uses);
                    *uses += 1;
                    demand(
                        invite.row.max_uses.is_none_or(|max| *uses <= max),
                        "an invite is used up",
                    )?;
                }
            }
        }
    }
    Ok(())
}

/// Whether two newcomers of one room would be one.
fn is_same(one: &JoinParticipant, other: &JoinParticipant) -> bool {
    let (
        JoinParticipant::New {
            id: id_one,
            user_id: user_one,
            invite: invite_one,
            ..
        },
        JoinParticipant::New {
            id: id_other,
            user_id: user_other,
            invite: invite_other,
            ..
        },
    ) = (one, other)
    else {
        return false;
    };
    let has_client = invite_one.is_some_and(|(_, client)| client.is_some());
    id_one == id_other
        || (user_one.is_some() && user_one == user_other)
        || (has_client && invite_one == invite_other)
}

/// Whether a newcomer is in the room already.
fn is_member(tables: &Tables, room: RoomKey, new: &JoinParticipant) -> bool {
    let JoinParticipant::New {
        id,
        user_id,
        invite,
        ..
    } = new
    else {
        return false;
    };
    tables.members(room).any(|row| {
        let client = tables
            .participants
            .get(&row.key)
            .and_then(|one| one.client_hash);
        let by_invite = client.is_some() && row.invite_key.map(|key| (key, client)) == *invite;
        row.id == *id || (user_id.is_some() && row.user_id == *user_id) || by_invite
    })
}

fn join(
    tables: &mut Tables,
    now: Timestamp,
    seen_at: Timestamp,
    write: &JoinWrite,
) -> Option<Joined> {
    let room = match &write.room {
        JoinRoom::Existing(key) => {
            let room = tables.rooms.get_mut(key)?;
            room.last_active_at = room.last_active_at.max(now);
            room.clone()
        }
        JoinRoom::Create { id, settings } => tables.insert_room(now, id, settings),
    };
    let participant = match &write.participant {
        JoinParticipant::Returning { key, name } => {
            let row = &mut tables.participants.get_mut(key)?.row;
            row.is_active = true;
            row.left_at = None;
            row.generation += 1;
            row.keeps_last_seen = write.keeps_last_seen.unwrap_or(row.keeps_last_seen);
            row.last_seen_at = match row.keeps_last_seen {
                true => row.last_seen_at.max(seen_at),
                false => row.joined_at,
            };
            if let Some(name) = name {
                row.name = name.clone();
            }
            row.clone()
        }
        new @ JoinParticipant::New { .. } => {
            let keeps_last_seen = write.keeps_last_seen.unwrap_or(true);
            let seen_at = if keeps_last_seen { seen_at } else { now };
            let key = enter(tables, now, &room, new)?.key;
            let row = &mut tables.participants.get_mut(&key)?.row;
            row.keeps_last_seen = keeps_last_seen;
            row.last_seen_at = seen_at;
            row.clone()
        }
    };
    Some(Joined { room, participant })
}

fn enter(
    tables: &mut Tables,
    now: Timestamp,
    room: &RoomRow,
    new: &JoinParticipant,
) -> Option<ParticipantRow> {
    let JoinParticipant::New {
        id,
        user_id,
        name,
        access_method,
        invite,
    } = new
    else {
        return None;
    };
    let row = ParticipantRow {
        key: ParticipantKey(tables.next_key()),
        room_key: room.key,
        id: *id,
        user_id: user_id.clone(),
        name: name.clone(),
        access_method: *access_method,
        invite_key: invite.map(|(key, _)| key),
        is_active: true,
        joined_at: now,
        last_seen_at: now,
        keeps_last_seen: true,
        left_at: None,
        generation: 1,
        removals: 0,
        is_barred: false,
    };
    if let Some((key, _)) = invite {
        tables.invites.get_mut(key)?.row.uses += 1;
    }
    let client_hash = invite.and_then(|(_, client)| client);
    tables.insert_participant(Participant {
        row: row.clone(),
        client_hash,
        state: None,
    });
    Some(row)
}

fn demand(holds: bool, otherwise: &'static str) -> Result<(), StoreError> {
    if holds {
        Ok(())
    } else {
        Err(StoreError::Broken(otherwise.into()))
    }
}

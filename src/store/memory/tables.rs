//! The tables, and what is done to them under one lock. No waiting, no clock: `now` is an argument.

use std::collections::BTreeMap;

use rollcall_protocol::{ParticipantId, RoomId, Timestamp};

use crate::store::{
    Departed, Facts, FlushBatch, Flushed, Identity, InviteKey, InviteRow, NewInvite, NodeTerms,
    ParticipantKey, ParticipantRow, Precision, ReapCriteria, ReapedRoom, Restored, RoomEnd,
    RoomEndCause, RoomKey, RoomRow, RoomSettings, SavedSeat, Seen, StoreError,
};

/// A whole database.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) rooms: BTreeMap<RoomKey, RoomRow>,
    pub(super) participants: BTreeMap<ParticipantKey, Participant>,
    pub(super) invites: BTreeMap<InviteKey, Invite>,
    pub(super) nodes: BTreeMap<i64, Node>,
    /// The node that has the database for itself.
    pub(super) serving: Option<i64>,
    pub(super) signing_key: Option<[u8; 32]>,
    room_ids: BTreeMap<RoomId, RoomKey>,
    /// Where each room's participants are.
    of_room: BTreeMap<(RoomKey, ParticipantKey), ()>,
    last_key: i64,
}

#[derive(Debug)]
pub(super) struct Participant {
    pub(super) row: ParticipantRow,
    pub(super) client_hash: Option<[u8; 32]>,
    pub(super) state: Option<String>,
}

#[derive(Debug)]
pub(super) struct Invite {
    pub(super) row: InviteRow,
    pub(super) token_hash: [u8; 32],
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) started_at: Timestamp,
    pub(super) flushed_at: Option<Timestamp>,
    pub(super) stopped_at: Option<Timestamp>,
    pub(super) precision: Precision,
}

impl Tables {
    /// A key that nothing had before.
    pub(super) fn next_key(&mut self) -> i64 {
        self.last_key += 1;
        self.last_key
    }

    pub(super) fn room(&self, id: &RoomId) -> Option<&RoomRow> {
        self.rooms.get(self.room_ids.get(id)?)
    }

    pub(super) fn room_mut(&mut self, id: &RoomId) -> Option<&mut RoomRow> {
        self.rooms.get_mut(self.room_ids.get(id)?)
    }

    /// A room's participants by key.
    pub(super) fn members(&self, room: RoomKey) -> impl Iterator<Item = &ParticipantRow> {
        let keys = self
            .of_room
            .range((room, ParticipantKey(i64::MIN))..=(room, ParticipantKey(i64::MAX)));
        keys.filter_map(|((_, key), ())| self.participants.get(key))
            .map(|participant| &participant.row)
    }

    pub(super) fn member_mut(
        &mut self,
        room: RoomKey,
        id: ParticipantId,
    ) -> Option<&mut ParticipantRow> {
        let key = self.members(room).find(|row| row.id == id)?.key;
        self.participants
            .get_mut(&key)
            .map(|participant| &mut participant.row)
    }

    pub(super) fn size(&self, room: RoomKey) -> u64 {
        self.members(room).count() as u64
    }

    pub(super) fn last_activity(&self, room: &RoomRow) -> Timestamp {
        self.members(room.key)
            .map(|row| row.last_seen_at)
            .fold(room.last_active_at, Timestamp::max)
    }

    pub(super) fn insert_room(
        &mut self,
        now: Timestamp,
        id: &RoomId,
        settings: &RoomSettings,
    ) -> RoomRow {
        let key = RoomKey(self.next_key());
        let room = RoomRow {
            key,
            id: id.clone(),
            created_at: now,
            last_active_at: now,
            settings: settings.clone(),
        };
        self.rooms.insert(key, room.clone());
        self.room_ids.insert(id.clone(), key);
        room
    }

    pub(super) fn insert_participant(&mut self, participant: Participant) {
        let row = &participant.row;
        self.of_room.insert((row.room_key, row.key), ());
        self.participants.insert(row.key, participant);
    }

    pub(super) fn insert_invite(
        &mut self,
        now: Timestamp,
        room: &RoomRow,
        invite: &NewInvite,
    ) -> Result<InviteRow, StoreError> {
        let is_taken =
            |old: &Invite| old.row.id == invite.id || old.token_hash == invite.token_hash;
        if self.invites.values().any(is_taken) {
            return Err(StoreError::Broken(
                "an invite's id or token is taken".into(),
            ));
        }
        let row = InviteRow {
            key: InviteKey(self.next_key()),
            id: invite.id,
            room_key: Some(room.key),
            room_id: room.id.clone(),
            created_at: now,
            expires_at: invite.expires_in.map(|lifetime| now + lifetime),
            max_uses: invite.max_uses,
            uses: 0,
            revoked_at: None,
            room_end: None,
        };
        self.invites.insert(
            row.key,
            Invite {
                row: row.clone(),
                token_hash: invite.token_hash,
            },
        );
        Ok(row)
    }

    pub(super) fn facts(&self, now: Timestamp, identity: &Identity) -> Facts {
        let mut facts = Facts::default();
        match identity {
            Identity::Invite {
                token_hash,
                client_hash,
            } => {
                let Some(invite) = self
                    .invites
                    .values()
                    .find(|invite| invite.token_hash == *token_hash)
                else {
                    return facts;
                };
                facts.room = invite
                    .row
                    .room_key
                    .and_then(|key| self.rooms.get(&key))
                    .cloned();
                let is_same = |row: &&ParticipantRow| {
                    row.invite_key == Some(invite.row.key)
                        && client_hash.is_some()
                        && self
                            .participants
                            .get(&row.key)
                            .is_some_and(|one| one.client_hash == *client_hash)
                };
                facts.participant = facts
                    .room
                    .as_ref()
                    .and_then(|room| self.members(room.key).find(is_same))
                    .cloned();
                facts.invite = Some(invite.row.clone());
            }
            Identity::User { room_id, user_id } => {
                facts.room = self.room(room_id).cloned();
                let mut members = facts.room.iter().flat_map(|room| self.members(room.key));
                facts.participant = members
                    .find(|row| row.user_id.as_ref() == Some(user_id))
                    .cloned();
            }
            Identity::Resume {
                room_key,
                participant_id,
            } => {
                facts.room = self.rooms.get(room_key).cloned();
                facts.participant = self
                    .members(*room_key)
                    .find(|row| row.id == *participant_id)
                    .cloned();
            }
        }
        facts.last_activity =
            facts
                .room
                .as_ref()
                .map(|room| match room.idle_at(room.last_active_at) {
                    Some(idle) if idle <= now => self.last_activity(room),
                    _ => room.last_active_at,
                });
        facts
    }

    pub(super) fn flush(&mut self, batch: &FlushBatch) -> Flushed {
        for (key, at) in &batch.rooms {
            self.rooms
                .entry(*key)
                .and_modify(|room| room.last_active_at = room.last_active_at.max(*at));
        }
        let mut missing = Vec::new();
        for seen in &batch.participants {
            match self.participants.get_mut(&seen.key) {
                Some(participant) => see(&mut participant.row, seen),
                None => missing.push(seen.key),
            }
        }
        for (key, state) in &batch.states {
            match self.participants.get_mut(key) {
                Some(participant) => participant.state.clone_from(state),
                None => missing.push(*key),
            }
        }
        missing.sort_unstable();
        missing.dedup();
        Flushed {
            missing,
            ..Flushed::default()
        }
    }

    pub(super) fn reap(
        &mut self,
        now: Timestamp,
        keys: &[RoomKey],
        criteria: ReapCriteria,
        dry_run: bool,
    ) -> Vec<ReapedRoom> {
        let mut reaped = Vec::new();
        for key in keys {
            let Some(room) = self.rooms.get(key) else {
                continue;
            };
            let last_activity = self.last_activity(room);
            match criteria.cause(room, last_activity, self.size(*key), now) {
                Some(cause) => {
                    reaped.push(self.reaped(room));
                    if !dry_run {
                        self.end_room(now, *key, cause);
                    }
                }
                None if dry_run => {}
                None => {
                    self.rooms
                        .entry(*key)
                        .and_modify(|room| room.last_active_at = last_activity);
                }
            }
        }
        reaped
    }

    pub(super) fn reaped(&self, room: &RoomRow) -> ReapedRoom {
        ReapedRoom {
            key: room.key,
            id: room.id.clone(),
            participants: self.size(room.key),
        }
    }

    pub(super) fn end_room(&mut self, now: Timestamp, key: RoomKey, cause: RoomEndCause) {
        let Some(room) = self.rooms.remove(&key) else {
            return;
        };
        self.room_ids.remove(&room.id);
        self.participants
            .retain(|_, participant| participant.row.room_key != key);
        self.of_room.retain(|(room, _), ()| *room != key);
        for invite in self
            .invites
            .values_mut()
            .filter(|invite| invite.row.room_key == Some(key))
        {
            invite.row.room_key = None;
            invite.row.room_end = Some(RoomEnd {
                ended_at: now,
                cause,
            });
        }
    }

    pub(super) fn purge_departed(&mut self, before: Timestamp, limit: usize) -> u64 {
        let is_old = |row: &&ParticipantRow| {
            !row.is_active && !row.is_barred && row.left_at.is_some_and(|left| left < before)
        };
        let rows = self.participants.values().map(|one| &one.row);
        let old: Vec<_> = rows.filter(is_old).take(limit).cloned().collect();
        for row in &old {
            self.rooms
                .entry(row.room_key)
                .and_modify(|room| room.last_active_at = room.last_active_at.max(row.last_seen_at));
            self.participants.remove(&row.key);
            self.of_room.remove(&(row.room_key, row.key));
        }
        old.len() as u64
    }

    /// Enters a node; see the SQLite store's `node` for what counts as the previous flush.
    pub(super) fn take_over(&mut self, now: Timestamp, terms: NodeTerms) -> Restored {
        let of = |node: &Node| {
            let silence = terms.heartbeat_timeout + node.precision.step();
            node.flushed_at.map(|flushed| (flushed, silence))
        };
        let flushed = self.nodes.values().rev().find_map(of).or_else(|| {
            let first = self.nodes.values().next()?;
            Some((
                first.started_at,
                terms.heartbeat_timeout + first.precision.step(),
            ))
        });
        let is_lately = |row: &ParticipantRow| {
            flushed.is_some_and(|(flushed, silence)| {
                !row.keeps_last_seen || row.last_seen_at + silence > flushed
            })
        };
        for participant in self.participants.values_mut() {
            let row = &mut participant.row;
            if row.is_active && !is_lately(row) {
                row.is_active = false;
                row.left_at = Some(row.last_seen_at);
            }
            if !row.is_active {
                participant.state = None;
            }
        }
        for node in self.nodes.values_mut() {
            node.stopped_at.get_or_insert(now);
        }
        let id = self.next_key();
        self.nodes.insert(
            id,
            Node {
                started_at: now,
                flushed_at: None,
                stopped_at: None,
                precision: terms.last_seen_precision,
            },
        );
        self.serving = Some(id);
        let active = || {
            self.participants
                .values()
                .filter(|participant| participant.row.is_active)
        };
        let has_seat = |room: &&RoomRow| self.members(room.key).any(|row| row.is_active);
        let seat = |one: &Participant| SavedSeat {
            participant: one.row.clone(),
            state: one.state.clone(),
        };
        Restored {
            rooms: self.rooms.values().filter(has_seat).cloned().collect(),
            seats: active().map(seat).collect(),
        }
    }
}

/// The first `limit` of what is already in order.
pub(super) fn page<'a, T: Clone + 'a>(rows: impl Iterator<Item = &'a T>, limit: u32) -> Vec<T> {
    rows.take(limit as usize).cloned().collect()
}

fn see(row: &mut ParticipantRow, seen: &Seen) {
    if !row.keeps_last_seen {
        let ends = |departed: Departed| row.is_active && row.generation <= departed.generation;
        if seen.departed.is_some_and(ends) {
            row.is_active = false;
            row.left_at = Some(row.last_seen_at);
        }
        return;
    }
    row.last_seen_at = row.last_seen_at.max(seen.last_seen_at);
    match seen.departed {
        Some(departed) if row.is_active && row.generation <= departed.generation => {
            row.is_active = false;
            row.left_at = Some(departed.left_at.max(row.last_seen_at));
        }
        _ => row.left_at = row.left_at.map(|left| left.max(seen.last_seen_at)),
    }
}

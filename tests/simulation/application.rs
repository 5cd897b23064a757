//! What the application does by the management API, as `src/http/api` does it, and others behind everybody's back.

use std::time::Duration;

use rollcall::{
    hub::Ending,
    store::{Created, NewInvite, RoomPatch, RoomRow, RoomSettings},
};
use rollcall_protocol::{InviteId, OnIdle, ParticipantId, RoomId};
use serde_json::{json, value::RawValue};
use tokio::time::Instant;

use crate::{
    model::{Conn, Invite, Room},
    world::{MADE, SLOTS, World},
};

impl World {
    /// More than a room's ring holds, right after a change: every reader is lapped.
    pub async fn flood(&mut self) {
        let Some(number) = self.pick(&self.which(Conn::is_healthy)) else {
            return;
        };
        for n in 0..2 {
            self.say(
                number,
                json!({"type": "update", "state": {"flood": self.log.step() * 2 + n}}),
            );
            self.settle().await;
        }
        self.conns[number].said_state = Some(Instant::now());
        let Some(key) = self.conns[number].room else {
            return;
        };
        self.log.note(format_args!("flood into room {key}"));
        let hub = &self.node().hub;
        hub.present(key, None, 0);
        for _ in 0..200 {
            let payload = RawValue::from_string(format!("\"{}\"", "y".repeat(300)));
            hub.announce(key, "flood".into(), payload.unwrap_or_default(), None);
        }
        self.lapped_until = Instant::now() + Duration::from_millis(2_200);
    }

    pub fn slot_id(slot: usize) -> RoomId {
        SLOTS[slot].parse().expect("a valid room id")
    }

    pub async fn remove(&mut self) {
        let here = self.rows.participants.iter().filter(|row| row.is_active);
        let here: Vec<(_, ParticipantId, String)> = here
            .map(|row| (row.room_key, row.id, row.name.to_string()))
            .collect();
        if here.is_empty() {
            return;
        }
        let (key, id, who) = here[self.draw(here.len())].clone();
        let bar = self.chance(50);
        let removed = self.store.remove_participant(key, id, bar, false).await;
        self.log.note(format_args!(
            "remove {who} from {key}, bar {bar}: {}",
            removed.is_ok()
        ));
        if let Ok(Some(row)) = removed {
            self.node().hub.remove(key, id, row.removals);
            let member = self.members.entry((key, who)).or_default();
            member.is_barred |= bar;
            member.removals.push(Instant::now());
            member.removed_at = Some(Instant::now());
            let now = Instant::now();
            member.restored = member.restored.map(|_| (now, now));
        }
    }

    pub async fn restore(&mut self) {
        let barred = self.rows.participants.iter().find(|row| row.is_barred);
        let Some((key, id, who)) = barred.map(|row| (row.room_key, row.id, row.name.to_string()))
        else {
            return;
        };
        if let Ok(Some(_)) = self.store.restore_participant(key, id).await {
            self.log.note(format_args!("restore {who} in {key}"));
            self.members.entry((key, who)).or_default().is_barred = false;
        }
    }

    pub async fn revoke(&mut self) {
        if self.invites.is_empty() {
            return;
        }
        let at = self.draw(self.invites.len());
        if self.store.revoke_invite(self.invites[at].id).await.is_ok() {
            self.log.note(format_args!("revoke invite {at}"));
            self.invites[at].is_revoked = true;
        }
    }

    pub async fn close_room(&mut self) {
        let slot = self.draw(SLOTS.len());
        if let Ok(Some(row)) = self.store.delete_room(&Self::slot_id(slot)).await {
            self.log
                .note(format_args!("close {} ({})", SLOTS[slot], row.key));
            self.node().hub.evict(row.key, Ending::RoomClosed);
            self.closed(slot, row);
        }
    }

    pub async fn delete_by_others(&mut self) {
        let slot = self.draw(SLOTS.len());
        let Some(row) = self.rows.room_of(SLOTS[slot]).cloned() else {
            return;
        };
        let key = row.key;
        self.database.delete_room(&Self::slot_id(slot)).await;
        self.log
            .note(format_args!("somebody deletes {} ({key})", SLOTS[slot]));
        self.closed(slot, row);
    }

    /// The room is over, maybe before anybody looked at it.
    fn closed(&mut self, slot: usize, row: RoomRow) {
        let room = self.rooms.entry(row.key);
        let room = room.or_insert_with(|| Room::new(slot, row));
        room.closed = Some(Instant::now());
    }

    pub async fn touch(&mut self) {
        let (slot, now) = (self.draw(SLOTS.len()), self.log.now());
        if let Ok(Some(row)) = self.store.touch_room(&Self::slot_id(slot)).await {
            self.log.note(format_args!("touch {}", SLOTS[slot]));
            let latest = self.log.now();
            self.rooms.entry(row.key).and_modify(|room| {
                (room.known, room.latest) = (room.known.max(now), room.latest.max(latest));
            });
        }
    }

    pub async fn patch(&mut self) {
        let slot = self.draw(SLOTS.len());
        let timeouts = [60, 120, 180].map(Duration::from_secs);
        let mut patch = RoomPatch::default();
        match self.draw(3) {
            0 => patch.idle_timeout = Some(self.pick(&timeouts)),
            1 => patch.max_participants = Some(self.pick(&[None, Some(2), Some(3)]).flatten()),
            _ => {
                patch.metadata = json!({"step": self.log.step()}).as_object().cloned();
            }
        }
        if let Ok(Some(row)) = self.store.patch_room(&Self::slot_id(slot), &patch).await {
            self.log
                .note(format_args!("patch {} {patch:?}", SLOTS[slot]));
            self.node().hub.set_row(row);
        }
    }

    /// The application makes a room that is not there, and an invite for it.
    pub async fn create_missing(&mut self) {
        let slot = self.draw(MADE);
        self.create(slot).await;
    }

    pub async fn create(&mut self, slot: usize) {
        let second = Duration::from_secs(1);
        let settings = RoomSettings {
            idle_timeout: match slot {
                0 => Some(self.config.room_idle_timeout),
                3 => None,
                _ => Some(second * 60),
            },
            on_idle: if slot == 2 {
                OnIdle::Keep
            } else {
                OnIdle::Delete
            },
            max_participants: (slot == 2).then_some(3),
            max_age: (slot == 3).then_some(second * 900),
            metadata: serde_json::Map::new(),
        };
        let created = self
            .store
            .create_room(&Self::slot_id(slot), &settings)
            .await;
        if let Ok(Created::New(row)) = created {
            self.log
                .note(format_args!("create {} ({})", SLOTS[slot], row.key));
            for _ in 0..2 {
                self.invite_to(slot).await;
            }
        }
    }

    pub async fn invite(&mut self) {
        let slot = self.draw(MADE);
        self.invite_to(slot).await;
    }

    pub async fn invite_to(&mut self, slot: usize) {
        let token = format!("invite-{}-{}", self.invites.len(), self.log.step());
        let lives = self.pick(&[None, None, Some(240)]).flatten();
        let wish = NewInvite {
            id: InviteId(uuid::Uuid::from_u128(self.invites.len() as u128 + 1)),
            token_hash: rollcall::admission::hash(&token),
            expires_in: lives.map(Duration::from_secs),
            max_uses: self.pick(&[None, Some(1), Some(2), Some(3)]).flatten(),
        };
        let made = self.store.create_invite(&Self::slot_id(slot), &wish).await;
        let Ok(Some(row)) = made else { return };
        let Some(room) = row.room_key else { return };
        self.log.note(format_args!(
            "invite {} to {}: {lives:?}",
            self.invites.len(),
            SLOTS[slot]
        ));
        self.invites.push(Invite {
            key: row.key,
            id: row.id,
            token,
            room,
            slot,
            max_uses: row.max_uses,
            expires_at: row.expires_at.map(rollcall_protocol::Timestamp::as_millis),
            is_revoked: false,
        });
    }

    pub async fn sweep(&mut self) {
        let reaper = self.node().reaper.clone();
        let swept = reaper.sweep(false).await.map(|sweep| sweep.rooms);
        self.log.note(format_args!("sweep: {swept:?}"));
    }
}

//! The store in memory, for tests with paused time and for trials: no timers, no I/O, nothing kept.
//!
//! It keeps the contract as SQLite does: writers take turns, and an open [`JoinBatch`] has the turn until it ends, while
//! readers see what was committed. Clones are handles of one database, each a node of its own: a second server in the
//! same test is a restarted first.

mod admission;
mod tables;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use rollcall_protocol::{InviteId, ParticipantId, RoomId, Timestamp};
use tokio::sync::OwnedMutexGuard;

use self::tables::{Node, Tables, page};
use crate::{
    clock::Clock,
    store::{
        Counts, Created, Facts, FlushBatch, Flushed, Identity, InviteKey, InviteRow, JoinBatch,
        LockWait, NewInvite, NodeTerms, ParticipantKey, ParticipantRow, Precision, ReapCriteria,
        ReapedRoom, Restored, RoomEndCause, RoomKey, RoomPatch, RoomRow, RoomSettings, Store,
        StoreClock, StoreError,
    },
};

/// Rooms, participants and invites for as long as the process lives.
#[derive(Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    clock: StoreClock,
    /// This handle's row of `nodes`, from a successful `take_over` to `stop`, `close` or drop.
    node: Mutex<Option<i64>>,
    /// Of the terms under which it was taken over.
    precision: Mutex<Precision>,
}

#[derive(Debug)]
struct Shared {
    source: Clock,
    is_available: AtomicBool,
    /// The turn to write. Fair, and held over awaits, which `tables` is not.
    turn: Arc<tokio::sync::Mutex<()>>,
    tables: Mutex<Tables>,
}

impl Shared {
    fn check(&self) -> Result<(), StoreError> {
        if self.is_available.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(StoreError::Unavailable(
                "the memory store was told to be unavailable".into(),
            ))
        }
    }
}

/// A writer's turn.
struct Turn {
    shared: Arc<Shared>,
    now: Timestamp,
    _turn: OwnedMutexGuard<()>,
}

impl Turn {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.shared.tables.lock()
    }
}

impl MemoryStore {
    /// Makes an empty store.
    pub fn new(clock: Clock) -> Self {
        Self::handle(Arc::new(Shared {
            source: clock,
            is_available: AtomicBool::new(true),
            turn: Arc::default(),
            tables: Mutex::default(),
        }))
    }

    /// Makes every call of every handle fail as unavailable, or work again. Nothing is lost.
    pub fn set_available(&self, is_available: bool) {
        self.shared
            .is_available
            .store(is_available, Ordering::Relaxed);
    }

    fn handle(shared: Arc<Shared>) -> Self {
        let clock = StoreClock::new(shared.source.now());
        Self {
            shared,
            clock,
            node: Mutex::new(None),
            precision: Mutex::default(),
        }
    }

    fn now(&self) -> Timestamp {
        let now = self.shared.source.now();
        self.clock.sample(now);
        now
    }

    fn read(&self) -> Result<MutexGuard<'_, Tables>, StoreError> {
        self.shared.check()?;
        self.now();
        Ok(self.shared.tables.lock())
    }

    async fn turn(&self) -> Result<Turn, StoreError> {
        self.shared.check()?;
        let turn = Arc::clone(&self.shared.turn).lock_owned().await;
        self.shared.check()?;
        Ok(Turn {
            shared: Arc::clone(&self.shared),
            now: self.now(),
            _turn: turn,
        })
    }

    fn release(&self) -> Option<i64> {
        let node = self.node.lock().take()?;
        self.shared
            .tables
            .lock()
            .serving
            .take_if(|serving| *serving == node)
    }
}

impl Clone for MemoryStore {
    /// Another handle of the same database, as another process would have one.
    fn clone(&self) -> Self {
        Self::handle(Arc::clone(&self.shared))
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        self.release();
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn clock(&self) -> &StoreClock {
        &self.clock
    }

    async fn take_over(&self, terms: NodeTerms) -> Result<Option<Restored>, StoreError> {
        let turn = self.turn().await?;
        let mut tables = turn.tables();
        let own = *self.node.lock();
        if tables.serving.is_some() && tables.serving != own {
            return Ok(None);
        }
        let restored = tables.take_over(turn.now, terms);
        *self.node.lock() = tables.serving;
        *self.precision.lock() = terms.last_seen_precision;
        Ok(Some(restored))
    }

    async fn stop(&self) -> Result<(), StoreError> {
        let turn = self.turn().await?;
        if let Some(node) = self.release() {
            turn.tables()
                .nodes
                .entry(node)
                .and_modify(|node| node.stopped_at = Some(turn.now));
        }
        Ok(())
    }

    async fn close(&self) {
        self.release();
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.read().map(drop)
    }

    async fn signing_key(&self) -> Result<[u8; 32], StoreError> {
        let mut tables = self.read()?;
        if let Some(key) = tables.signing_key {
            return Ok(key);
        }
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).map_err(|error| StoreError::Broken(error.into()))?;
        tables.signing_key = Some(key);
        Ok(key)
    }

    async fn begin_joins(
        &self,
        identities: &[Identity],
        _wait: LockWait,
    ) -> Result<Box<dyn JoinBatch>, StoreError> {
        let turn = self.turn().await?;
        let precision = *self.precision.lock();
        Ok(Box::new(admission::Batch::begin(
            turn, identities, precision,
        )))
    }

    async fn facts(&self, identity: &Identity) -> Result<(Timestamp, Facts), StoreError> {
        let tables = self.read()?;
        let now = self.now();
        Ok((now, tables.facts(now, identity)))
    }

    async fn flush(&self, batch: &FlushBatch) -> Result<Flushed, StoreError> {
        let turn = self.turn().await?;
        let mut tables = turn.tables();
        let flushed = tables.flush(batch);
        let own = *self.node.lock();
        if let Some(node) = own {
            tables
                .nodes
                .entry(node)
                .and_modify(|node: &mut Node| node.flushed_at = Some(turn.now));
        }
        Ok(flushed)
    }

    async fn reap_candidates(
        &self,
        criteria: ReapCriteria,
        after: RoomKey,
        limit: u32,
    ) -> Result<Vec<RoomKey>, StoreError> {
        let tables = self.read()?;
        let now = self.now();
        let coarse = |room: &&RoomRow| {
            criteria
                .cause(room, room.last_active_at, tables.size(room.key), now)
                .is_some()
        };
        let later = tables.rooms.values().filter(|room| room.key > after);
        Ok(later
            .filter(coarse)
            .take(limit as usize)
            .map(|room| room.key)
            .collect())
    }

    async fn reap(
        &self,
        keys: &[RoomKey],
        criteria: ReapCriteria,
        dry_run: bool,
    ) -> Result<Vec<ReapedRoom>, StoreError> {
        let turn = self.turn().await?;
        let mut tables = turn.tables();
        Ok(tables.reap(turn.now, keys, criteria, dry_run))
    }

    async fn purge_invites(&self, keep: Duration, limit: u32) -> Result<u64, StoreError> {
        let turn = self.turn().await?;
        let mut tables = turn.tables();
        let is_due = |invite: &InviteRow| {
            invite
                .room_end
                .is_some_and(|end| end.ended_at + keep < turn.now)
        };
        let due: Vec<_> = tables
            .invites
            .values()
            .filter(|invite| is_due(&invite.row))
            .map(|invite| invite.row.key)
            .collect();
        let due = &due[..due.len().min(limit as usize)];
        tables.invites.retain(|key, _| !due.contains(key));
        Ok(due.len() as u64)
    }

    async fn purge_departed(&self, keep: Duration, limit: u32) -> Result<u64, StoreError> {
        let turn = self.turn().await?;
        let mut tables = turn.tables();
        Ok(tables.purge_departed(turn.now - keep, limit as usize))
    }

    async fn create_room(
        &self,
        id: &RoomId,
        settings: &RoomSettings,
    ) -> Result<Created, StoreError> {
        let turn = self.turn().await?;
        let mut tables = turn.tables();
        Ok(match tables.room(id) {
            Some(room) => Created::Exists(room.clone()),
            None => Created::New(tables.insert_room(turn.now, id, settings)),
        })
    }

    async fn room(&self, id: &RoomId) -> Result<Option<RoomRow>, StoreError> {
        Ok(self.read()?.room(id).cloned())
    }

    async fn room_by_key(&self, key: RoomKey) -> Result<Option<RoomRow>, StoreError> {
        Ok(self.read()?.rooms.get(&key).cloned())
    }

    async fn last_activity(&self, key: RoomKey) -> Result<Option<Timestamp>, StoreError> {
        let tables = self.read()?;
        Ok(tables
            .rooms
            .get(&key)
            .map(|room| tables.last_activity(room)))
    }

    async fn rooms(&self, after: RoomKey, limit: u32) -> Result<Vec<RoomRow>, StoreError> {
        let tables = self.read()?;
        Ok(page(
            tables.rooms.values().filter(|room| room.key > after),
            limit,
        ))
    }

    async fn patch_room(
        &self,
        id: &RoomId,
        patch: &RoomPatch,
    ) -> Result<Option<RoomRow>, StoreError> {
        let turn = self.turn().await?;
        let mut tables = turn.tables();
        Ok(tables.room_mut(id).map(|room| {
            patch.apply(&mut room.settings);
            room.clone()
        }))
    }

    async fn touch_room(&self, id: &RoomId) -> Result<Option<RoomRow>, StoreError> {
        let turn = self.turn().await?;
        let mut tables = turn.tables();
        Ok(tables.room_mut(id).map(|room| {
            room.last_active_at = room.last_active_at.max(turn.now);
            room.clone()
        }))
    }

    async fn delete_room(&self, id: &RoomId) -> Result<Option<RoomRow>, StoreError> {
        let turn = self.turn().await?;
        let mut tables = turn.tables();
        let room = tables.room(id).cloned();
        if let Some(room) = &room {
            tables.end_room(turn.now, room.key, RoomEndCause::Closed);
        }
        Ok(room)
    }

    async fn participants(
        &self,
        room: RoomKey,
        after: ParticipantKey,
        limit: u32,
    ) -> Result<Vec<ParticipantRow>, StoreError> {
        let tables = self.read()?;
        Ok(page(
            tables.members(room).filter(|row| row.key > after),
            limit,
        ))
    }

    async fn participant(
        &self,
        room: RoomKey,
        id: ParticipantId,
    ) -> Result<Option<ParticipantRow>, StoreError> {
        Ok(self.read()?.members(room).find(|row| row.id == id).cloned())
    }

    async fn remove_participant(
        &self,
        room: RoomKey,
        id: ParticipantId,
        bar: bool,
        revoke_invite: bool,
    ) -> Result<Option<ParticipantRow>, StoreError> {
        let turn = self.turn().await?;
        let mut tables = turn.tables();
        let Some(row) = tables.member_mut(room, id) else {
            return Ok(None);
        };
        row.is_active = false;
        row.left_at = Some(match row.keeps_last_seen {
            true => self.precision.lock().round(turn.now).max(row.last_seen_at),
            false => row.last_seen_at,
        });
        row.removals += 1;
        row.is_barred |= bar;
        let row = row.clone();
        let invite = row.invite_key.filter(|_| revoke_invite);
        if let Some(invite) = invite.and_then(|key| tables.invites.get_mut(&key)) {
            invite.row.revoked_at.get_or_insert(turn.now);
        }
        Ok(Some(row))
    }

    async fn restore_participant(
        &self,
        room: RoomKey,
        id: ParticipantId,
    ) -> Result<Option<ParticipantRow>, StoreError> {
        let turn = self.turn().await?;
        let mut tables = turn.tables();
        Ok(tables.member_mut(room, id).map(|row| {
            row.is_barred = false;
            row.clone()
        }))
    }

    async fn create_invite(
        &self,
        room: &RoomId,
        invite: &NewInvite,
    ) -> Result<Option<InviteRow>, StoreError> {
        let turn = self.turn().await?;
        let mut tables = turn.tables();
        let Some(room) = tables.room(room).cloned() else {
            return Ok(None);
        };
        tables.insert_invite(turn.now, &room, invite).map(Some)
    }

    async fn invites(
        &self,
        room: RoomKey,
        after: InviteKey,
        limit: u32,
    ) -> Result<Vec<InviteRow>, StoreError> {
        let tables = self.read()?;
        let of_room = tables
            .invites
            .values()
            .map(|invite| &invite.row)
            .filter(|row| row.room_key == Some(room));
        Ok(page(of_room.filter(|row| row.key > after), limit))
    }

    async fn revoke_invite(&self, id: InviteId) -> Result<Option<InviteRow>, StoreError> {
        let turn = self.turn().await?;
        let mut tables = turn.tables();
        Ok(tables
            .invites
            .values_mut()
            .find(|invite| invite.row.id == id)
            .map(|invite| {
                invite.row.revoked_at.get_or_insert(turn.now);
                invite.row.clone()
            }))
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let tables = self.read()?;
        Ok(Counts {
            rooms: tables.rooms.len() as u64,
            participants: tables.participants.len() as u64,
            invites: tables.invites.len() as u64,
        })
    }
}

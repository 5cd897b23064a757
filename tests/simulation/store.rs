//! A store that does what the inner one does, unless the world wants it otherwise.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rollcall::store::{
    Counts, Created, Facts, FlushBatch, Flushed, Identity, InviteKey, InviteRow, JoinBatch,
    JoinWrite, Joined, LockWait, NewInvite, NodeTerms, ParticipantKey, ParticipantRow,
    ReapCriteria, ReapedRoom, Restored, RoomKey, RoomPatch, RoomRow, RoomSettings, Store,
    StoreClock, StoreError,
};
use rollcall_protocol::{InviteId, ParticipantId, RoomId, Timestamp};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::{Instant, timeout},
};

use crate::faults::{Call, Faults, unavailable};

/// The inner store with faults.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    faults: Faults,
    /// Set for a store whose work is done by other threads: paused time must not run on meanwhile, and one writer at a
    /// time waits for nobody.
    writer: Option<Arc<Mutex<()>>>,
}

/// Keeps paused time from running on by itself: tokio does not while a blocking task is at work.
pub struct Hold {
    _until_dropped: std::sync::mpsc::Sender<()>,
}

impl Hold {
    pub fn new() -> Self {
        let (_until_dropped, dropped) = std::sync::mpsc::channel();
        tokio::task::spawn_blocking(move || dropped.recv());
        Self { _until_dropped }
    }
}

impl FaultyStore {
    pub fn new(inner: Arc<dyn Store>, faults: Faults, writer: Option<Arc<Mutex<()>>>) -> Self {
        Self {
            inner,
            faults,
            writer,
        }
    }

    async fn turn(&self) -> Result<Option<OwnedMutexGuard<()>>, StoreError> {
        let Some(writer) = &self.writer else {
            return Ok(None);
        };
        let turn = timeout(Duration::from_secs(5), Arc::clone(writer).lock_owned()).await;
        turn.map(Some).map_err(|_| unavailable("locked"))
    }

    fn hold(&self) -> Option<Hold> {
        self.writer.is_some().then(Hold::new)
    }

    async fn read<T>(
        &self,
        what: &'static str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let _call = self.faults.enter(what).await?;
        let _hold = self.hold();
        work.await
    }

    async fn write<T>(
        &self,
        what: &'static str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let _call = self.faults.enter(what).await?;
        let _turn = self.turn().await?;
        let _hold = self.hold();
        work.await
    }
}

struct Batch {
    inner: Box<dyn JoinBatch>,
    asked: Instant,
    contended: bool,
    faults: Faults,
    call: Call,
    turn: Option<OwnedMutexGuard<()>>,
}

#[async_trait]
impl JoinBatch for Batch {
    fn now(&self) -> Timestamp {
        self.inner.now()
    }

    fn facts(&self) -> &[Facts] {
        self.inner.facts()
    }

    fn is_contended(&self, index: usize) -> bool {
        self.contended && index.is_multiple_of(2)
    }

    async fn release(self: Box<Self>) {
        let _hold = self.turn.is_some().then(Hold::new);
        self.inner.release().await;
    }

    async fn commit(self: Box<Self>, writes: Vec<JoinWrite>) -> Result<Vec<Joined>, StoreError> {
        let _call = self.faults.enter("commit").await?;
        if self.faults.strikes(|state| &mut state.locked_joins) {
            return Err(StoreError::Locked("by a simulation".into()));
        }
        self.faults.check_admission(self.asked);
        let joined = {
            let _hold = self.turn.is_some().then(Hold::new);
            self.inner.commit(writes).await?
        };
        drop(self.call);
        if self.faults.strikes(|state| &mut state.lost_commits) {
            return Err(unavailable("the answer to a commit was lost"));
        }
        Ok(joined)
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn clock(&self) -> &StoreClock {
        self.inner.clock()
    }

    async fn take_over(&self, terms: NodeTerms) -> Result<Option<Restored>, StoreError> {
        self.write("take_over", self.inner.take_over(terms)).await
    }

    async fn stop(&self) -> Result<(), StoreError> {
        self.write("stop", self.inner.stop()).await
    }

    async fn close(&self) {
        let _hold = self.hold();
        self.inner.close().await;
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.read("ping", self.inner.ping()).await
    }

    async fn signing_key(&self) -> Result<[u8; 32], StoreError> {
        self.write("signing_key", self.inner.signing_key()).await
    }

    async fn begin_joins(
        &self,
        identities: &[Identity],
        wait: LockWait,
    ) -> Result<Box<dyn JoinBatch>, StoreError> {
        let asked = Instant::now();
        let call = self.faults.enter("begin_joins").await?;
        let turn = self.turn().await?;
        let inner = {
            let _hold = self.hold();
            self.inner.begin_joins(identities, wait).await?
        };
        let contended = wait == LockWait::Skip && self.faults.strikes(|state| &mut state.contended);
        Ok(Box::new(Batch {
            inner,
            asked,
            contended,
            faults: self.faults.clone(),
            call,
            turn,
        }))
    }

    async fn facts(&self, identity: &Identity) -> Result<(Timestamp, Facts), StoreError> {
        self.read("facts", self.inner.facts(identity)).await
    }

    async fn flush(&self, batch: &FlushBatch) -> Result<Flushed, StoreError> {
        let began = Instant::now();
        let flushed = self.flush_some(batch).await;
        self.faults.flush_ended(began, flushed.is_ok());
        flushed
    }

    async fn reap_candidates(
        &self,
        criteria: ReapCriteria,
        after: RoomKey,
        limit: u32,
    ) -> Result<Vec<RoomKey>, StoreError> {
        self.read(
            "reap_candidates",
            self.inner.reap_candidates(criteria, after, limit),
        )
        .await
    }

    async fn reap(
        &self,
        keys: &[RoomKey],
        criteria: ReapCriteria,
        dry_run: bool,
    ) -> Result<Vec<ReapedRoom>, StoreError> {
        if !dry_run {
            self.faults.check_sweep();
        }
        self.write("reap", self.inner.reap(keys, criteria, dry_run))
            .await
    }

    async fn purge_invites(&self, keep: Duration, limit: u32) -> Result<u64, StoreError> {
        self.write("purge_invites", self.inner.purge_invites(keep, limit))
            .await
    }

    async fn purge_departed(&self, keep: Duration, limit: u32) -> Result<u64, StoreError> {
        self.write("purge_departed", self.inner.purge_departed(keep, limit))
            .await
    }

    async fn create_room(
        &self,
        id: &RoomId,
        settings: &RoomSettings,
    ) -> Result<Created, StoreError> {
        self.write("create_room", self.inner.create_room(id, settings))
            .await
    }

    async fn room(&self, id: &RoomId) -> Result<Option<RoomRow>, StoreError> {
        self.read("room", self.inner.room(id)).await
    }

    async fn room_by_key(&self, key: RoomKey) -> Result<Option<RoomRow>, StoreError> {
        self.read("room_by_key", self.inner.room_by_key(key)).await
    }

    async fn last_activity(&self, key: RoomKey) -> Result<Option<Timestamp>, StoreError> {
        self.read("last_activity", self.inner.last_activity(key))
            .await
    }

    async fn rooms(&self, after: RoomKey, limit: u32) -> Result<Vec<RoomRow>, StoreError> {
        self.read("rooms", self.inner.rooms(after, limit)).await
    }

    async fn patch_room(
        &self,
        id: &RoomId,
        patch: &RoomPatch,
    ) -> Result<Option<RoomRow>, StoreError> {
        self.write("patch_room", self.inner.patch_room(id, patch))
            .await
    }

    async fn touch_room(&self, id: &RoomId) -> Result<Option<RoomRow>, StoreError> {
        self.write("touch_room", self.inner.touch_room(id)).await
    }

    async fn delete_room(&self, id: &RoomId) -> Result<Option<RoomRow>, StoreError> {
        self.write("delete_room", self.inner.delete_room(id)).await
    }

    async fn participants(
        &self,
        room: RoomKey,
        after: ParticipantKey,
        limit: u32,
    ) -> Result<Vec<ParticipantRow>, StoreError> {
        self.read("participants", self.inner.participants(room, after, limit))
            .await
    }

    async fn participant(
        &self,
        room: RoomKey,
        id: ParticipantId,
    ) -> Result<Option<ParticipantRow>, StoreError> {
        self.read("participant", self.inner.participant(room, id))
            .await
    }

    async fn remove_participant(
        &self,
        room: RoomKey,
        id: ParticipantId,
        bar: bool,
        revoke: bool,
    ) -> Result<Option<ParticipantRow>, StoreError> {
        let removal = self.inner.remove_participant(room, id, bar, revoke);
        self.write("remove_participant", removal).await
    }

    async fn restore_participant(
        &self,
        room: RoomKey,
        id: ParticipantId,
    ) -> Result<Option<ParticipantRow>, StoreError> {
        self.write(
            "restore_participant",
            self.inner.restore_participant(room, id),
        )
        .await
    }

    async fn create_invite(
        &self,
        room: &RoomId,
        invite: &NewInvite,
    ) -> Result<Option<InviteRow>, StoreError> {
        self.write("create_invite", self.inner.create_invite(room, invite))
            .await
    }

    async fn invites(
        &self,
        room: RoomKey,
        after: InviteKey,
        limit: u32,
    ) -> Result<Vec<InviteRow>, StoreError> {
        self.read("invites", self.inner.invites(room, after, limit))
            .await
    }

    async fn revoke_invite(&self, id: InviteId) -> Result<Option<InviteRow>, StoreError> {
        self.write("revoke_invite", self.inner.revoke_invite(id))
            .await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.read("counts", self.inner.counts()).await
    }
}

impl FaultyStore {
    /// Flushes, unless the world wants some rows locked or the answer lost.
    async fn flush_some(&self, batch: &FlushBatch) -> Result<Flushed, StoreError> {
        let mut locked = Vec::new();
        let mut batch = batch.clone();
        if !batch.participants.is_empty() && self.faults.strikes(|state| &mut state.locked_rows) {
            locked.extend(batch.participants.iter().step_by(2).map(|seen| seen.key));
            batch
                .participants
                .retain(|seen| !locked.contains(&seen.key));
            batch.states.retain(|(key, _)| !locked.contains(key));
        }
        let mut flushed = self.write("flush", self.inner.flush(&batch)).await?;
        flushed.locked.extend(locked);
        if self.faults.strikes(|state| &mut state.lost_flushes) {
            return Err(unavailable("the answer to a flush was lost"));
        }
        Ok(flushed)
    }
}

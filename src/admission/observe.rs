//! May this user watch? Facts are read, nothing is locked and nothing written (rule R2).

use rollcall_protocol::{Problem, ProblemCode, RoomId, Timestamp, UserId};
use tokio::time::timeout;

use super::{
    Admission, Ask, DECIDE_WITHIN, refuse_full, store_problem, store_unavailable,
    verdict::{self, Circumstances, NO_ROOM},
};
use crate::{
    hub::Watch,
    store::{Facts, RoomRow},
};

impl Admission {
    /// Decides whether a user may observe a room, and holds the place.
    ///
    /// The place is held before the facts are read. Whoever ends the room, or removes the user, writes that first and then
    /// tells the hub: either the facts show it, or the hub finds the place.
    pub(super) async fn observe(
        &self,
        ask: &Ask,
        room_id: &RoomId,
        user_id: &UserId,
    ) -> Result<Watch, Problem> {
        if self.inner.flusher.is_behind() {
            return Err(store_unavailable());
        }
        let decided = timeout(DECIDE_WITHIN, self.observe_patiently(ask, room_id, user_id));
        decided.await.map_err(|_| store_unavailable())?
    }

    async fn observe_patiently(
        &self,
        ask: &Ask,
        room_id: &RoomId,
        user_id: &UserId,
    ) -> Result<Watch, Problem> {
        let (hub, store) = (&self.inner.hub, &self.inner.store);
        let gone = || Problem::new(ProblemCode::RoomNotFound, NO_ROOM);
        let found = store.room(room_id).await;
        let row = found
            .map_err(|error| store_problem(&error))?
            .ok_or_else(gone)?;
        let held = hub.watch(&row, user_id);
        let read = store.facts(&ask.identity()).await;
        let (now, facts) = read.map_err(|error| store_problem(&error))?;
        let judged = self.judge_observer(&facts, now)?;
        if judged.key != row.key {
            // Another was made under the id meanwhile; the one that was asked for is not there.
            return Err(gone());
        }
        let mut watch = held.map_err(refuse_full)?;
        let last_activity = store.last_activity(watch.room()).await;
        watch.note_activity(
            last_activity
                .map_err(|error| store_problem(&error))?
                .ok_or_else(gone)?,
        );
        Ok(watch)
    }

    /// The verdict by these facts of `now`.
    pub(super) fn judge_observer<'a>(
        &self,
        facts: &'a Facts,
        now: Timestamp,
    ) -> Result<&'a RoomRow, Problem> {
        let hub = &self.inner.hub;
        let at = Circumstances {
            now,
            is_live: &|key| hub.is_live(key),
            departed_last_seen: &|key| hub.departed_last_seen(key),
            uses_before: &|_| 0,
            defaults: &self.inner.defaults,
        };
        verdict::judge_observer(facts, &at)
    }
}

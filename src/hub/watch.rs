//! A place to watch a room from, held for an observer whose admission is being decided.

use std::sync::Arc;

use rollcall_protocol::Timestamp;

use super::{
    Ending, Hub, Welcome,
    place::{Place, Role, Seating},
    room::{ObserverId, Room},
};

/// A place to watch from. The room stays in memory for it, but is not live by it. Dropped, it leaves no trace.
#[derive(Debug)]
pub struct Watch {
    hub: Hub,
    room: Arc<Room>,
    id: ObserverId,
    last_activity: Timestamp,
    is_open: bool,
}

impl Watch {
    pub(super) fn new(hub: Hub, room: Arc<Room>, id: ObserverId) -> Self {
        Self {
            hub,
            room,
            id,
            last_activity: Timestamp::from_millis(0),
            is_open: true,
        }
    }

    /// The room's incarnation.
    pub fn room(&self) -> crate::store::RoomKey {
        self.room.key
    }

    /// Notes the room's last activity as the store knows it. To be asked for after this is held: who leaves from then on is
    /// noted by the room itself.
    pub fn note_activity(&mut self, at: Timestamp) {
        self.last_activity = at;
    }

    /// Begins to watch.
    ///
    /// # Errors
    /// The room ended, or the user was removed from it, since this was held.
    pub fn begin(mut self, seating: Seating) -> Result<(Place, Welcome), Ending> {
        let shared = self.hub.shared();
        let line = seating.line(shared);
        let (listener, welcome) = self
            .room
            .observe(&self.id, self.last_activity, &line, shared)?;
        self.is_open = false;
        let (hub, room) = (self.hub.clone(), Arc::clone(&self.room));
        let role = Role::Observer(self.id.clone());
        Ok((Place::new(hub, room, line, listener, role), welcome))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.is_open {
            self.room.unobserve(&self.id, None);
            self.hub.tidy(self.room.key);
        }
    }
}

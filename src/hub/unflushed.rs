//! When those who left were last heard, for as long as the store may not know.
//!
//! A room is not live once the last has left, and the store hears of that with the next flush only. Where it is far behind
//! (a seat that a restart held, a server that stood still) the room would look idle to a verdict in between (rule R9).

use std::collections::HashMap;

use parking_lot::Mutex;
use rollcall_protocol::Timestamp;

use crate::store::RoomKey;

/// Rooms whose departures are not in the store yet, each with the latest sign of life among them. A flush empties it, and
/// each departure took an admission, so a store outage bounds it.
#[derive(Debug, Default)]
pub(super) struct Unflushed(Mutex<Ages>);

#[derive(Debug, Default)]
struct Ages {
    /// Since the last flush began.
    fresh: HashMap<RoomKey, Timestamp>,
    /// Part of the flush that is under way, or of those that failed.
    collected: HashMap<RoomKey, Timestamp>,
    /// In the store since the last flush: a verdict may have looked just before.
    flushed: HashMap<RoomKey, Timestamp>,
}

impl Unflushed {
    /// Somebody last heard then has left.
    pub(super) fn note(&self, room: RoomKey, last_seen_at: Timestamp) {
        advance(&mut self.0.lock().fresh, room, last_seen_at);
    }

    /// A flush takes in what is dirty.
    pub(super) fn collect(&self) {
        let mut ages = self.0.lock();
        for (room, at) in std::mem::take(&mut ages.fresh) {
            advance(&mut ages.collected, room, at);
        }
    }

    /// The store has everything that was collected.
    pub(super) fn flushed(&self) {
        let mut ages = self.0.lock();
        ages.flushed = std::mem::take(&mut ages.collected);
    }

    /// The latest sign of life of those who left.
    pub(super) fn latest(&self, room: RoomKey) -> Option<Timestamp> {
        let ages = self.0.lock();
        [&ages.fresh, &ages.collected, &ages.flushed]
            .into_iter()
            .filter_map(|age| age.get(&room).copied())
            .max()
    }
}

fn advance(age: &mut HashMap<RoomKey, Timestamp>, room: RoomKey, at: Timestamp) {
    let latest = age.entry(room).or_insert(at);
    *latest = (*latest).max(at);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_collected_is_known_until_the_flush_after_the_one_that_wrote_it() {
        let (unflushed, room) = (Unflushed::default(), RoomKey(1));
        let at = Timestamp::from_millis;
        unflushed.note(room, at(5));
        unflushed.note(room, at(3));
        unflushed.collect();
        // That flush failed; the next takes in both.
        unflushed.note(room, at(7));
        assert_eq!(unflushed.latest(room), Some(at(7)));
        unflushed.collect();
        unflushed.flushed();
        assert_eq!(unflushed.latest(room), Some(at(7)));
        assert_eq!(unflushed.latest(RoomKey(2)), None);
        unflushed.collect();
        unflushed.flushed();
        assert_eq!(unflushed.latest(room), None);
    }
}

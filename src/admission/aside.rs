//! Joins that wait for what somebody else has locked, aside from the worker, so that one locked room holds nobody else up.
//!
//! One group at a time for each room: what comes meanwhile is parked and goes together with the next.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use tokio::task::{Id, JoinSet};

use super::{
    overloaded,
    worker::{Decider, Join, refuse},
};
use crate::store::RoomKey;

/// Groups that wait at the same time, each on a connection of its own: fewer than the store has.
const GROUPS: usize = 4;
/// Joins that may be parked; each gives up by itself, and more at once are refused.
const PARKED: usize = 4_096;

/// The groups that wait, and who is to go next.
#[derive(Default)]
pub(super) struct Aside {
    groups: JoinSet<()>,
    /// What each group is about; `None`: joins that failed together, each to be tried alone.
    about: HashMap<Id, Option<RoomKey>>,
    parked: BTreeMap<Option<RoomKey>, Vec<Join>>,
}

impl Aside {
    /// Puts joins aside that are about one room, or `None`.
    pub(super) fn add(&mut self, room: Option<RoomKey>, joins: Vec<Join>, decider: &Arc<Decider>) {
        if joins.is_empty() {
            return;
        }
        // Who gave up waiting is not admitted.
        self.parked.retain(|_, joins| {
            joins.retain(|join| !join.answer.is_closed());
            !joins.is_empty()
        });
        if self.parked.values().map(Vec::len).sum::<usize>() + joins.len() > PARKED {
            refuse(joins, &overloaded());
            return;
        }
        self.parked.entry(room).or_default().extend(joins);
        self.start(decider);
    }

    /// Waits for a group to end and lets the next go; for ever while there is none.
    ///
    /// # Cancel safety
    /// A group that has ended is counted out by the next call at the latest.
    pub(super) async fn next(&mut self, decider: &Arc<Decider>) {
        let ended = match self.groups.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            // It has dropped its joins, which are answered by that.
            Some(Err(error)) => error.id(),
            None => return std::future::pending().await,
        };
        self.about.remove(&ended);
        self.start(decider);
    }

    fn start(&mut self, decider: &Arc<Decider>) {
        let busy: HashSet<Option<RoomKey>> = self.about.values().copied().collect();
        let free = GROUPS.saturating_sub(busy.len());
        let is_free = |room: &&Option<RoomKey>| !busy.contains(*room);
        let next: Vec<_> = self
            .parked
            .keys()
            .filter(is_free)
            .take(free)
            .copied()
            .collect();
        for room in next {
            let joins = self.parked.remove(&room).unwrap_or_default();
            let decider = Arc::clone(decider);
            let group = self.groups.spawn(async move {
                match room {
                    Some(_) => decider.wait_for_room(joins).await,
                    None => decider.each_alone(joins).await,
                }
            });
            self.about.insert(group.id(), room);
        }
    }
}

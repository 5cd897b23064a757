//! What a room's clients have been told, and what to tell them next.
//!
//! Every participant has what is true (`live`) and what was told (`shown`); a diff is the difference of the two when it is
//! asked for, so opposite changes cancel by themselves. Several nodes' seats may later be merged into `live` without
//! anything else here knowing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rollcall_protocol::{
    Departure, LeaveReason, Member, ParticipantId, RosterMode, Timestamp, Update,
};

use super::Look;

/// Why and when somebody left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leave {
    /// Why.
    pub reason: LeaveReason,
    /// When last seen; the same value that the store gets.
    pub last_seen_at: Timestamp,
}

/// The roster of one room.
#[derive(Debug)]
pub struct Roster {
    live: BTreeMap<ParticipantId, Arc<Look>>,
    shown: BTreeMap<ParticipantId, Arc<Look>>,
    changed: BTreeSet<ParticipantId>,
    left: BTreeMap<ParticipantId, Leave>,
    seq: u64,
    mode: RosterMode,
    limit: usize,
}

/// What a publication says.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The ordinary diff.
    Diff {
        /// New members.
        joined: Vec<Member>,
        /// Changed members.
        updated: Vec<Update>,
        /// Members that left.
        left: Vec<Departure>,
    },
    /// Only the occupancy: the room is beyond its limit.
    Count,
    /// The mode changed: everybody needs a whole `sync`.
    Crossed(Crossing),
}

/// Which way a room crossed its roster limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crossing {
    /// Beyond it: only counted from here on.
    IntoCount,
    /// Back below nine tenths of it: listed again.
    IntoFull,
}

/// The roster as of `seq`.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// The number of the last presence frame.
    pub seq: u64,
    /// Whether members are listed.
    pub mode: RosterMode,
    /// How many there are.
    pub occupancy: u64,
    /// Everybody, ordered by id; `None` in count mode.
    pub members: Option<Vec<Member>>,
}

impl Roster {
    /// An empty roster, listed up to `limit` members.
    pub fn new(limit: usize) -> Self {
        Self {
            live: BTreeMap::new(),
            shown: BTreeMap::new(),
            changed: BTreeSet::new(),
            left: BTreeMap::new(),
            seq: 0,
            mode: RosterMode::Full,
            limit,
        }
    }

    /// Says that `id` is here and looks like this.
    pub fn set(&mut self, id: ParticipantId, look: Arc<Look>) {
        self.live.insert(id, look);
        self.left.remove(&id);
        self.changed.insert(id);
    }

    /// Says that `id` is gone.
    pub fn remove(&mut self, id: ParticipantId, leave: Leave) {
        if self.live.remove(&id).is_some() {
            self.left.insert(id, leave);
            self.changed.insert(id);
        }
    }

    /// Takes `id` in as already told: a seat that a restart restored, which nobody saw leave.
    pub fn restore(&mut self, id: ParticipantId, look: Arc<Look>) {
        self.live.insert(id, Arc::clone(&look));
        self.shown.insert(id, look);
        if self.mode == RosterMode::Full && self.shown.len() > self.limit {
            self.mode = RosterMode::Count;
        }
    }

    /// How many are here.
    pub fn occupancy(&self) -> usize {
        self.live.len()
    }

    /// The number of the last presence frame.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Whether anything waits to be told.
    pub fn is_stale(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Everybody here, told or not, ordered by id.
    pub fn live(&self) -> impl Iterator<Item = (ParticipantId, &Arc<Look>)> {
        self.live.iter().map(|(id, look)| (*id, look))
    }

    /// Brings what was told up to what is true; answers what to tell, or `None` if the changes cancelled out.
    pub fn publish(&mut self, seen: impl Fn(ParticipantId) -> Timestamp) -> Option<Change> {
        let (mut joined, mut updated, mut left) = (Vec::new(), Vec::new(), Vec::new());
        let leaves = std::mem::take(&mut self.left);
        for id in std::mem::take(&mut self.changed) {
            match (self.shown.get(&id), self.live.get(&id)) {
                (None, Some(look)) => joined.push(member(id, look, seen(id))),
                (Some(old), Some(new)) => updated.extend(difference(id, old, new)),
                (Some(_), None) => left.extend(leaves.get(&id).map(|leave| departure(id, *leave))),
                (None, None) => {}
            }
            match self.live.get(&id) {
                Some(look) => self.shown.insert(id, Arc::clone(look)),
                None => self.shown.remove(&id),
            };
        }
        if joined.is_empty() && updated.is_empty() && left.is_empty() {
            return None;
        }
        let change = match self.cross() {
            Some(crossing) => Change::Crossed(crossing),
            None if self.mode == RosterMode::Full => Change::Diff {
                joined,
                updated,
                left,
            },
            // Where as many came as went, who came counts those who went: their welcome was of before.
            None if joined.is_empty() && left.is_empty() => return None,
            None => Change::Count,
        };
        self.seq += 1;
        Some(change)
    }

    /// Full up to the limit; back to full below nine tenths of it, so that a room at the limit does not flutter.
    fn cross(&mut self) -> Option<Crossing> {
        let occupancy = self.shown.len();
        match self.mode {
            RosterMode::Full if occupancy > self.limit => {
                self.mode = RosterMode::Count;
                Some(Crossing::IntoCount)
            }
            RosterMode::Count if occupancy * 10 < self.limit * 9 => {
                self.mode = RosterMode::Full;
                Some(Crossing::IntoFull)
            }
            _ => None,
        }
    }

    /// What was told so far, plus `own` if that is not told yet.
    pub fn snapshot(
        &self,
        own: Option<ParticipantId>,
        seen: impl Fn(ParticipantId) -> Timestamp,
    ) -> Shown {
        let own = own
            .filter(|id| !self.shown.contains_key(id))
            .and_then(|id| Some((id, self.live.get(&id)?)));
        let members = (self.mode == RosterMode::Full).then(|| {
            let mut members: Vec<Member> = self
                .shown
                .iter()
                .map(|(id, look)| member(*id, look, seen(*id)))
                .collect();
            if let Some((id, look)) = own {
                let at = members.partition_point(|member| member.id < id);
                members.insert(at, member(id, look, seen(id)));
            }
            members
        });
        let occupancy = (self.shown.len() + usize::from(own.is_some())) as u64;
        Shown {
            seq: self.seq,
            mode: self.mode,
            occupancy,
            members,
        }
    }
}

/// One member as the wire has it.
fn member(id: ParticipantId, look: &Look, last_seen_at: Timestamp) -> Member {
    Member {
        id,
        user_id: look.user_id.clone(),
        name: look.name.clone(),
        status: look.status,
        state: look.state.clone(),
        joined_at: look.joined_at,
        last_seen_at,
    }
}

fn departure(id: ParticipantId, leave: Leave) -> Departure {
    Departure {
        id,
        reason: leave.reason,
        last_seen_at: leave.last_seen_at,
    }
}

fn difference(id: ParticipantId, old: &Look, new: &Look) -> Option<Update> {
    let update = Update {
        id,
        state: (old.state != new.state).then(|| new.state.clone()),
        status: (old.status != new.status).then_some(new.status),
        name: (old.name != new.name).then(|| new.name.clone()),
    };
    (update.state.is_some() || update.status.is_some() || update.name.is_some()).then_some(update)
}

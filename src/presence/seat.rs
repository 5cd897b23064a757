//! One participant's place in a room: its connections, and the graces of those it lost.

use rollcall_protocol::{ConnectionId, DisplayName, StateText, Status, Timestamp, UserId};
use smallvec::SmallVec;
use tokio::time::Instant;

/// What others see of a participant, apart from when it was last seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// The access token's `sub`.
    pub user_id: Option<UserId>,
    /// The display name.
    pub name: DisplayName,
    /// Active if any connection is.
    pub status: Status,
    /// The participant's own state.
    pub state: StateText,
    /// When the participant first joined.
    pub joined_at: Timestamp,
}

/// A participant's place. It is held while a connection or a grace is.
#[derive(Debug, Default)]
pub struct Seat {
    connections: SmallVec<[(ConnectionId, Status); 1]>,
    graces: Vec<(ConnectionId, Instant)>,
}

impl Seat {
    /// A seat nobody is connected to, held until `until`: what a restart leaves.
    pub fn restored(until: Instant) -> Self {
        Self {
            connections: SmallVec::new(),
            graces: vec![(ConnectionId(0), until)],
        }
    }

    /// Adds a connection. A resume takes up the grace of the connection it names; any other arrival takes up the oldest
    /// grace, for somebody who came back once has come back for one of those they lost.
    pub fn connect(&mut self, id: ConnectionId, resumes: Option<ConnectionId>) {
        let taken = match resumes {
            Some(lost) => self
                .graces
                .iter()
                .position(|(grace, _)| *grace == lost || *grace == ConnectionId(0)),
            None => self.oldest_grace(),
        };
        if let Some(at) = taken {
            self.graces.swap_remove(at);
            self.graces.shrink_to_fit();
        }
        self.connections.push((id, Status::Active));
    }

    fn oldest_grace(&self) -> Option<usize> {
        let oldest = self
            .graces
            .iter()
            .enumerate()
            .min_by_key(|(_, (_, until))| *until);
        oldest.map(|(at, _)| at)
    }

    /// Takes a connection away; with `grace`, it may come back until then. Answers whether it was there: the end of
    /// one whose seat was given up before is nothing to whoever has the seat now.
    pub fn disconnect(&mut self, id: ConnectionId, grace: Option<Instant>) -> bool {
        let before = self.connections.len();
        self.connections.retain(|(connection, _)| *connection != id);
        self.connections.shrink_to_fit();
        let was_there = self.connections.len() < before;
        if let Some(until) = grace.filter(|_| was_there) {
            self.graces.push((id, until));
        }
        was_there
    }

    /// Forgets the graces that are over. Answers the next one to end.
    pub fn expire(&mut self, now: Instant) -> Option<Instant> {
        self.graces.retain(|(_, until)| *until > now);
        self.graces.shrink_to_fit();
        self.graces.iter().map(|(_, until)| *until).min()
    }

    /// Moves every grace that ended before `now` to `until`: after a stall nobody had the chance to come back.
    pub fn regrant(&mut self, now: Instant, until: Instant) {
        for (_, end) in &mut self.graces {
            if *end <= now {
                *end = until;
            }
        }
    }

    /// Sets the status of one connection.
    pub fn set_status(&mut self, id: ConnectionId, status: Status) {
        for (connection, own) in &mut self.connections {
            if *connection == id {
                *own = status;
            }
        }
    }

    /// Active if any connection is; `None` while nobody is connected, when the last known status stays.
    pub fn status(&self) -> Option<Status> {
        let mut statuses = self.connections.iter().map(|(_, status)| *status);
        let first = statuses.next()?;
        Some(
            if first == Status::Active || statuses.any(|status| status == Status::Active) {
                Status::Active
            } else {
                Status::Idle
            },
        )
    }

    /// How many connections the participant has.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Whether a connection or a grace holds it.
    pub fn is_held(&self) -> bool {
        !self.connections.is_empty() || !self.graces.is_empty()
    }
}

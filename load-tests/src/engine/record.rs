//! What is so of a person, as they themselves know it: what the server's word is held against.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{client::View, moment::Moment, roster::Id};

/// A leave may be told so long after it was: frames are gathered, and machines are slow.
const TOLD_LATE: Duration = Duration::from_secs(30);
/// A seat may be held so much longer than its grace: the server notices a lost connection late, and sweeps now and then.
const HELD_LATE: Duration = Duration::from_secs(8);

/// What is so of a person.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Reads slowly, and so may be behind.
    pub is_slow: bool,
    state: Mutex<State>,
}

/// See [`Record`].
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// The participant, since the first welcome.
    pub own: Option<Id>,
    pub standing: Standing,
    /// What they believe, while they are in.
    pub view: Option<View>,
    /// The server's clock in the last answer to a heartbeat, and when the heartbeat was due: not later than that.
    pub acked: Option<(Moment, Instant)>,
    /// When they last sent anything.
    pub spoke_at: Option<Instant>,
    /// When the oldest heartbeat was due that has not been answered.
    pub asked_at: Option<Instant>,
    /// When they last were gone for the others.
    gone_at: Option<Instant>,
}

/// The server was replaced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Restart {
    /// When it was known to be over.
    pub over: Instant,
    /// How long seats are held after it.
    pub grace: Duration,
}

/// Where somebody is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Standing {
    /// Has never been in.
    #[default]
    Out,
    /// Welcomed, and connected.
    In,
    /// Has said so.
    Left(Instant),
    /// Has lost the connection.
    Cut {
        at: Instant,
        /// The seat is held until then at least.
        until: Instant,
    },
}

impl Record {
    pub(super) fn new(is_slow: bool) -> Self {
        Self {
            is_slow,
            ..Self::default()
        }
    }

    /// A look.
    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock())
    }

    pub(super) fn standing(&self) -> Standing {
        self.state.lock().standing
    }

    /// Whether they are in and reading.
    pub(super) fn is_in(&self) -> bool {
        self.standing() == Standing::In
    }

    pub(super) fn welcomed(&self, own: Id, view: View, resumed: bool) {
        let mut state = self.state.lock();
        let now = Instant::now();
        if !resumed && matches!(state.standing, Standing::Cut { .. }) {
            state.gone_at = Some(now);
        }
        state.asked_at = None;
        state.own = Some(own);
        state.view = Some(view);
        state.spoke_at = Some(now);
        state.standing = Standing::In;
    }

    pub(super) fn left(&self) {
        let mut state = self.state.lock();
        let now = Instant::now();
        (state.view, state.gone_at, state.spoke_at) = (None, Some(now), Some(now));
        state.standing = Standing::Left(now);
    }

    pub(super) fn cut(&self, grace: Duration) {
        let mut state = self.state.lock();
        let at = Instant::now();
        state.view = None;
        state.standing = Standing::Cut {
            at,
            until: at + grace,
        };
    }

    pub(super) fn spoke(&self) {
        self.state.lock().spoke_at = Some(Instant::now());
    }

    /// The oldest unanswered heartbeat was due then.
    pub(super) fn asks(&self, oldest: Option<Instant>) {
        self.state.lock().asked_at = oldest;
    }

    pub(super) fn acked(&self, at: Moment, due: Instant) {
        self.state.lock().acked = Some((at, due));
    }
}

impl State {
    /// Whether others may be told now that they left.
    pub(super) fn may_be_told_gone(&self, now: Instant) -> bool {
        let was_gone = self.gone_at.is_some_and(|at| now < at + TOLD_LATE);
        match self.standing {
            Standing::Out | Standing::Left(_) => true,
            Standing::In => was_gone,
            Standing::Cut { until, .. } => now >= until || was_gone,
        }
    }

    /// Whether the server may show them as present; a restart holds every seat that it finds for its own time.
    pub(super) fn may_be_shown(&self, now: Instant, restart: Option<Restart>) -> bool {
        match self.standing {
            Standing::In => true,
            Standing::Cut { at, until } => {
                let held = restart.filter(|restart| at < restart.over);
                let held = held.map_or(until, |restart| until.max(restart.over + restart.grace));
                now < held + HELD_LATE
            }
            Standing::Out | Standing::Left(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    fn told_gone(record: &Record) -> bool {
        record.look(|state| state.may_be_told_gone(Instant::now()))
    }

    fn shown(record: &Record, restart: Option<Restart>) -> bool {
        record.look(|state| state.may_be_shown(Instant::now(), restart))
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_lost_the_connection_is_there_until_the_grace_is_over() {
        let record = Record::default();
        record.cut(GRACE);
        assert!(!told_gone(&record) && shown(&record, None));
        tokio::time::advance(GRACE).await;
        assert!(told_gone(&record) && shown(&record, None));
        tokio::time::advance(HELD_LATE).await;
        assert!(!shown(&record, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_holds_the_seat_that_it_finds_for_longer() {
        let record = Record::default();
        record.cut(GRACE);
        let restart = Restart {
            over: Instant::now() + Duration::from_secs(2),
            grace: Duration::from_secs(60),
        };
        tokio::time::advance(Duration::from_secs(62)).await;
        assert!(shown(&record, Some(restart)) && !shown(&record, None));
        record.left();
        assert!(told_gone(&record) && !shown(&record, Some(restart)));
    }
}

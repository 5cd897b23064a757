//! What all people of one process share.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::Instant};

use super::{
    books::Books,
    cast::Part,
    record::{Record, Restart},
    room::Room,
    sightings::Sightings,
};
use crate::{
    fault::Fault, message::Person, moment::Moment, roster::Id, scenario::Scenario, wire::Route,
};

/// What the server is believed to be set to.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Settings {
    /// How long a seat outlives a lost connection.
    pub grace: Duration,
    /// How long a seat outlives a restart.
    pub restart_grace: Duration,
    /// How far the stored `last_seen_at` may be behind.
    pub flush: Duration,
}

impl Settings {
    /// The flags of a scenario, else the server's defaults.
    pub(super) fn of(scenario: &Scenario) -> Self {
        let flag = |name, seconds| scenario.flag(name).unwrap_or(Duration::from_secs(seconds));
        Self {
            grace: flag("--reconnect-grace", 10),
            restart_grace: flag("--restart-grace", 60),
            flush: flag("--flush-interval", 5),
        }
    }
}

/// What everybody is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cue {
    /// How often all connections were to break so far.
    pub drops: u32,
    /// The server is being replaced: connections end, and nobody is there.
    pub is_outage: bool,
    /// Nobody comes, goes or says anything but heartbeats.
    pub is_hushed: bool,
}

/// See above.
#[derive(Debug)]
pub(super) struct Stage {
    pub scenario: Scenario,
    pub settings: Settings,
    pub to: SocketAddr,
    pub routes: Vec<Route>,
    pub rooms: Vec<Arc<Room>>,
    pub books: Books,
    pub cues: watch::Sender<Cue>,
    pub sightings: Sightings,
    restart: Mutex<Option<Restart>>,
    /// Participants by id, once they are known.
    whose: Mutex<HashMap<Id, Arc<Record>>>,
}

impl Stage {
    pub(super) fn new(
        scenario: Scenario,
        settings: Settings,
        routes: Vec<Route>,
        rooms: Vec<Arc<Room>>,
    ) -> Self {
        Self {
            scenario,
            settings,
            to: routes[0].to,
            routes,
            rooms,
            books: Books::default(),
            cues: watch::Sender::default(),
            sightings: Sightings::default(),
            restart: Mutex::default(),
            whose: Mutex::default(),
        }
    }

    pub(super) fn cue(&self) -> Cue {
        *self.cues.borrow()
    }

    pub(super) fn fault(&self, fault: Fault, text: impl AsRef<str>) {
        self.books.tally.fault(fault, text);
    }

    /// From the welcome on it is known whose participant this is.
    pub(super) fn know(&self, own: Id, record: &Arc<Record>) {
        self.whose.lock().insert(own, Arc::clone(record));
    }

    /// Somebody is told that this one left: whoever is there has not. Only those who read at once are `timed`.
    pub(super) fn saw_leave(&self, left: &Person<'_>, timed: bool) {
        let Some(who) = Id::read(left.id) else { return };
        if timed {
            self.sightings.saw_leave(who, &self.books);
        }
        let record = self.whose.lock().get(&who).cloned();
        let now = Instant::now();
        if record.is_some_and(|record| !record.look(|state| state.may_be_told_gone(now))) {
            self.fault(Fault::Disturbed, format!("told to have left: {left:?}"));
        }
        if left.last_seen_at.and_then(Moment::read).is_none() {
            self.fault(
                Fault::Malformed,
                format!("a leave without its time: {left:?}"),
            );
        }
    }

    /// Everybody is told something new.
    pub(super) fn tell(&self, cue: Cue) {
        if self.cue().is_outage {
            *self.restart.lock() = Some(Restart {
                over: Instant::now(),
                grace: self.settings.restart_grace,
            });
        }
        self.cues.send_replace(cue);
    }

    /// The last time that the server was replaced.
    pub(super) fn restart(&self) -> Option<Restart> {
        *self.restart.lock()
    }

    /// Where a person comes from.
    pub(super) fn route(&self, part: &Part) -> Route {
        let mut route = self.routes[part.number % self.routes.len()];
        let read = self.scenario.populations[part.population].read;
        route.receive_buffer = read.map(|read| read.bytes);
        route
    }
}

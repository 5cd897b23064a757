//! Everybody: two thousand people in rooms of eight, of whom a few are not to come back.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{LOOK, PATIENCE, Person, Shared};
use crate::{
    client::Order,
    fault::Fault,
    population::{Names, invites},
    server::Server,
    tally::Tally,
    wire::Route,
};

/// People in a room, as in TARGETS.
const ROOM: usize = 8;
/// One in so many does not come back after the crash.
const ABSENT: usize = 100;
/// People on their way in at a time, the first time.
const ABREAST: usize = 32;
/// The addresses they come from.
const HOSTS: [u8; 4] = [2, 3, 4, 5];

/// Everybody.
#[derive(Debug)]
pub(super) struct Party {
    pub names: Names,
    pub people: Vec<Arc<Person>>,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    /// Ends everybody when dropped.
    orders: watch::Sender<Order>,
    absent_orders: watch::Sender<Order>,
}

impl Party {
    /// Makes the rooms, and lets everybody in.
    ///
    /// # Errors
    /// The API refuses.
    pub(super) async fn gather(server: &Server, size: usize) -> anyhow::Result<Self> {
        let (names, rooms) = (Names::default(), size.div_ceil(ROOM));
        let invites = invites(server, names, rooms).await?;
        let tally = Arc::new(Tally::default());
        let shared = Arc::new(Shared::new(&tally, ABREAST));
        let absent = (size / ABSENT).max(1);
        let people = (0..size).map(|at| {
            let room = at / ROOM;
            // The third of a room, in rooms spread over all, where there is anybody else to see it.
            let is_absent = at % ROOM == 2 && room.is_multiple_of((rooms / absent).max(1));
            let route = Route::local(server.addr(), HOSTS[at % HOSTS.len()]);
            let query = names.guest(&invites[room], at);
            let person = Person::new((at, room), (route, query), is_absent, &shared);
            Arc::new(person)
        });
        let mut party = Self {
            names,
            people: people.collect(),
            shared,
            tasks: JoinSet::new(),
            orders: watch::Sender::new(Order::Stay),
            absent_orders: watch::Sender::new(Order::Stay),
        };
        for person in &party.people {
            let orders = match person.is_absent {
                true => party.absent_orders.subscribe(),
                false => party.orders.subscribe(),
            };
            party.tasks.spawn(Arc::clone(person).live(orders));
        }
        party.await_all_know().await;
        Ok(party)
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.shared.tally
    }

    /// Those who are not to come back after the crash.
    pub(super) fn absent(&self) -> Vec<Arc<Person>> {
        let absent = self.people.iter().filter(|person| person.is_absent);
        absent.cloned().collect()
    }

    /// They send nothing more, so that what the server last heard of them is what it answered; nor will they come back.
    pub(super) fn hush_absent(&self) {
        self.absent().iter().for_each(|person| person.stay_away());
        self.absent_orders.send_replace(Order::Hush);
    }

    /// Waits until everybody but so many is back since then, and answers when the last was.
    pub(super) async fn await_back(&self, absent: usize, since: Instant) -> Duration {
        let deadline = Instant::now() + PATIENCE + PATIENCE;
        loop {
            let back = self
                .people
                .iter()
                .filter_map(|person| person.record.lock().welcomed_at)
                .filter(|at| *at > since);
            let (count, last) =
                back.fold((0, since), |(count, last), at| (count + 1, last.max(at)));
            let missing = (self.people.len() - absent).saturating_sub(count);
            if missing == 0 || Instant::now() > deadline {
                if missing > 0 {
                    self.tally()
                        .fault(Fault::Lost, format!("{missing} did not come back"));
                }
                return last - since;
            }
            sleep(LOOK).await;
        }
    }

    /// Ends everybody's connection.
    pub(super) fn end(self) -> Arc<Shared> {
        drop(self.orders);
        drop(self.absent_orders);
        drop(self.tasks);
        self.shared
    }

    /// Waits until everybody sees everybody of their room.
    async fn await_all_know(&self) {
        let deadline = Instant::now() + PATIENCE;
        let knows = |person: &Arc<Person>| {
            let record = person.record.lock();
            let seen = record.view.as_ref().map(|view| view.lock().occupancy());
            seen == Some(self.size_of(person.room) as u64)
        };
        while !self.people.iter().all(knows) {
            if Instant::now() > deadline {
                self.tally()
                    .fault(Fault::Ghost, "not all see all of their room");
                return;
            }
            sleep(LOOK).await;
        }
    }

    fn size_of(&self, room: usize) -> usize {
        self.people.len().min((room + 1) * ROOM) - room * ROOM
    }

    /// Those of a room.
    pub(super) fn members(&self, room: usize) -> &[Arc<Person>] {
        &self.people[room * ROOM..room * ROOM + self.size_of(room)]
    }

    pub(super) fn rooms(&self) -> usize {
        self.people.len().div_ceil(ROOM)
    }
}

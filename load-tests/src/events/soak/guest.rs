//! One person in a room, who goes and comes back in every way there is, until the room is over.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{GRACE, HOSTS, Scene, room::Room, score::Deed};
use crate::{
    chance::Chance,
    client::{Arrival, Client, Stay},
    departure::Departures,
    fault::Fault,
    roster::Id,
    script::Script,
    wire::{Refusal, Route},
};

/// What everybody does while in.
const SCRIPT: Script = Script {
    heartbeat: Some(Duration::from_secs(1)),
    cursor: Some(Duration::from_millis(1700)),
    update: Some(Duration::from_millis(1300)),
};
/// How long a visit lasts.
const STAYS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(6));
/// Come back within the grace, with room for a slow machine; and after it.
const SOON: (Duration, Duration) = (Duration::ZERO, Duration::from_millis(1200));
const LATE: (Duration, Duration) = (Duration::from_millis(2500), Duration::from_millis(4000));
/// A connection that does not answer a ping for 5 s is closed (PROTOCOL.md, "Liveness").
const SILENT: Duration = Duration::from_secs(8);
/// How long a leave, or reading what there is, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Whoever is sent away so often is refused.
const ATTEMPTS: usize = 10;
/// The room was deleted.
const CLOSED: u16 = 4404;

/// A person.
struct Guest {
    scene: Arc<Scene>,
    room: Arc<Room>,
    at: usize,
    route: Route,
    chance: Chance,
    /// Whom this connection saw leave.
    departures: Departures,
    /// Connections gone silent, until they have been closed.
    silent: JoinSet<()>,
}

/// How somebody comes back.
struct Way {
    query: String,
    deed: Deed,
    after: Duration,
    /// When the seat is free, if nobody is back before.
    seat_until: Option<Instant>,
}

/// Comes and goes until the room is over.
pub(super) async fn visit(scene: Arc<Scene>, room: Arc<Room>, at: usize, seed: u64) {
    let mut chance = Chance::of(seed);
    let mut guest = Guest {
        route: Route::local(scene.route.to, HOSTS[chance.below(HOSTS.len())]),
        scene,
        room,
        at,
        chance,
        departures: Departures::default(),
        silent: JoinSet::new(),
    };
    let mut way = Some(guest.by_ticket(SOON));
    while let Some(next) = way {
        sleep(next.after).await;
        way = guest.once(next).await;
    }
    while guest.silent.join_next().await.is_some() {}
}

impl Guest {
    /// One visit; how they come back, if they do.
    async fn once(&mut self, way: Way) -> Option<Way> {
        if self.room.is_over() {
            return None;
        }
        if self.chance.below(10) == 0 {
            self.try_wrongly().await;
        }
        let mut client = self.enter(&way).await?;
        let welcomed_at = Instant::now();
        self.check_way(&way, &client, welcomed_at);
        client.note_departures(&self.departures);
        let until = welcomed_at + self.chance.between(STAYS.0, STAYS.1);
        let course = SCRIPT.begin(welcomed_at, self.chance.share());
        let until = Some(until.min(self.room.ends_at));
        let stay = client.stay(course, until, &mut self.room.orders()).await;
        let seen = self.departures.take();
        // A deletion may end seats in any order.
        if !self.room.is_closing() {
            let check = |faults: &mut _| self.room.ledger.check(&seen, welcomed_at, faults);
            self.scene.tally.with_faults(check);
        }
        match stay {
            Stay::Over => self.go(client).await,
            Stay::Closed(CLOSED) if self.room.is_closing() => None,
            stay => {
                self.fault(Fault::Lost, format!("{stay:?}"));
                None
            }
        }
    }

    /// Enters; comes back when told to. `None`: the room is being deleted, or something is wrong.
    async fn enter(&mut self, way: &Way) -> Option<Client> {
        let began = Instant::now();
        for _ in 0..ATTEMPTS {
            let refusal = match Client::enter(&self.route, &way.query, &self.scene.tally).await {
                Ok(Arrival::In(client)) => {
                    self.scene.tally.welcomes.record(began.elapsed());
                    return Some(client);
                }
                Ok(Arrival::Closed(CLOSED)) if self.room.is_closing() => return None,
                Ok(Arrival::Refused(refusal)) => refusal,
                Ok(Arrival::Closed(code)) => {
                    self.fault(Fault::Lost, format!("closed with {code} on the way in"));
                    return None;
                }
                Err(error) => {
                    self.fault(Fault::Lost, format!("on the way in: {error:#}"));
                    return None;
                }
            };
            match refusal.retry_after_ms {
                Some(millis) if matches!(refusal.status, 429 | 503) => {
                    sleep(Duration::from_millis(millis)).await;
                }
                _ => return self.refused(&refusal),
            }
        }
        self.fault(Fault::Refused, format!("{ATTEMPTS} times in a row"));
        None
    }

    fn refused(&self, refusal: &Refusal) -> Option<Client> {
        let is_right = self.room.is_closing() && matches!(refusal.status, 401 | 404 | 410);
        if !is_right {
            self.fault(Fault::Refused, format!("{refusal:?}"));
        }
        None
    }

    /// Who is back before the seat was free has it still, and nobody saw them go.
    fn check_way(&self, way: &Way, client: &Client, welcomed_at: Instant) {
        let resumed = client.greeting().resumed;
        let is_in_time = way.seat_until.is_some_and(|until| welcomed_at < until);
        let is_resume = matches!(way.deed, Deed::ResumeInTime);
        if is_resume && is_in_time && !resumed {
            self.fault(Fault::NotResumed, "back within the grace, but as new");
        }
        self.scene.score.add(match is_resume && !resumed {
            true => Deed::ResumeTooLate,
            false => way.deed,
        });
        if let Some(until) = way.seat_until
            && (is_in_time || is_resume && resumed)
            && let Some(own) = own(client)
        {
            self.room.ledger.did_not(own, until);
        }
    }

    /// Goes in one of the ways there are.
    async fn go(&mut self, client: Client) -> Option<Way> {
        let is_last = self.room.is_over();
        let way = match self.chance.below(100) {
            0..30 => self.drop_and(client, SOON, true),
            30..45 => self.drop_and(client, LATE, true),
            45..55 => self.drop_and(client, SOON, false),
            55..85 => self.leave(client).await?,
            _ if is_last => self.leave(client).await?,
            _ => self.go_silent(client),
        };
        (!is_last).then_some(way)
    }

    fn drop_and(&mut self, client: Client, after: (Duration, Duration), by_resume: bool) -> Way {
        self.scene.score.add(Deed::Drop);
        let seat_until = Instant::now() + GRACE;
        if let Some(own) = own(&client) {
            self.room.ledger.may_leave(own, seat_until);
        }
        let way = match by_resume {
            true => self.by_resume(&client, after),
            false => self.by_ticket(after),
        };
        drop(client);
        Way {
            seat_until: Some(seat_until),
            ..way
        }
    }

    async fn leave(&mut self, client: Client) -> Option<Way> {
        self.scene.score.add(Deed::Leave);
        if let Some(own) = own(&client) {
            self.room.ledger.may_leave(own, Instant::now());
        }
        let left = timeout(PATIENCE, client.leave()).await;
        if !matches!(left, Ok(Ok(()))) && !self.room.is_closing() {
            self.fault(Fault::Lost, format!("leaving ended with {left:?}"));
            return None;
        }
        Some(self.by_ticket(SOON))
    }

    /// Reads nothing more, as if the network were gone, and comes back elsewhere at once.
    fn go_silent(&mut self, mut client: Client) -> Way {
        self.scene.score.add(Deed::GoSilent);
        let way = self.by_resume(&client, (Duration::ZERO, Duration::ZERO));
        let tally = Arc::clone(&self.scene.tally);
        self.silent.spawn(async move {
            sleep(SILENT).await;
            if timeout(PATIENCE, client.see_end()).await.is_err() {
                tally.fault(Fault::Kept, format!("not closed, silent for {SILENT:?}"));
            }
        });
        Way {
            // The connection is alive as far as the server knows.
            seat_until: Some(Instant::now() + GRACE),
            ..way
        }
    }

    fn by_ticket(&mut self, after: (Duration, Duration)) -> Way {
        let ticket = &self.room.tickets[self.at];
        Way {
            query: ticket.query.clone(),
            deed: ticket.deed,
            after: self.chance.between(after.0, after.1),
            seat_until: None,
        }
    }

    fn by_resume(&mut self, client: &Client, after: (Duration, Duration)) -> Way {
        Way {
            query: format!("resume={}", client.greeting().resume_token),
            deed: Deed::ResumeInTime,
            after: self.chance.between(after.0, after.1),
            seat_until: None,
        }
    }

    /// Tries what must be refused.
    async fn try_wrongly(&mut self) {
        let room = Arc::clone(&self.room);
        let wrong = &room.wrong[self.chance.below(room.wrong.len())];
        if Instant::now() < wrong.from {
            return;
        }
        match Client::enter(&self.route, &wrong.query, &self.scene.tally).await {
            Ok(Arrival::Refused(refusal)) if refusal.code == wrong.code => {
                self.scene.score.add(Deed::JoinWrongly);
            }
            other => {
                let text = format!("not refused with {}: {other:?}", wrong.code);
                self.fault(Fault::Malformed, text);
            }
        }
    }

    fn fault(&self, fault: Fault, text: impl AsRef<str>) {
        self.scene.tally.fault(fault, text);
    }
}

fn own(client: &Client) -> Option<Id> {
    Id::read(&client.greeting().participant)
}

//! Somebody with a place in a room, who comes back to it as the protocol says.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep},
};

use super::Way;
use crate::{
    chance::{Backoff, Chance},
    client::{Arrival, Client, Order, Stay, View},
    departure::Departures,
    fault::Fault,
    measure::latency::Latency,
    moment::Moment,
    report::Report,
    roster::Id,
    script::Script,
    tally::Tally,
    wire::Route,
};

/// One a second is free (PROTOCOL.md, "Limits").
const SCRIPT: Script = Script {
    heartbeat: Some(Duration::from_secs(1)),
    cursor: None,
    update: None,
};
/// Whoever is not in after so many is lost.
const ATTEMPTS: usize = 100;
/// Of the server that goes away.
const RESTARTING: u16 = 1012;

/// What everybody shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub tally: Arc<Tally>,
    /// How many may enter at a time, the first time.
    pub width: Semaphore,
    way: Mutex<Way>,
    /// From losing the connection to the welcome.
    away: Latency,
    hinted: AtomicU64,
    unreachable: AtomicU64,
    sent_away: AtomicU64,
}

/// Somebody.
#[derive(Debug)]
pub(super) struct Person {
    pub number: usize,
    pub room: usize,
    pub route: Route,
    pub query: String,
    /// Does not come back when the server is killed.
    pub is_absent: bool,
    pub shared: Arc<Shared>,
    /// Whom they saw leave, over all their connections.
    pub departures: Departures,
    pub record: Mutex<Record>,
    stays_away: AtomicBool,
}

/// What became of them.
#[derive(Debug, Default, Clone)]
pub(super) struct Record {
    pub welcomes: usize,
    pub welcomed_at: Option<Instant>,
    pub own: Option<Id>,
    pub view: Option<View>,
    /// Whom the last welcome showed.
    pub shown: Vec<Id>,
    /// The server's clock in its last answer to a heartbeat before the last connection ended.
    pub acked_at: Option<Moment>,
}

impl Shared {
    pub(super) fn new(tally: &Arc<Tally>, width: usize) -> Self {
        Self {
            tally: Arc::clone(tally),
            width: Semaphore::new(width),
            way: Mutex::new(Way::Asked),
            away: Latency::default(),
            hinted: AtomicU64::new(0),
            unreachable: AtomicU64::new(0),
            sent_away: AtomicU64::new(0),
        }
    }

    /// The server is about to end in this way.
    pub(super) fn begin(&self, way: Way) {
        *self.way.lock() = way;
        self.away.take();
        for count in [&self.hinted, &self.unreachable, &self.sent_away] {
            count.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn report(&self, chapter: &str, report: &mut Report) {
        let mut say = |name: &str, count: &AtomicU64| {
            let count = count.load(Ordering::Relaxed);
            report.figure(format!("{chapter}: {name}"), count as f64, "");
        };
        say("told when to come back", &self.hinted);
        say("attempts that nobody answered", &self.unreachable);
        say("attempts answered by 429 or 503", &self.sent_away);
        report.latency(format!("{chapter}: lost to welcome"), self.away.take());
    }
}

impl Person {
    pub(super) fn new(
        (number, room): (usize, usize),
        (route, query): (Route, String),
        is_absent: bool,
        shared: &Arc<Shared>,
    ) -> Self {
        Self {
            number,
            room,
            route,
            query,
            is_absent,
            shared: Arc::clone(shared),
            departures: Departures::default(),
            record: Mutex::default(),
            stays_away: AtomicBool::new(false),
        }
    }

    /// Does not come back any more.
    pub(super) fn stay_away(&self) {
        self.stays_away.store(true, Ordering::Relaxed);
    }

    /// Enters, and comes back whenever the server goes away; until the orders end.
    pub(super) async fn live(self: Arc<Self>, mut orders: watch::Receiver<Order>) {
        let mut chance = Chance::of(self.number as u64);
        // Never closed.
        let turn = self.shared.width.acquire().await;
        let mut entered = self.enter(&self.query, None, &mut chance).await;
        drop(turn);
        while let Some(mut client) = entered {
            self.note_welcome(&client);
            client.note_departures(&self.departures);
            let course = SCRIPT.begin(Instant::now(), chance.share());
            let stay = client.stay(course, None, &mut orders).await;
            let lost_at = Instant::now();
            self.record.lock().acked_at = client.acked_at();
            if matches!(stay, Stay::Over) {
                return;
            }
            self.check_end(&stay, client.come_back_after());
            if self.stays_away.load(Ordering::Relaxed) {
                return;
            }
            let resume = format!("resume={}", client.greeting().resume_token);
            let hint = client.come_back_after();
            drop(client);
            entered = self.enter(&resume, hint, &mut chance).await;
            if entered.is_some() {
                self.shared.away.record(lost_at.elapsed());
            }
        }
    }

    /// Goes on trying, as browsers do: when told to, else with full-jitter back-off. The first of all tries is at once.
    async fn enter(
        &self,
        query: &str,
        hint: Option<Duration>,
        chance: &mut Chance,
    ) -> Option<Client> {
        let (shared, mut backoff) = (&self.shared, Backoff::default());
        let is_back = self.record.lock().welcomes > 0;
        let mut wait = match hint {
            Some(hint) => hint,
            None if is_back => backoff.next(chance),
            None => Duration::ZERO,
        };
        for _ in 0..ATTEMPTS {
            sleep(wait).await;
            let refusal = match Client::enter(&self.route, query, &shared.tally).await {
                Ok(Arrival::In(client)) => return Some(client),
                Ok(Arrival::Refused(refusal)) => refusal,
                Ok(Arrival::Closed(_)) | Err(_) => {
                    shared.unreachable.fetch_add(1, Ordering::Relaxed);
                    wait = backoff.next(chance);
                    continue;
                }
            };
            if !matches!(refusal.status, 429 | 503) {
                shared.tally.fault(Fault::Refused, format!("{refusal:?}"));
                return None;
            }
            shared.sent_away.fetch_add(1, Ordering::Relaxed);
            wait = match refusal.retry_after_ms {
                Some(millis) => Duration::from_millis(millis),
                None => backoff.next(chance),
            };
        }
        shared
            .tally
            .fault(Fault::Lost, format!("not in after {ATTEMPTS} attempts"));
        None
    }

    fn note_welcome(&self, client: &Client) {
        let (greeting, view) = (client.greeting(), client.view());
        let mut record = self.record.lock();
        record.welcomes += 1;
        record.welcomed_at = Some(Instant::now());
        let own = Id::read(&greeting.participant);
        if record.welcomes > 1 {
            if !greeting.resumed {
                let text = format!("{} was welcomed as new", greeting.participant);
                self.shared.tally.fault(Fault::NotResumed, text);
            }
            if own != record.own {
                let text = format!("{} was somebody else before", greeting.participant);
                self.shared.tally.fault(Fault::Ghost, text);
            }
        }
        record.own = own;
        record.shown = {
            let view = view.lock();
            view.roster()
                .map(|roster| roster.ids().collect())
                .unwrap_or_default()
        };
        record.view = Some(view);
    }

    /// Who is asked to go says when to come back; who is killed says nothing.
    fn check_end(&self, stay: &Stay, hint: Option<Duration>) {
        let way = *self.shared.way.lock();
        if hint.is_some() {
            self.shared.hinted.fetch_add(1, Ordering::Relaxed);
        }
        let is_right = match way {
            Way::Asked => matches!(stay, Stay::Closed(RESTARTING)) && hint.is_some(),
            Way::Killed => matches!(stay, Stay::Broken(_)),
        };
        if !is_right {
            let text = format!("{way:?}: {stay:?}, and to come back after {hint:?}");
            self.shared.tally.fault(Fault::Lost, text);
        }
    }
}

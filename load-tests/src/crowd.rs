//! Many clients in this process: they enter at a pace, follow one script, and obey one order.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    client::{Arrival, Client, Greeting, Order, View},
    fault::Fault,
    script::Script,
    tally::Tally,
    wire::Route,
};

/// How often a client that was told to come back does; then it is refused.
const ATTEMPTS: usize = 30;

/// What lets a client in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ticket {
    /// Which of the run's rooms.
    pub room: usize,
    /// The words of the query.
    pub query: String,
}

/// How fast clients enter.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Pace {
    /// As fast as the kernel lets: nobody waits for anybody.
    AtOnce,
    /// Evenly over this time, however slow the server is.
    Over(Duration),
    /// So many at a time: the next when one is in.
    Abreast(usize),
}

/// A client that is in.
#[derive(Debug, Clone)]
pub struct Seat {
    /// The position of its ticket.
    pub ticket: usize,
    /// Its room.
    pub room: usize,
    /// What it was greeted with.
    pub greeting: Greeting,
    /// What it believes.
    pub view: View,
}

/// Clients, in or on their way. Dropping hangs up on the server.
#[derive(Debug)]
pub struct Crowd {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    orders: watch::Sender<Order>,
    size: usize,
    began: Instant,
}

#[derive(Debug)]
struct Shared {
    routes: Vec<Route>,
    tally: Arc<Tally>,
    script: Script,
    seats: Mutex<Vec<Seat>>,
    /// Clients that are in, or will not be.
    settled: watch::Sender<Settled>,
}

/// How far a crowd is.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Settled {
    /// In, or refused for good.
    pub clients: usize,
    /// From the beginning to the last welcome.
    pub last_welcome: Duration,
    /// Asked to come back later, and did.
    pub sent_away: u64,
}

impl Crowd {
    /// Sets a crowd in motion, over these routes in turn.
    pub fn gather(
        routes: Vec<Route>,
        tickets: Vec<Ticket>,
        pace: Pace,
        script: Script,
        tally: &Arc<Tally>,
    ) -> Self {
        let shared = Arc::new(Shared {
            routes,
            tally: Arc::clone(tally),
            script,
            seats: Mutex::new(Vec::with_capacity(tickets.len())),
            settled: watch::Sender::default(),
        });
        let (size, began) = (tickets.len(), Instant::now());
        let width = Arc::new(Semaphore::new(match pace {
            Pace::Abreast(width) => width,
            Pace::AtOnce | Pace::Over(_) => Semaphore::MAX_PERMITS,
        }));
        let (orders, order) = watch::channel(Order::Stay);
        let mut tasks = JoinSet::new();
        for (at, ticket) in tickets.into_iter().enumerate() {
            let (shared, width, order) = (Arc::clone(&shared), Arc::clone(&width), order.clone());
            let share = at as f64 / size as f64;
            tasks.spawn(async move {
                let due = match pace {
                    Pace::Over(time) => began + time.mul_f64(share),
                    Pace::AtOnce | Pace::Abreast(_) => began,
                };
                sleep_until(due).await;
                // Never closed.
                let turn = width.acquire().await;
                let due = if matches!(pace, Pace::Abreast(_)) {
                    Instant::now()
                } else {
                    due
                };
                let client = shared.let_in(at, &ticket, due, began).await;
                drop(turn);
                drop(width);
                if let Some(client) = client {
                    client.run(shared.script, share, order).await;
                }
            });
        }
        Self {
            shared,
            tasks,
            orders,
            size,
            began,
        }
    }

    /// Waits until everybody is in or refused; whoever is neither in time is a fault.
    pub async fn settled(&self, within: Duration) -> Settled {
        let mut settled = self.shared.settled.subscribe();
        let all = settled.wait_for(|settled| settled.clients == self.size);
        if timeout(within, all).await.is_err() {
            let missing = self.size - self.shared.settled.borrow().clients;
            let text = format!("{missing} were not answered within {within:?}");
            self.shared.tally.fault(Fault::Unanswered, text);
        }
        *self.shared.settled.borrow()
    }

    /// Those who are in.
    pub fn seats(&self) -> Vec<Seat> {
        self.shared.seats.lock().clone()
    }

    /// When it was set in motion.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Has everybody listen only.
    pub fn hush(&self) {
        self.orders.send_replace(Order::Hush);
    }

    /// Has everybody leave, and waits until they have.
    pub async fn leave(mut self, within: Duration) {
        self.orders.send_replace(Order::Leave);
        let gone = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(within, gone).await.is_err() {
            let text = format!("{} did not leave within {within:?}", self.tasks.len());
            self.shared.tally.fault(Fault::Unanswered, text);
        }
    }
}

impl Shared {
    async fn let_in(
        &self,
        at: usize,
        ticket: &Ticket,
        due: Instant,
        began: Instant,
    ) -> Option<Client> {
        let route = self.routes[at % self.routes.len()];
        let (client, sent_away) = self.persist(&route, &ticket.query).await;
        if let Some(client) = &client {
            self.tally.welcomes.record(due.elapsed());
            self.seats.lock().push(Seat {
                ticket: at,
                room: ticket.room,
                greeting: client.greeting().clone(),
                view: client.view(),
            });
        }
        self.settled.send_modify(|settled| {
            settled.clients += 1;
            settled.sent_away += sent_away;
            if client.is_some() {
                settled.last_welcome = began.elapsed();
            }
        });
        client
    }

    /// Comes back when asked to, as browsers do; any other refusal is a fault.
    async fn persist(&self, route: &Route, query: &str) -> (Option<Client>, u64) {
        for sent_away in 0..ATTEMPTS as u64 {
            let refusal = match Client::enter(route, query, &self.tally).await {
                Ok(Arrival::In(client)) => return (Some(client), sent_away),
                Ok(Arrival::Refused(refusal)) => refusal,
                Ok(Arrival::Closed(code)) => {
                    let text = format!("closed with {code} before the welcome");
                    self.tally.fault(Fault::Lost, text);
                    return (None, sent_away);
                }
                Err(error) => {
                    self.tally
                        .fault(Fault::Lost, format!("on the way in: {error:#}"));
                    return (None, sent_away);
                }
            };
            match refusal.retry_after_ms {
                Some(millis) if matches!(refusal.status, 429 | 503) => {
                    sleep(Duration::from_millis(millis)).await;
                }
                _ => {
                    self.tally.fault(Fault::Refused, format!("{refusal:?}"));
                    return (None, sent_away);
                }
            }
        }
        self.tally
            .fault(Fault::Refused, format!("{ATTEMPTS} times in a row"));
        (None, ATTEMPTS as u64)
    }
}

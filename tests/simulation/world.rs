//! The world around one server: its database, its clients, and the time they share.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rollcall::{
    admission::{Credential, Query},
    clock::Clock,
    config::{Config, Secret},
    node::Node,
    store::{RoomKey, Store},
};
use rollcall_protocol::Timestamp;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, advance, sleep, sleep_until},
};

use crate::{
    database::{Database, Kind, Rows},
    faults::Faults,
    link::{Flow, Link},
    log::{Breach, Log},
    model::{By, Conn, Invite, Member, Room},
    peer::{Beat, Client, Command, View},
};

/// The rooms' names; the last is only ever made by access tokens.
pub const SLOTS: [&str; 5] = ["plain", "brief", "kept", "aged", "made"];
pub const MADE: usize = 4;
pub const JWT_SECRET: &str = "a secret of more than thirty-two bytes for tests";

/// What happens later by itself.
#[derive(Debug, Clone, Copy)]
pub enum Later {
    StoreBack,
    Rejoin(usize),
}

pub struct World {
    pub rng: StdRng,
    pub log: Log,
    pub clock: Clock,
    pub config: Arc<Config>,
    pub database: Database,
    pub faults: Faults,
    pub node: Option<Arc<Node>>,
    pub store: Arc<dyn Store>,
    pub generation: u32,
    pub crashed: Vec<u32>,
    pub conns: Vec<Conn>,
    pub invites: Vec<Invite>,
    pub rooms: BTreeMap<RoomKey, Room>,
    pub members: BTreeMap<(RoomKey, String), Member>,
    pub later: BTreeMap<(Instant, usize), Later>,
    pub tasks: JoinSet<()>,
    pub rows: Rows,
    pub stepped_at: Option<Instant>,
    /// Since when the server knows of the last step.
    pub step_known_at: Option<Instant>,
    pub stalled_at: Option<Instant>,
    pub stalled_for: Duration,
    /// Readers may be owed a `sync` until then.
    pub lapped_until: Instant,
    pub strangers: usize,
}

impl World {
    pub async fn new(seed: u64, kind: Kind) -> Self {
        rollcall::chance::seed(seed);
        let clock = Clock::manual(Timestamp::from_millis(1_795_514_400_000));
        let log = Log::new(clock.clone());
        let faults = Faults::new(log.clone());
        let database = Database::open(kind, clock.clone()).await;
        let store = database.handle(&faults).await;
        let rows = database.rows().await;
        let mut config = Config::default_dev();
        config.room_idle_timeout = Duration::from_secs(180);
        config.reap_interval = Duration::from_secs(60);
        config.jwt_secret = Some(Secret::new(JWT_SECRET));
        // Three are a crowd in some lives, so that rooms cross the limit there and back.
        config.limits.roster_limit = if seed.is_multiple_of(4) { 2 } else { 4 };
        config.limits.connections_per_participant = 3;
        Self {
            rng: StdRng::seed_from_u64(seed),
            log,
            clock,
            config: Arc::new(config),
            database,
            faults,
            node: None,
            store,
            generation: 0,
            crashed: Vec::new(),
            conns: Vec::new(),
            invites: Vec::new(),
            rooms: BTreeMap::new(),
            members: BTreeMap::new(),
            later: BTreeMap::new(),
            tasks: JoinSet::new(),
            rows,
            stepped_at: None,
            step_known_at: None,
            stalled_at: None,
            stalled_for: Duration::ZERO,
            lapped_until: Instant::now(),
            strangers: 0,
        }
    }

    pub fn node(&self) -> &Node {
        self.node.as_deref().expect("a node between restarts")
    }

    pub fn draw(&mut self, below: usize) -> usize {
        self.rng.random_range(0..below)
    }

    pub fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.rng.random_range(0..from.len())])
    }

    pub fn millis(&mut self, upto: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(0..upto))
    }

    /// The numbers of the connections that are so.
    pub fn which(&self, is_so: impl Fn(&Conn) -> bool) -> Vec<usize> {
        let conns = self.conns.iter().filter(|conn| is_so(conn));
        conns.map(|conn| conn.number).collect()
    }

    /// Lets everything happen that can happen now. Paused time moves by this once everybody waits.
    pub async fn settle(&mut self) {
        sleep(Duration::from_millis(2)).await;
    }

    /// Lets time pass, with what is to happen meanwhile, and looks at everything again and again.
    pub async fn wait(&mut self, wait: Duration) -> Result<(), Breach> {
        let end = Instant::now() + wait;
        loop {
            let look_at = (Instant::now() + Duration::from_secs(15)).min(end);
            let next = self.later.first_key_value().map(|((at, _), _)| *at);
            let is_quiet = next.is_none_or(|next| next > look_at) && self.joining() == 0;
            let (before, began) = (self.faults.counts(), Instant::now());
            sleep_until(next.map_or(look_at, |next| next.min(look_at))).await;
            if is_quiet {
                self.check_calls(&before, began)?;
            }
            while let Some(entry) = self.later.first_entry()
                && entry.key().0 <= Instant::now()
            {
                let what = entry.remove();
                self.happen(what).await?;
            }
            self.check().await?;
            if Instant::now() >= end {
                return Ok(());
            }
        }
    }

    async fn happen(&mut self, what: Later) -> Result<(), Breach> {
        self.log.note(format_args!("{what:?}"));
        match what {
            Later::StoreBack => {
                self.faults.heal();
                if self.chance(60) {
                    self.rush().await?;
                }
            }
            Later::Rejoin(number) => self.resume(number),
        }
        Ok(())
    }

    pub fn at(&mut self, wait: Duration, what: Later) {
        let key = (Instant::now() + wait, self.later.len() + self.conns.len());
        self.later.insert(key, what);
    }

    pub fn joining(&self) -> usize {
        self.which(Conn::is_joining).len()
    }

    /// A moment within a millisecond, so that clocks are not in phase.
    pub async fn shift(&mut self) {
        advance(Duration::from_micros(self.rng.random_range(1..1000))).await;
    }

    pub fn credential(&mut self, slot: usize, user: usize) -> (Query, By, String, Option<Instant>) {
        let create = slot == MADE || self.chance(10);
        let is_short = self.chance(8);
        let now = self.clock.now().as_millis() / 1000;
        let exp = now + if is_short { 130 } else { 400 * 3600 };
        let who = format!("u{user}");
        let claims = json!({
            "sub": who, "name": who, "room": SLOTS[slot], "create": create, "exp": exp,
        });
        let end = is_short.then(|| {
            let left = exp * 1000 - self.clock.now().as_millis();
            Instant::now() + Duration::from_millis(left.max(0) as u64)
        });
        let credential = Credential::AccessToken(jwt(&claims));
        (plain(credential), By::Token { create }, who, end)
    }

    /// Somebody tries to enter.
    pub fn enter(&mut self, query: Query, by: By, who: String, slot: usize, end: Option<Instant>) {
        let late = match self.draw(6) {
            0 => Duration::from_millis(1) + self.millis(400),
            _ => Duration::ZERO,
        };
        let flow = if late.is_zero() {
            Flow::Open
        } else {
            Flow::Late(late)
        };
        let upgrade = match self.draw(8) {
            0 => self.millis(3_000),
            1 => self.millis(40),
            _ => Duration::ZERO,
        };
        let (link, server, socket) = Link::new(flow, &mut self.tasks);
        let (commands, inbox) = mpsc::channel(512);
        let view: Arc<Mutex<View>> = Arc::default();
        let number = self.conns.len();
        self.log.note(format_args!(
            "#{number} {who} enters {} by {by:?}, late {late:?}, upgrade {upgrade:?}",
            SLOTS[slot]
        ));
        let client = Client {
            number,
            query,
            node: self.node.as_ref().map(Arc::downgrade).unwrap_or_default(),
            upgrade,
            server,
            socket,
            commands: inbox,
            view: Arc::clone(&view),
            log: self.log.clone(),
        };
        self.tasks.spawn(client.live());
        self.conns.push(Conn {
            number,
            generation: self.generation,
            who,
            slot,
            by,
            asked: Beat {
                at: Instant::now(),
                store: self.log.now(),
            },
            late,
            link,
            commands,
            view,
            fault: None,
            leaving: None,
            is_doubted: false,
            is_unsure: false,
            token_end: end,
            room: None,
            grace: None,
            said_state: None,
            removals: 0,
            is_judged: false,
            is_welcomed: false,
            is_explained: false,
        });
    }

    /// Somebody comes back by the resume token of a connection, fresh or stale.
    pub fn resume(&mut self, of: usize) {
        let conn = &self.conns[of];
        let (token, who, slot, end) = (
            conn.view.lock().token.clone(),
            conn.who.clone(),
            conn.slot,
            conn.token_end,
        );
        if conn.room.is_none() {
            return;
        }
        let removals = self.conns[of].removals;
        if self.conns[of].generation == self.generation {
            self.conns[of].is_doubted = true;
        }
        self.enter(
            plain(Credential::Resume(token)),
            By::Resume { of, removals },
            who,
            slot,
            end,
        );
    }

    /// Tells a client what to do. One that is gone does not hear it.
    pub fn tell(&self, number: usize, command: Command) {
        let _ = self.conns[number].commands.try_send(command);
    }

    pub fn say(&self, number: usize, message: Value) {
        self.tell(number, Command::Say(message));
    }
}

pub fn plain(credential: Credential) -> Query {
    Query {
        credential,
        name: None,
        client: None,
        room: None,
    }
}

fn jwt(claims: &Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(JWT_SECRET.as_bytes());
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    jsonwebtoken::encode(&header, claims, &key).unwrap()
}

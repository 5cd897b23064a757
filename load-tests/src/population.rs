//! Thousands of people in small rooms, most of them held by processes that can be ended in one instant.

mod check;
mod layout;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::future::try_join_all;
use tokio::time::{Instant, sleep};

use crate::{
    api::Api,
    crowd::{Crowd, Pace, Seat, Ticket},
    fault::{Fault, Faults},
    holder::{Held, Holder, Plan},
    measure::process::Cost,
    options::Common,
    script::Script,
    server::Server,
    tally::Tally,
    wire::Route,
};

pub use self::layout::Room;
use self::layout::layout;

/// A process may have 20,000 descriptors here; ending several smaller ones takes both cores.
const PER_HOLDER: usize = 4000;
/// Clients on their way in at a time, of each process.
const ABREAST: usize = 32;
/// How long setting everything up may take, step by step.
const PATIENCE: Duration = Duration::from_secs(120);
/// The kept ask more often than they must, to notice more: one a second is free (PROTOCOL.md, "Limits").
const KEPT_SCRIPT: Script = Script {
    heartbeat: Some(Duration::from_secs(1)),
    cursor: None,
    update: None,
};
/// As in TARGETS.
const LOST_SCRIPT: Script = Script {
    heartbeat: Some(Duration::from_secs(5)),
    cursor: None,
    update: None,
};
/// The last number of the address that the kept come from; holders have those below.
const KEPT_HOST: u8 = 100;
/// Of those who are not part of the crowd.
pub const PROBE_HOST: u8 = 101;

/// Everybody, connected.
#[derive(Debug)]
pub struct Population {
    /// The server they are connected to.
    pub server: Server,
    /// What it cost before anybody came.
    pub empty: Cost,
    /// Its API.
    pub api: Api,
    /// The rooms.
    pub rooms: Vec<Room>,
    /// What the kept have seen.
    pub tally: Arc<Tally>,
    /// Those that are not dropped.
    pub kept: Crowd,
    /// Those that are, by holder.
    pub lost: Vec<Lost>,
    names: Names,
}

/// Clients in one process.
#[derive(Debug)]
pub struct Lost {
    /// The process.
    pub holder: Holder,
    /// Where they come from.
    pub hosts: Vec<u8>,
    /// What let them in.
    pub tickets: Vec<Ticket>,
    /// Who they are.
    pub held: Vec<Held>,
}

/// Names that no other run on the same database uses.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    process: u32,
    set: u32,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            process: std::process::id(),
            set: 0,
        }
    }
}

impl Names {
    /// Names that this process has not used either.
    pub fn fresh() -> Self {
        static SETS: AtomicU32 = AtomicU32::new(1);
        Self {
            set: SETS.fetch_add(1, Ordering::Relaxed),
            ..Self::default()
        }
    }

    /// A room's id.
    pub fn room(self, at: usize) -> String {
        format!("load-{}-{}-{at}", self.process, self.set)
    }

    /// What lets somebody in by an invite, again and again as the same participant.
    pub fn guest(self, invite: &str, at: usize) -> String {
        format!(
            "invite={invite}&name=p{at:06}&client=load{:010}x{:05}x{at:010}",
            self.process, self.set
        )
    }
}

impl Population {
    /// Starts a server and connects everybody. From the main thread only (see [`crate::child`]).
    ///
    /// # Errors
    /// A process does not start, or the API refuses.
    pub async fn connect(
        common: &Common,
        connections: usize,
        flags: &[String],
    ) -> anyhow::Result<Self> {
        let server = Server::start(common, flags).await?;
        let (names, rooms) = (Names::default(), layout(connections));
        let invites = invites(&server, names, rooms.len()).await?;
        let empty = server.process().cost()?;
        let mut at = 0;
        let mut tickets = |count: fn(&Room) -> usize| {
            let mut tickets = Vec::new();
            for (room, invite) in invites.iter().enumerate() {
                for _ in 0..count(&rooms[room]) {
                    tickets.push(Ticket {
                        room,
                        query: names.guest(invite, at),
                    });
                    at += 1;
                }
            }
            tickets
        };
        let (kept, lost) = (tickets(|room| room.kept), tickets(|room| room.lost));
        let tally = Arc::new(Tally::default());
        let routes = vec![Route::local(server.addr(), KEPT_HOST)];
        let kept = Crowd::gather(routes, kept, Pace::Abreast(ABREAST), KEPT_SCRIPT, &tally);
        let lost = hold(&server, &lost, Pace::Abreast(ABREAST), &tally).await?;
        kept.settled(PATIENCE).await;
        let population = Self {
            api: Api::connect(server.addr()).await?,
            server,
            empty,
            rooms,
            tally,
            kept,
            lost,
            names,
        };
        population
            .await_rosters(|room| room.kept + room.lost, PATIENCE)
            .await;
        Ok(population)
    }

    /// How many are held elsewhere.
    pub fn lost(&self) -> usize {
        self.rooms.iter().map(|room| room.lost).sum()
    }

    /// How many are in this process.
    pub fn kept(&self) -> usize {
        self.rooms.iter().map(|room| room.kept).sum()
    }

    /// Makes a room for those who only look, and answers an invite into it.
    ///
    /// # Errors
    /// The API refuses.
    pub async fn make_anteroom(&mut self) -> anyhow::Result<String> {
        self.api.make_room(&self.names.room(self.rooms.len())).await
    }

    /// Ends all holders, and answers when the first was ended.
    ///
    /// # Errors
    /// One had ended already.
    pub async fn drop_lost(&mut self) -> anyhow::Result<Instant> {
        let now = Instant::now();
        for lost in &mut self.lost {
            lost.holder.kill()?;
        }
        for lost in self.lost.drain(..) {
            lost.holder.gone().await?;
        }
        Ok(now)
    }

    /// Waits until each of the kept sees as many people as its room should have; who does not in time has seen a ghost.
    pub async fn await_rosters(&self, expected: impl Fn(&Room) -> usize, within: Duration) {
        let deadline = Instant::now() + within;
        let seats = self.kept.seats();
        let sees =
            |seat: &Seat| seat.view.lock().occupancy() == expected(&self.rooms[seat.room]) as u64;
        while !seats.iter().all(sees) {
            if Instant::now() > deadline {
                let wrong = seats.iter().filter(|seat| !sees(seat)).count();
                self.tally.fault(
                    Fault::Ghost,
                    format!("{wrong} see the wrong number of people after {within:?}"),
                );
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends the server, and answers how many warnings it logged.
    ///
    /// # Errors
    /// It had ended already.
    pub async fn end(self) -> anyhow::Result<usize> {
        // First, or losing the server would be a fault.
        drop(self.kept);
        let mut faults = Faults::default();
        let warnings = self.server.end(&mut faults).await?;
        self.tally.with_faults(|all| all.merge(faults));
        Ok(warnings)
    }
}

/// Makes rooms over several connections, and answers an invite into each.
///
/// # Errors
/// The server refuses.
pub async fn invites(server: &Server, names: Names, rooms: usize) -> anyhow::Result<Vec<String>> {
    let lanes = ABREAST.min(rooms);
    let lane = |first: usize| async move {
        let mut api = Api::connect(server.addr()).await?;
        let mut made = Vec::new();
        for at in (first..rooms).step_by(lanes) {
            made.push((at, api.make_room(&names.room(at)).await?));
        }
        anyhow::Ok(made)
    };
    let mut made: Vec<(usize, String)> = try_join_all((0..lanes).map(lane)).await?.concat();
    made.sort_unstable();
    Ok(made.into_iter().map(|(_, invite)| invite).collect())
}

/// Puts tickets into holders, and lets them enter.
async fn hold(
    server: &Server,
    tickets: &[Ticket],
    pace: Pace,
    tally: &Tally,
) -> anyhow::Result<Vec<Lost>> {
    let holders = tickets.len().div_ceil(PER_HOLDER).max(2);
    let mut lost = Vec::new();
    for (at, tickets) in tickets.chunks(tickets.len().div_ceil(holders)).enumerate() {
        let hosts = hosts(at);
        let mut holder = Holder::start(plan(server, hosts.clone(), tickets.to_vec(), pace)).await?;
        holder.go().await?;
        lost.push(Lost {
            holder,
            hosts,
            tickets: tickets.to_vec(),
            held: Vec::new(),
        });
    }
    for lost in &mut lost {
        lost.held = lost.holder.joined().await?.held;
        let faults = lost.holder.report().await?.faults;
        tally.with_faults(|all| all.merge(faults));
    }
    Ok(lost)
}

/// What a holder of lost clients is to do.
pub fn plan(server: &Server, hosts: Vec<u8>, tickets: Vec<Ticket>, pace: Pace) -> Plan {
    Plan {
        to: server.addr(),
        hosts,
        tickets,
        pace,
        script: LOST_SCRIPT,
        within: PATIENCE,
    }
}

/// Two addresses a holder.
fn hosts(holder: usize) -> Vec<u8> {
    let first = 2 + 2 * u8::try_from(holder % 40).unwrap_or_default();
    vec![first, first + 1]
}

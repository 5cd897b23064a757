//! Joining: newcomers by invite and users who come back, each on disk before it is answered.

use anyhow::ensure;
use rollcall::{
    admission::{Ask, hash},
    clock::Clock,
};
use rollcall_protocol::Timestamp;

use crate::{
    bed::Bed,
    meter::{Cost, measure},
    options::Options,
    rig::Rig,
    series::Series,
    table::{self, Goals, Table, shown},
};

/// Joins in flight at a time.
const FEW: usize = 256;
const MANY: usize = 1_024;
/// Joins are fewer by this factor where each has its own commit, and by its square where each waits for the last: they
/// are slower.
const SLOWER: usize = 4;
/// Without a common factor with the number of rooms, so that every room has its turn.
const STRIDE: usize = 7_919;

/// Who joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Newcomers,
    Returning,
}

/// How joins are committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// One by one, on as many connections as the pool has.
    Each,
    /// Through admission, so many in flight.
    Grouped(usize),
}

const CASES: [(Who, Way); 8] = [
    (Who::Newcomers, Way::Each),
    (Who::Newcomers, Way::Grouped(FEW)),
    (Who::Newcomers, Way::Grouped(MANY)),
    (Who::Newcomers, Way::Grouped(1)),
    (Who::Returning, Way::Each),
    (Who::Returning, Way::Grouped(FEW)),
    (Who::Returning, Way::Grouped(MANY)),
    (Who::Returning, Way::Grouped(1)),
];

/// The figures of one case.
#[derive(Debug, Default)]
struct Found {
    per_second: Series,
    latency_ms: Series,
    server_us: Series,
    client_us: Series,
    wal_bytes: Series,
}

impl Found {
    fn add(&mut self, latencies_ms: Series, cost: &Cost) {
        let joins = latencies_ms.count() as f64;
        self.per_second.push(joins / cost.took.as_secs_f64());
        self.server_us.push(cost.server.as_secs_f64() * 1e6 / joins);
        self.client_us.push(cost.client.as_secs_f64() * 1e6 / joins);
        self.wal_bytes.push(cost.wal_bytes as f64 / joins);
        self.latency_ms.append(latencies_ms);
    }
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let mut bench = Bench::new(options).await?;
    let mut found = CASES.map(|_| Found::default());
    for round in 0..=options.join_rounds() {
        table::progress(&format!(
            "joins, round {round} of {}",
            options.join_rounds()
        ));
        for ((who, way), found) in CASES.into_iter().zip(&mut found) {
            let (latencies_ms, cost) = bench.once(who, way).await?;
            // The first fills the pool, and writes whole pages to the log.
            if round > 0 {
                found.add(latencies_ms, &cost);
            }
        }
    }
    print(&found);
    print_goals(&found);
    Ok(())
}

struct Bench {
    bed: Bed,
    rig: Rig,
    rooms: usize,
    joins: usize,
    connections: usize,
    /// Joins so far.
    count: usize,
}

impl Bench {
    async fn new(options: &Options) -> anyhow::Result<Self> {
        let rooms = options.rooms();
        let mut bed = Bed::start(options).await?;
        let rig = Rig::new(&bed, MANY).await?;
        bed.seed(1..rooms + 1).await?;
        Ok(Self {
            bed,
            rig,
            rooms,
            joins: options.joins(),
            connections: options.connections as usize,
            count: 0,
        })
    }

    async fn once(&mut self, who: Who, way: Way) -> anyhow::Result<(Series, Cost)> {
        let asks = self.asks(who, way)?;
        let before = self.state().await?;
        let (rig, connections) = (&self.rig, self.connections);
        let ((latencies_ms, admitted), cost) = match way {
            Way::Grouped(in_flight) => {
                measure(&mut self.bed, rig.grouped(&asks, in_flight)).await?
            }
            Way::Each => {
                let work = async { Ok((rig.one_by_one(&asks, connections).await?, Vec::new())) };
                measure(&mut self.bed, work).await?
            }
        };
        self.verify(who, asks.len() as i64, before).await?;
        drop(admitted);
        self.rig.flush().await?;
        Ok((latencies_ms, cost))
    }

    /// Who asks to join: into other rooms each time, until all have had their turn.
    fn asks(&mut self, who: Who, way: Way) -> anyhow::Result<Vec<Ask>> {
        let joins = match way {
            Way::Grouped(1) => self.joins / SLOWER / SLOWER,
            Way::Grouped(_) => self.joins,
            Way::Each => self.joins / SLOWER,
        };
        let first = self.count;
        self.count += joins;
        (first..self.count)
            .map(|number| ask(who, number, number * STRIDE % self.rooms + 1))
            .collect()
    }

    /// How many participants there are, and how often they were admitted.
    async fn state(&mut self) -> anyhow::Result<(i64, i64)> {
        let rows = self.bed.number("SELECT count(*) FROM participants").await?;
        let admissions = self
            .bed
            .number("SELECT sum(generation)::bigint FROM participants")
            .await?;
        Ok((rows, admissions))
    }

    async fn verify(
        &mut self,
        who: Who,
        joins: i64,
        (rows, admissions): (i64, i64),
    ) -> anyhow::Result<()> {
        let (rows_now, admissions_now) = self.state().await?;
        let new = if who == Who::Newcomers { joins } else { 0 };
        ensure!(
            rows_now - rows == new,
            "{} participants came instead of {new}",
            rows_now - rows
        );
        ensure!(
            admissions_now - admissions == joins,
            "{} were admitted instead of {joins}",
            admissions_now - admissions
        );
        Ok(())
    }
}

fn ask(who: Who, number: usize, room: usize) -> anyhow::Result<Ask> {
    Ok(match who {
        Who::Newcomers => Ask::Invite {
            token_hash: hash(&format!("invite-{room}")),
            client_hash: Some(hash(&format!("newcomer-{number}"))),
            name: Some("Newcomer".parse()?),
        },
        Who::Returning => Ask::User {
            room_id: format!("room-{room}").parse()?,
            user_id: "user-1".parse()?,
            name: None,
            create: false,
            keeps_last_seen: true,
            expires_at: Timestamp::from_millis(Clock::system().now().as_millis() + 3_600_000),
        },
    })
}

fn print(found: &[Found]) {
    let mut table = Table::new([
        "joins",
        "per second, median (least–most)",
        "× one commit each",
        "p50 ms",
        "p99 ms",
        "PostgreSQL CPU µs",
        "client CPU µs",
        "WAL bytes",
    ]);
    for (index, ((who, way), own)) in CASES.into_iter().zip(found).enumerate() {
        table.row([
            format!("{}, {}", who.name(), way.name()),
            own.per_second.shown(),
            shown(own.per_second.ratio_to(&each(found, index).per_second)),
            shown(own.latency_ms.median()),
            shown(own.latency_ms.quantile(0.99)),
            format!("{:.0}", own.server_us.median()),
            format!("{:.0}", own.client_us.median()),
            format!("{:.0}", own.wal_bytes.median()),
        ]);
    }
    table.print("Joins, durable; processor time and log for one join");
}

/// The same people, each with their own commit.
fn each(found: &[Found], index: usize) -> &Found {
    let who = CASES[index].0;
    let index = CASES.iter().position(|case| *case == (who, Way::Each));
    &found[index.unwrap_or_default()]
}

fn print_goals(found: &[Found]) {
    let mut goals = Goals::new();
    for ((who, way), own) in CASES.into_iter().zip(found) {
        let name = format!("{}, {}", who.name(), way.name());
        match way {
            Way::Each => {}
            Way::Grouped(1) => goals.at_most(
                &format!("{name}: p50"),
                own.latency_ms.median(),
                3.0,
                Some(1.5),
                "ms",
            ),
            Way::Grouped(_) => goals.at_least(
                &name,
                own.per_second.median(),
                5_000.0,
                Some(10_000.0),
                "/s",
            ),
        }
    }
    goals.print("Joins: figures to reach");
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::Newcomers => "newcomers by invite",
            Self::Returning => "returning users",
        }
    }
}

impl Way {
    fn name(self) -> String {
        match self {
            Self::Each => "one commit each".to_owned(),
            Self::Grouped(1) => "one at a time".to_owned(),
            Self::Grouped(in_flight) => format!("{in_flight} in flight"),
        }
    }
}

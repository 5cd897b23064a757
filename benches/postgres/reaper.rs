//! Reaping: a few rooms among many have gone idle.

use anyhow::ensure;
use rollcall::store::{Store, postgres::PostgresStore};

use crate::{
    bed::{Bed, IDLE_TIMEOUT_MS, PEOPLE_PER_ROOM},
    hand_made::HandMade,
    meter::measure,
    options::Options,
    series::Series,
    sweep::{Swept, sweep},
    table::{self, Goals, Table, shown},
};

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let few = Bench::new(options, options.rooms())
        .await?
        .run(true)
        .await?;
    let many = Bench::new(options, options.many_rooms())
        .await?
        .run(false)
        .await?;
    print(&few, &many);
    print_goals(&few, &many);
    Ok(())
}

/// The figures of one size.
#[derive(Debug, Default)]
struct Found {
    rooms: usize,
    sweep_ms: Series,
    looking_ms: Series,
    longest_lock_ms: Series,
    server_ms: Series,
    nothing_stale_ms: Series,
    /// One statement, all locks held to its end; empty where it was not tried.
    hand_made_ms: Series,
}

impl Found {
    fn add(&mut self, swept: &Swept) {
        self.sweep_ms.push(swept.took.as_secs_f64() * 1_000.0);
        self.looking_ms.push(swept.looking.as_secs_f64() * 1_000.0);
        self.longest_lock_ms
            .push(swept.longest_lock.as_secs_f64() * 1_000.0);
    }
}

struct Bench {
    bed: Bed,
    store: PostgresStore,
    rooms: usize,
    stale: usize,
    sweeps: usize,
}

impl Bench {
    async fn new(options: &Options, rooms: usize) -> anyhow::Result<Self> {
        ensure!(
            options.stale() * options.sweeps() <= rooms,
            "there are not so many rooms to go stale"
        );
        let mut bed = Bed::start(options).await?;
        bed.seed(1..rooms + 1).await?;
        let (stale, sweeps) = (options.stale(), options.sweeps());
        Ok(Self {
            store: bed.store().await?,
            bed,
            rooms,
            stale,
            sweeps,
        })
    }

    async fn run(mut self, with_hand_made: bool) -> anyhow::Result<Found> {
        let mut found = Found {
            rooms: self.rooms,
            ..Found::default()
        };
        if with_hand_made {
            HandMade::new(&mut self.bed).await?;
        }
        for round in 0..self.sweeps {
            table::progress(&format!("sweep {} of {}", round + 1, self.sweeps));
            let idle = sweep(&self.store).await?;
            ensure!(
                idle.rooms == 0,
                "{} rooms went that nobody had left",
                idle.rooms
            );
            found
                .nothing_stale_ms
                .push(idle.took.as_secs_f64() * 1_000.0);
            self.ours(round, &mut found).await?;
            if with_hand_made {
                found.hand_made_ms.push(self.hand_made(round).await?);
            }
        }
        self.store.close().await;
        Ok(found)
    }

    async fn ours(&mut self, round: usize, found: &mut Found) -> anyhow::Result<()> {
        let stale = self.stale_rooms(round);
        self.bed
            .run(format!(
                "UPDATE rooms SET last_active_at = now() - 2 * {IDLE_TIMEOUT_MS} * interval '1 ms' WHERE {stale};
                 UPDATE participants SET last_seen_at = now() - 2 * {IDLE_TIMEOUT_MS} * interval '1 ms'
                 WHERE room_key IN (SELECT key FROM rooms WHERE {stale})"
            ))
            .await?;
        self.bed.settle().await?;
        let store = &self.store;
        let (swept, cost) = measure(&mut self.bed, sweep(store)).await?;
        let people = (self.stale * PEOPLE_PER_ROOM) as u64;
        ensure!(
            swept.rooms == self.stale && swept.participants == people,
            "{swept:?} of {} rooms",
            self.stale
        );
        found.add(&swept);
        found.server_ms.push(cost.server.as_secs_f64() * 1_000.0);
        self.verify_and_replace(round).await
    }

    /// Every so many-th of the first rooms, others each round: spread as in life.
    fn stale_rooms(&self, round: usize) -> String {
        let every = self.rooms / self.stale;
        format!(
            "key % {every} = {} AND key <= {}",
            round % every,
            self.stale * every
        )
    }

    /// Looks whether those and no others are gone, and makes as many new rooms.
    async fn verify_and_replace(&mut self, round: usize) -> anyhow::Result<()> {
        let (people, rooms) = (
            self.bed.number("SELECT count(*) FROM participants").await?,
            self.bed.number("SELECT count(*) FROM rooms").await?,
        );
        let left = self.rooms - self.stale;
        ensure!(
            rooms == left as i64 && people == rooms * PEOPLE_PER_ROOM as i64,
            "{rooms} rooms and {people} people are left"
        );
        let first = self.rooms + round * self.stale + 1;
        self.bed.seed(first..first + self.stale).await
    }

    /// One statement; answers the milliseconds.
    async fn hand_made(&mut self, round: usize) -> anyhow::Result<f64> {
        let every = self.rooms / self.stale;
        let stale = format!(
            "id IN (SELECT 'room-' || n FROM generate_series({}, {}, {every}) AS n)",
            round % every + 1,
            self.stale * every
        );
        self.bed
            .run(format!(
                "SET session_replication_role = replica;
                 UPDATE hand_made.participants SET last_seen_at = now() - interval '2 hours' WHERE room_{stale};
                 RESET session_replication_role"
            ))
            .await?;
        self.bed.settle().await?;
        let before = self
            .bed
            .number("SELECT count(*) FROM hand_made.rooms")
            .await?;
        let mut db = self.bed.connect().await?;
        let ((), cost) = measure(&mut self.bed, async {
            sqlx::raw_sql(HAND_MADE).execute(&mut db).await?;
            Ok(())
        })
        .await?;
        let gone = before
            - self
                .bed
                .number("SELECT count(*) FROM hand_made.rooms")
                .await?;
        ensure!(
            gone == self.stale as i64,
            "the hand-made reaper deleted {gone} rooms"
        );
        Ok(cost.took_ms())
    }
}

const HAND_MADE: &str = "DELETE FROM hand_made.rooms AS r
     WHERE NOT EXISTS (
         SELECT FROM hand_made.participants AS p
         WHERE p.room_id = r.id AND p.last_seen_at > now() - interval '1 hour')";

fn print(few: &Found, many: &Found) {
    let mut table = Table::new([
        "way",
        "ms, median (least–most)",
        "× ours",
        "longest lock, ms",
        "of it looking, ms",
        "PostgreSQL CPU ms",
        "nothing stale, ms",
    ]);
    for found in [few, many] {
        table.row([
            format!("reaper, {} rooms", found.rooms),
            found.sweep_ms.shown(),
            shown(found.sweep_ms.median() / few.sweep_ms.median()),
            shown(found.longest_lock_ms.max()),
            found.looking_ms.shown(),
            format!("{:.0}", found.server_ms.median()),
            found.nothing_stale_ms.shown(),
        ]);
    }
    let by_hand = &few.hand_made_ms;
    table.row([
        format!("hand-made: one DELETE, {} rooms", few.rooms),
        by_hand.shown(),
        shown(by_hand.ratio_to(&few.sweep_ms)),
        shown(by_hand.max()),
        String::new(),
        String::new(),
        String::new(),
    ]);
    table.print("Reaper");
}

fn print_goals(few: &Found, many: &Found) {
    let mut goals = Goals::new();
    goals.at_most("sweep", few.sweep_ms.median(), 250.0, None, "ms");
    goals.at_most(
        "longest lock of all sweeps",
        few.longest_lock_ms.max(),
        15.0,
        None,
        "ms",
    );
    goals.at_most(
        "longest lock, median sweep",
        few.longest_lock_ms.median(),
        15.0,
        None,
        "ms",
    );
    let growth = many.sweep_ms.median() / few.sweep_ms.median();
    goals.at_most(
        &format!("{} rooms against {}", many.rooms, few.rooms),
        growth,
        2.0,
        None,
        "×",
    );
    goals.print("Reaper: figures to reach");
}

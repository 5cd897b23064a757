//! Flushing: many participants were seen, and the database is to know when.
//!
//! Reads nothing back until everything is measured: whoever reads a page that was just written also tidies it up, and what
//! that costs is the flush's to pay.

mod report;

use anyhow::ensure;
use rollcall::store::{FlushBatch, Flushed, Store, postgres::PostgresStore};

use crate::{
    bed::{Bed, PEOPLE_PER_ROOM},
    copy,
    crowd::Crowd,
    hand_made::HandMade,
    meter::{Cost, measure},
    options::Options,
    series::Series,
    table,
};

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The limit.
    Copy,
    /// `PostgresStore::flush`, people seen.
    Ours,
    /// The same with departures, and with rooms whose own column is due.
    OursWithMore,
    /// One statement on the hand-made table.
    Together,
    /// A committed statement for each, on the hand-made table.
    Each,
}

const WAYS: [Way; 5] = [
    Way::Copy,
    Way::Ours,
    Way::OursWithMore,
    Way::Together,
    Way::Each,
];
/// Updates of `Way::Each` in a round are fewer by this factor, for they are slow; its figures are scaled up.
const EACH_FEWER: usize = 20;

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Copy => "COPY into an empty heap: the limit",
            Self::Ours => "flush: everybody seen",
            Self::OursWithMore => "flush: 5 % departed, a twelfth of the rooms due",
            Self::Together => "hand-made: one UNNEST statement",
            Self::Each => "hand-made: everybody's own commit, 16 clients",
        }
    }

    fn rows(self, dirty: usize) -> usize {
        match self {
            Self::Each => dirty.div_ceil(EACH_FEWER),
            _ => dirty,
        }
    }
}

/// One way's figures, as if all rows had been written each time.
#[derive(Debug, Default)]
struct Found {
    ms: Series,
    wal_bytes_per_row: Series,
    server_ms: Series,
    client_ms: Series,
}

impl Found {
    fn add(&mut self, cost: &Cost, rows: usize, dirty: usize) {
        let scale = dirty as f64 / rows as f64;
        self.ms.push(cost.took_ms() * scale);
        self.wal_bytes_per_row
            .push(cost.wal_bytes as f64 / rows as f64);
        self.server_ms
            .push(cost.server.as_secs_f64() * 1_000.0 * scale);
        self.client_ms
            .push(cost.client.as_secs_f64() * 1_000.0 * scale);
    }
}

pub(crate) async fn run(options: &Options) -> anyhow::Result<()> {
    let mut bench = Bench::new(options).await?;
    let mut found = WAYS.map(|_| Found::default());
    let before = bench.sizes().await?;
    for round in 0..=options.flushes() {
        table::progress(&format!("flush {round} of {}", options.flushes()));
        for (way, found) in WAYS.iter().zip(&mut found) {
            let cost = bench.once(*way).await?;
            // The first writes whole pages to the log, as every first change after a checkpoint does.
            if round > 0 {
                found.add(&cost, way.rows(bench.dirty), bench.dirty);
            }
        }
    }
    let after = bench.sizes().await?;
    bench.bed.run("CHECKPOINT").await?;
    let first = bench.once(Way::Ours).await?;
    let dirty = bench.dirty;
    let hot = bench.verify().await?;
    report::print(&found, dirty, &first);
    report::print_growth(&before, &after);
    report::print_goals(&found, hot, &before, &after);
    Ok(())
}

struct Bench {
    bed: Bed,
    store: PostgresStore,
    hand_made: HandMade,
    crowd: Crowd,
    dirty: usize,
    /// Participants in one call.
    chunk: usize,
}

impl Bench {
    async fn new(options: &Options) -> anyhow::Result<Self> {
        let (rooms, dirty) = (options.rooms(), options.dirty());
        ensure!(
            dirty <= rooms * PEOPLE_PER_ROOM,
            "more participants are dirty than there are"
        );
        let mut bed = Bed::start(options).await?;
        bed.seed(1..rooms + 1).await?;
        let hand_made = HandMade::new(&mut bed).await?;
        Ok(Self {
            store: bed.store().await?,
            crowd: Crowd::new(rooms, dirty),
            hand_made,
            bed,
            dirty,
            chunk: options.chunk.unwrap_or(dirty).max(1),
        })
    }

    async fn once(&mut self, way: Way) -> anyhow::Result<Cost> {
        match way {
            Way::Copy => self.copy().await,
            Way::Ours => self.flush(false).await,
            Way::OursWithMore => self.flush(true).await,
            Way::Together | Way::Each => self.update(way).await,
        }
    }

    async fn copy(&mut self) -> anyhow::Result<Cost> {
        let data = copy::prepare(&mut self.bed, &self.crowd.seen()).await?;
        let client = &mut self.hand_made.clients[0];
        let (copied, cost) = measure(&mut self.bed, copy::copy(client, data)).await?;
        ensure!(copied == self.dirty as u64, "{copied} rows were copied");
        Ok(cost)
    }

    async fn flush(&mut self, with_more: bool) -> anyhow::Result<Cost> {
        let batches = cut(self.crowd.batch(with_more), self.chunk);
        let store = &self.store;
        let work = async {
            for batch in &batches {
                let flushed = store.flush(batch).await?;
                ensure!(
                    flushed == Flushed::default(),
                    "not everybody was written: {flushed:?}"
                );
            }
            Ok(())
        };
        let ((), cost) = measure(&mut self.bed, work).await?;
        batches.iter().for_each(|batch| self.crowd.flushed(batch));
        Ok(cost)
    }

    async fn update(&mut self, way: Way) -> anyhow::Result<Cost> {
        let seen = self.crowd.seen();
        let stride = seen.len() / way.rows(self.dirty);
        let keys: Vec<i64> = seen
            .iter()
            .step_by(stride)
            .map(|seen| seen.key.0)
            .take(way.rows(self.dirty))
            .collect();
        let hand_made = &mut self.hand_made;
        let (updated, cost) = match way {
            Way::Each => measure(&mut self.bed, hand_made.update_each(&keys)).await?,
            _ => measure(&mut self.bed, hand_made.update_together(&keys)).await?,
        };
        ensure!(
            updated == keys.len() as u64,
            "{updated} of {} rows were updated",
            keys.len()
        );
        Ok(cost)
    }

    /// Checks what was written; answers the percentage of heap-only updates.
    async fn verify(mut self) -> anyhow::Result<f64> {
        self.crowd.verify(&mut self.bed).await?;
        self.hand_made.verify(&mut self.bed).await?;
        // A server process hands its statistics in when it ends, if not before.
        self.store.close().await;
        while self
            .bed
            .number("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rollcall'")
            .await?
            > 0
        {
            tokio::task::yield_now().await;
        }
        let share = "SELECT (1000000 * n_tup_hot_upd / n_tup_upd)::bigint FROM pg_stat_user_tables WHERE relid = 'participants'::regclass";
        Ok(self.bed.number(share).await? as f64 / 10_000.0)
    }

    async fn sizes(&mut self) -> anyhow::Result<[Sizes; 2]> {
        Ok([
            Sizes::of(&mut self.bed, "rollcall.participants").await?,
            Sizes::of(&mut self.bed, "hand_made.participants").await?,
        ])
    }
}

/// The same in several calls; the rooms go with the first.
fn cut(batch: FlushBatch, size: usize) -> Vec<FlushBatch> {
    let mut rooms = batch.rooms;
    let chunks = batch.participants.chunks(size).map(|chunk| FlushBatch {
        rooms: std::mem::take(&mut rooms),
        participants: chunk.to_vec(),
        states: Vec::new(),
    });
    chunks.collect()
}

/// Bytes of one table.
#[derive(Debug)]
struct Sizes {
    table: &'static str,
    heap: i64,
    indexes: i64,
}

impl Sizes {
    async fn of(bed: &mut Bed, table: &'static str) -> anyhow::Result<Self> {
        Ok(Self {
            table,
            heap: bed
                .number(format!("SELECT pg_relation_size('{table}')"))
                .await?,
            indexes: bed
                .number(format!("SELECT pg_indexes_size('{table}')"))
                .await?,
        })
    }

    fn total(&self) -> f64 {
        (self.heap + self.indexes) as f64
    }
}

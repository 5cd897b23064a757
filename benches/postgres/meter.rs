//! What a piece of work costs: time, write-ahead log, and the processor time of both sides.

use std::{fs, path::Path, time::Duration};

use anyhow::Context;
use tokio::time::Instant;

use crate::bed::Bed;

/// The cost of one piece of work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) took: Duration,
    pub(crate) wal_bytes: i64,
    /// All of PostgreSQL's processes.
    pub(crate) server: Duration,
    /// This process.
    pub(crate) client: Duration,
}

impl Cost {
    pub(crate) fn took_ms(&self) -> f64 {
        self.took.as_secs_f64() * 1_000.0
    }
}

/// Does a piece of work while nothing else goes on, and says what it cost.
pub(crate) async fn measure<T>(
    bed: &mut Bed,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(T, Cost)> {
    let before = Reading::take(bed).await?;
    let started = Instant::now();
    let done = work.await?;
    let took = started.elapsed();
    let after = Reading::take(bed).await?;
    let cost = Cost {
        took,
        wal_bytes: after.wal - before.wal,
        server: since(&after.server, &before.server),
        client: since(&after.client, &before.client),
    };
    Ok((done, cost))
}

struct Reading {
    wal: i64,
    server: Vec<Usage>,
    client: Vec<Usage>,
}

impl Reading {
    async fn take(bed: &mut Bed) -> anyhow::Result<Self> {
        Ok(Self {
            wal: bed
                .number("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
                .await?,
            server: bed.processes()?.into_iter().flat_map(threads).collect(),
            client: threads(std::process::id()),
        })
    }
}

/// The processor time of a thread so far.
struct Usage {
    thread: String,
    time: Duration,
}

/// What those in `after` have used since; a thread that ended in between is not counted.
fn since(after: &[Usage], before: &[Usage]) -> Duration {
    let used_before = |thread: &str| {
        let found = before.iter().find(|usage| usage.thread == thread);
        found.map(|usage| usage.time).unwrap_or_default()
    };
    after
        .iter()
        .map(|usage| usage.time.saturating_sub(used_before(&usage.thread)))
        .sum()
}

/// The threads of a process; none if it has just ended.
fn threads(process: u32) -> Vec<Usage> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else {
        return Vec::new();
    };
    tasks
        .flatten()
        .filter_map(|task| usage(&task.path()).ok())
        .collect()
}

/// In nanoseconds, where the clock ticks of `stat` are of 10 ms.
fn usage(task: &Path) -> anyhow::Result<Usage> {
    let line = fs::read_to_string(task.join("schedstat"))?;
    let nanoseconds = line
        .split_whitespace()
        .next()
        .context("schedstat is empty")?
        .parse()?;
    Ok(Usage {
        thread: task.display().to_string(),
        time: Duration::from_nanos(nanoseconds),
    })
}

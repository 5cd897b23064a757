//! What the process holds and uses.

use std::{fs, time::Duration};

use anyhow::Context;
use cap::Cap;
use tikv_jemallocator::Jemalloc;

/// The server's own allocator, with a count of what is in use. The count is one atomic, a few nanoseconds a call.
#[global_allocator]
static MEMORY: Cap<Jemalloc> = Cap::new(Jemalloc, usize::MAX);

/// Memory at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// What the operating system keeps for the process.
    pub(crate) resident: usize,
    /// What is allocated and not freed.
    pub(crate) live: usize,
}

impl Memory {
    pub(crate) fn now() -> anyhow::Result<Self> {
        let live = live();
        Ok(Self {
            resident: kilobytes("/proc/self/smaps_rollup", "Rss:")? * 1024,
            live,
        })
    }

    /// How much more each of `count` has cost since.
    pub(crate) fn each_since(&self, before: &Self, count: usize) -> (f64, f64) {
        let each = |now: usize, before: usize| (now as f64 - before as f64) / count as f64;
        (
            each(self.resident, before.resident),
            each(self.live, before.live),
        )
    }
}

/// Bytes that are allocated and not freed.
pub(crate) fn live() -> usize {
    MEMORY.allocated()
}

/// The most that the operating system ever kept for the process, in bytes.
pub(crate) fn peak() -> anyhow::Result<usize> {
    Ok(kilobytes("/proc/self/status", "VmHWM:")? * 1024)
}

fn kilobytes(file: &str, field: &str) -> anyhow::Result<usize> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.context("no such field")?.parse()?)
}

/// Processor time of all threads but the caller's, which is the clients'.
pub(crate) fn cpu_of_others() -> anyhow::Result<Duration> {
    let own = fs::read_link("/proc/thread-self")?;
    let own = own.file_name().context("a thread has a number")?;
    let mut nanoseconds = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?;
        if task.file_name() != own {
            // A thread may end in between.
            let line = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            nanoseconds += line
                .split_whitespace()
                .next()
                .and_then(|first| first.parse().ok())
                .unwrap_or(0);
        }
    }
    Ok(Duration::from_nanos(nanoseconds))
}

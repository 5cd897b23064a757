//! What the server costs, ten times a second.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    kernel::Kernel,
    process::{Cost, Process},
};

/// How often it looks.
const EVERY: Duration = Duration::from_millis(100);

/// One look.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Sample {
    /// Since the sampler began.
    pub at_ms: u64,
    /// The process.
    #[serde(flatten)]
    pub cost: Cost,
    /// The kernel's TCP buffers, bytes, of the whole machine.
    pub tcp_bytes: u64,
}

/// A task that looks, until dropped.
#[derive(Debug)]
pub struct Sampler {
    process: Process,
    began: Instant,
    samples: Arc<Mutex<Vec<Sample>>>,
    _task: JoinSet<()>,
}

impl Sampler {
    /// Begins.
    pub fn watch(process: Process) -> Self {
        let (began, samples) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
        let mut task = JoinSet::new();
        let kept = Arc::clone(&samples);
        task.spawn(async move {
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                // A server that has ended is noticed by everybody else.
                let Ok(cost) = process.cost() else { return };
                let at_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                kept.lock().push(Sample {
                    at_ms,
                    cost,
                    tcp_bytes: Kernel::read().tcp_bytes,
                });
            }
        });
        Self {
            process,
            began,
            samples,
            _task: task,
        }
    }

    /// A look now, to compare with a later one.
    ///
    /// # Errors
    /// The server has ended.
    pub fn now(&self) -> anyhow::Result<Cost> {
        self.process.cost()
    }

    /// Most resident memory in samples since an instant, bytes.
    pub fn peak_rss_since(&self, since: Instant) -> u64 {
        // What is too short for a sample is looked at now.
        let now = self.process.cost().map_or(0, |cost| cost.rss_bytes);
        self.since(since, |sample| sample.cost.rss_bytes)
            .into_iter()
            .fold(now, u64::max)
    }

    /// The median of resident memory in samples since an instant, bytes: a look now may fall into a moment's garbage.
    pub fn typical_rss_since(&self, since: Instant) -> u64 {
        median(self.since(since, |sample| sample.cost.rss_bytes))
    }

    /// Most memory of TCP buffers since an instant, bytes.
    pub fn peak_tcp_since(&self, since: Instant) -> u64 {
        self.since(since, |sample| sample.tcp_bytes)
            .into_iter()
            .max()
            .unwrap_or(0)
    }

    /// The median of memory of TCP buffers since an instant, bytes.
    pub fn typical_tcp_since(&self, since: Instant) -> u64 {
        median(self.since(since, |sample| sample.tcp_bytes))
    }

    /// All samples.
    pub fn samples(&self) -> Vec<Sample> {
        self.samples.lock().clone()
    }

    fn since(&self, since: Instant, value: impl Fn(&Sample) -> u64) -> Vec<u64> {
        let from = since.saturating_duration_since(self.began).as_millis();
        let samples = self.samples.lock();
        samples
            .iter()
            .filter(|sample| u128::from(sample.at_ms) >= from)
            .map(value)
            .collect()
    }
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}

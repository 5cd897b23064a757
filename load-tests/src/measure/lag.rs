//! How late this program itself is: a latency below it says nothing about the server.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::latency::Latency;

/// How often it looks.
const EVERY: Duration = Duration::from_millis(5);

/// A task that means to wake every 5 ms, and records how late it did. Dropping ends it.
#[derive(Debug)]
pub struct Lag {
    late: Arc<Latency>,
    _task: JoinSet<()>,
}

impl Lag {
    /// Begins.
    pub fn watch() -> Self {
        let late = Arc::new(Latency::default());
        let mut task = JoinSet::new();
        let recorder = Arc::clone(&late);
        task.spawn(async move {
            let mut at = Instant::now();
            loop {
                at += EVERY;
                sleep_until(at).await;
                recorder.record(at.elapsed());
            }
        });
        Self { late, _task: task }
    }

    /// How late it was since last asked.
    pub fn late(&self) -> &Latency {
        &self.late
    }
}

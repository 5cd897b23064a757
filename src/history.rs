//! The last hour in samples, for whoever looks at the dashboard after something happened. In memory only: what is to be kept
//! for longer is Prometheus' business.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rollcall_protocol::Timestamp;
use serde::Serialize;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::{
    clock::Clock,
    hub::Hub,
    metrics::{Metrics, Totals},
};

/// How much time a sample stands for.
pub const EVERY: Duration = Duration::from_secs(5);
/// An hour of them: some 100 KiB.
const KEPT: usize = 720;
/// Often enough to see a stall of half a second, too seldom to be one. While nobody says anything one will do: a server with
/// nothing to do is not to be woken by its own thermometer.
const PROBES: u32 = 20;

/// What one interval was like. Counts are of the interval, the rest is of its end.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct Sample {
    /// Its end.
    #[schema(value_type = String)]
    pub at: Timestamp,
    /// Connections with a seat.
    pub connections: i64,
    /// Connections that watch.
    pub observers: i64,
    /// Rooms in memory: those with seats, and those that are only watched.
    pub rooms: usize,
    /// Participants who came; not another tab of theirs, nor a return within the grace.
    pub joins: u64,
    /// Participants who departed: left, timed out, or were removed.
    pub leaves: u64,
    /// Requests to enter that were refused, for whatever reason; not those that only asked.
    pub refusals: u64,
    /// Frames received, heartbeats among them.
    pub frames: u64,
    /// Participants written by flushes.
    pub flushed_rows: u64,
    /// Flushes that failed.
    pub flush_failures: u64,
    /// The longest flush that ended; null if none did.
    pub flush_ms: Option<f64>,
    /// Half of the probes waited less for their turn.
    pub heartbeat_delay_ms: f64,
    /// The probe that waited longest.
    pub heartbeat_delay_worst_ms: f64,
}

/// The samples. Clones share them.
#[derive(Debug, Clone)]
pub struct History {
    samples: Arc<Mutex<VecDeque<Sample>>>,
    hub: Hub,
    metrics: Arc<Metrics>,
    clock: Clock,
}

impl History {
    /// An empty history.
    pub fn new(hub: Hub, metrics: Arc<Metrics>, clock: Clock) -> Self {
        Self {
            samples: Arc::default(),
            hub,
            metrics,
            clock,
        }
    }

    /// The samples of the last hour, or those of them after one with this `at`; oldest first.
    pub fn samples(&self, after: Option<Timestamp>) -> Vec<Sample> {
        let samples = self.samples.lock();
        // From the newest: the old ones are many, and mostly not asked for.
        let is_new = |sample: &&Sample| after.is_none_or(|after| sample.at > after);
        let new = samples.iter().rev().take_while(is_new);
        let mut new: Vec<Sample> = new.copied().collect();
        new.reverse();
        new
    }

    /// Takes samples until stopped.
    ///
    /// What a heartbeat waits for is its turn on the runtime that serves connections, given here: answering one takes
    /// microseconds. So a task is spawned on it several times an interval, and how long it waits is measured.
    pub async fn run(self, connection_runtime: Handle, stop: CancellationToken) {
        stop.run_until_cancelled(self.take(connection_runtime))
            .await;
    }

    async fn take(self, connection_runtime: Handle) {
        let mut before = self.metrics.totals();
        let mut probes = 1;
        loop {
            let mut delays = Delays::default();
            for _ in 0..probes {
                sleep(EVERY / probes).await;
                let asked = Instant::now();
                let turn = connection_runtime.spawn(async move { asked.elapsed() });
                delays.add(turn.await.unwrap_or_else(|_| asked.elapsed()));
            }
            let now = self.metrics.totals();
            let sample = self.sample(before, now, &delays);
            probes = if now.frames > before.frames {
                PROBES
            } else {
                1
            };
            before = now;
            let mut samples = self.samples.lock();
            if samples.len() == KEPT {
                samples.pop_front();
            }
            samples.push_back(sample);
        }
    }

    fn sample(&self, before: Totals, now: Totals, delays: &Delays) -> Sample {
        Sample {
            at: self.clock.now(),
            connections: self.metrics.connections.get(),
            observers: self.metrics.observers.get(),
            rooms: self.hub.rooms(),
            joins: now.joins - before.joins,
            leaves: now.leaves - before.leaves,
            refusals: now.refusals - before.refusals,
            frames: now.frames - before.frames,
            flushed_rows: now.flushed_rows - before.flushed_rows,
            flush_failures: now.flush_failures - before.flush_failures,
            flush_ms: self.metrics.take_longest_flush().map(milliseconds),
            heartbeat_delay_ms: milliseconds(delays.median()),
            heartbeat_delay_worst_ms: milliseconds(delays.worst()),
        }
    }
}

/// How long the probes of an interval waited.
#[derive(Debug, Default)]
struct Delays(Vec<Duration>);

impl Delays {
    fn add(&mut self, delay: Duration) {
        let place = self.0.partition_point(|&other| other < delay);
        self.0.insert(place, delay);
    }

    fn median(&self) -> Duration {
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }

    fn worst(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }
}

/// To the microsecond: more digits would be noise.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_worst_of_delays_in_any_order() {
        let mut delays = Delays::default();
        assert_eq!(
            (delays.median(), delays.worst()),
            (Duration::ZERO, Duration::ZERO)
        );
        for millis in [5, 1, 9, 3, 7] {
            delays.add(Duration::from_millis(millis));
        }
        assert_eq!(delays.median(), Duration::from_millis(5));
        assert_eq!(delays.worst(), Duration::from_millis(9));
        assert_eq!(milliseconds(Duration::from_nanos(1_234_567)), 1.235);
    }
}

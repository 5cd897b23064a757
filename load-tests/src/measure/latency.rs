//! Latencies, from a microsecond up, to three digits.

use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Microseconds; nothing here is allowed an hour, and 180 KB hold every value up to it.
const LONGEST: u64 = 3_600_000_000;

/// Latencies that many tasks record.
#[derive(Debug)]
pub struct Latency(Mutex<Histogram<u64>>);

/// What was recorded, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many.
    pub count: u64,
    /// Half are below.
    pub p50_ms: f64,
    /// All but one in a hundred are below.
    pub p99_ms: f64,
    /// The worst.
    pub max_ms: f64,
}

/// Recorded latencies on their way to another process: microseconds and how many.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Recorded(Vec<(u64, u64)>);

impl Default for Latency {
    fn default() -> Self {
        Self(Mutex::new(empty()))
    }
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("bounds and digits are within what it allows")
}

impl Latency {
    /// Records one.
    pub fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0.lock().saturating_record(micros.max(1));
    }

    /// Answers what was recorded, and begins again.
    pub fn take(&self) -> Summary {
        let histogram = std::mem::replace(&mut *self.0.lock(), empty());
        Summary::of(&histogram)
    }

    /// What was recorded so far.
    pub fn summary(&self) -> Summary {
        Summary::of(&self.0.lock())
    }

    /// What was recorded so far, to be merged elsewhere.
    pub fn recorded(&self) -> Recorded {
        let histogram = self.0.lock();
        let values = histogram.iter_recorded();
        Recorded(
            values
                .map(|value| (value.value_iterated_to(), value.count_at_value()))
                .collect(),
        )
    }

    /// The same, and begins again; what it recorded in is used again too.
    pub fn drain(&self) -> Recorded {
        let recorded = self.recorded();
        self.0.lock().reset();
        recorded
    }

    /// What this share of all values is not above, ms; `None` without any.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        let histogram = self.0.lock();
        let value = histogram.value_at_quantile(share);
        (!histogram.is_empty()).then_some(value as f64 / 1000.0)
    }

    /// Takes in what another process recorded.
    pub fn merge(&self, recorded: &Recorded) {
        let mut histogram = self.0.lock();
        for (micros, count) in &recorded.0 {
            histogram.saturating_record_n(*micros, *count);
        }
    }
}

impl Recorded {
    /// How many.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes in what another process recorded.
    pub fn merge(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// In milliseconds.
    pub fn summary(&self) -> Summary {
        let all = Latency::default();
        all.merge(self);
        all.summary()
    }
}

impl Summary {
    fn of(histogram: &Histogram<u64>) -> Self {
        let millis = |micros: u64| micros as f64 / 1000.0;
        Self {
            count: histogram.len(),
            p50_ms: millis(histogram.value_at_quantile(0.5)),
            p99_ms: millis(histogram.value_at_quantile(0.99)),
            max_ms: millis(histogram.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_processes_recorded_is_one_distribution() {
        let (here, there) = (Latency::default(), Latency::default());
        for millis in 1..=50 {
            here.record(Duration::from_millis(millis));
            there.record(Duration::from_millis(50 + millis));
        }
        there.record(Duration::from_secs(20));
        here.merge(&there.recorded());
        let summary = here.take();
        assert_eq!(summary.count, 101);
        assert!((summary.p50_ms - 51.0).abs() < 0.1, "{summary:?}");
        assert!((summary.max_ms - 20_000.0).abs() < 20.0, "{summary:?}");
        assert_eq!(here.summary().count, 0);
    }
}

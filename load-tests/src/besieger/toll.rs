//! What came of all attempts of a process.

use std::{cell::RefCell, collections::BTreeMap};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::attempt::Outcome;
use crate::{
    fault::{Fault, Faults},
    measure::latency::{Latency, Recorded},
};

/// What came of all attempts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Toll {
    /// Attempts that were to be made.
    pub due: u64,
    /// What came of those that were, by the second in which they began.
    pub seconds: Vec<Second>,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// How late attempts began.
    pub late: Recorded,
    /// How long the server waited for the rest of half a head.
    pub outlasted: Recorded,
    /// Processor time of the attackers, seconds.
    pub cpu_seconds: f64,
    /// What must not be answered.
    pub faults: Faults,
}

/// Attempts that began in one second, or in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Second {
    /// All of them.
    pub attempts: u64,
    /// Refused for what they brought.
    pub refused: u64,
    /// Refused because of a limit: 429.
    pub limited: u64,
    /// Refused because of a limit in total: 503.
    pub busy: u64,
    /// Ended by the server without a word.
    pub dropped: u64,
    /// Left waiting for the rest until the server ended them.
    pub outlasted: u64,
    /// No answer was wanted.
    pub left: u64,
    /// Neither answered nor ended.
    pub unanswered: u64,
    /// There was no connection.
    pub not_connected: u64,
}

/// A toll in the making.
#[derive(Debug)]
pub(super) struct Record {
    began: Instant,
    toll: RefCell<Toll>,
    late: Latency,
    outlasted: Latency,
}

impl Toll {
    /// Takes in that of another process.
    pub fn merge(&mut self, other: Self) {
        self.due += other.due;
        let length = self.seconds.len().max(other.seconds.len());
        self.seconds.resize(length, Second::default());
        for (second, others) in self.seconds.iter_mut().zip(&other.seconds) {
            second.add(others);
        }
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.late.merge(&other.late);
        self.outlasted.merge(&other.outlasted);
        self.cpu_seconds += other.cpu_seconds;
        self.faults.merge(other.faults);
    }

    /// All seconds together.
    pub fn sum(&self) -> Second {
        let mut sum = Second::default();
        self.seconds.iter().for_each(|second| sum.add(second));
        sum
    }
}

impl Second {
    fn add(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.refused += other.refused;
        self.limited += other.limited;
        self.busy += other.busy;
        self.dropped += other.dropped;
        self.outlasted += other.outlasted;
        self.left += other.left;
        self.unanswered += other.unanswered;
        self.not_connected += other.not_connected;
    }

    fn of(&mut self, outcome: Outcome) -> &mut u64 {
        match outcome {
            Outcome::Answered(Some(429)) => &mut self.limited,
            Outcome::Answered(Some(503)) => &mut self.busy,
            Outcome::Answered(_) => &mut self.refused,
            Outcome::Dropped => &mut self.dropped,
            Outcome::Outlasted(_) => &mut self.outlasted,
            Outcome::Left => &mut self.left,
            Outcome::Unanswered => &mut self.unanswered,
            Outcome::NotConnected => &mut self.not_connected,
        }
    }
}

impl Record {
    pub(super) fn begin(began: Instant) -> Self {
        Self {
            began,
            toll: RefCell::default(),
            late: Latency::default(),
            outlasted: Latency::default(),
        }
    }

    /// One more was to be made.
    pub(super) fn due(&self) {
        self.toll.borrow_mut().due += 1;
    }

    /// One is made, in the second answered.
    pub(super) fn begins(&self, due: Instant) -> usize {
        self.late.record(due.elapsed());
        let second = self.began.elapsed().as_secs() as usize;
        let mut toll = self.toll.borrow_mut();
        if toll.seconds.len() <= second {
            toll.seconds.resize(second + 1, Second::default());
        }
        toll.seconds[second].attempts += 1;
        second
    }

    pub(super) fn ends(&self, second: usize, outcome: Outcome) {
        let mut toll = self.toll.borrow_mut();
        *toll.seconds[second].of(outcome) += 1;
        match outcome {
            Outcome::Answered(status) => toll.judge(status),
            Outcome::Outlasted(after) => self.outlasted.record(after),
            _ => {}
        }
    }

    pub(super) fn take(&self) -> Toll {
        let mut toll = self.toll.take();
        toll.late = self.late.drain();
        toll.outlasted = self.outlasted.drain();
        toll
    }
}

impl Toll {
    /// Nobody may be let in, and nothing may go wrong inside.
    fn judge(&mut self, status: Option<u16>) {
        let Some(status) = status else {
            return self
                .faults
                .add(Fault::Malformed, "an answer that is not HTTP");
        };
        *self.statuses.entry(status).or_default() += 1;
        match status {
            400..=499 | 503 => {}
            101 | 200..=299 => self
                .faults
                .add(Fault::Admitted, format!("answered {status}")),
            _ => self
                .faults
                .add(Fault::Misjudged, format!("answered {status}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_tolls_of_two_processes_are_one() {
        let record = Record::begin(Instant::now());
        for outcome in [
            Outcome::Answered(Some(404)),
            Outcome::Answered(Some(429)),
            Outcome::Outlasted(Duration::from_secs(10)),
            Outcome::Dropped,
        ] {
            record.due();
            let second = record.begins(Instant::now());
            record.ends(second, outcome);
        }
        let mut toll = record.take();
        assert!(toll.faults.is_empty());
        let other = Record::begin(Instant::now());
        let second = other.begins(Instant::now());
        other.ends(second, Outcome::Answered(Some(101)));
        toll.merge(other.take());
        let sum = toll.sum();
        assert_eq!((toll.due, sum.attempts), (4, 5));
        assert_eq!((sum.refused, sum.limited, sum.dropped), (2, 1, 1));
        assert_eq!(toll.statuses[&404], 1);
        assert_eq!(toll.outlasted.count(), 1);
        assert_eq!(toll.faults.count(Fault::Admitted), 1);
    }
}

//! Sources that bring credentials that are none: each may do so now and then, and waits longer every time it does not stop.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Source;

/// What is known of sources that failed.
#[derive(Debug)]
pub(super) struct Backoff {
    per_minute: u32,
    records: Mutex<HashMap<Source, Record>>,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    /// Generic cell rate: when everything would be forgiven.
    clear_at: Instant,
    /// How often it went on beyond what it may.
    strikes: u32,
    /// Turned away until then.
    until: Instant,
}

/// The first wait; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Long enough to make guessing senseless, short enough for those who share the address with whoever guesses.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Sources known at a time. Beyond it no new ones are noted: against so many, the limit on all handshakes helps.
const SOURCES: usize = 65_536;
const MINUTE: Duration = Duration::from_secs(60);

impl Backoff {
    /// Each source may fail this often in a minute, all at once if it likes.
    pub(super) fn new(per_minute: u32) -> Self {
        Self {
            per_minute: per_minute.max(1),
            records: Mutex::default(),
        }
    }

    /// How long this source is still to wait.
    pub(super) fn wait(&self, source: Source) -> Option<Duration> {
        let until = self.records.lock().get(&source)?.until;
        let wait = until.saturating_duration_since(Instant::now());
        (!wait.is_zero()).then_some(wait)
    }

    /// One more failure.
    pub(super) fn failed(&self, source: Source) {
        let now = Instant::now();
        let mut records = self.records.lock();
        // Not tidied here: under a flood from everywhere each failure would look at all of them.
        if records.len() >= SOURCES && !records.contains_key(&source) {
            return;
        }
        let record = records.entry(source).or_insert(Record {
            clear_at: now,
            strikes: 0,
            until: now,
        });
        if record.is_over(now) {
            record.strikes = 0;
        }
        record.clear_at = record.clear_at.max(now) + MINUTE / self.per_minute;
        if record.clear_at > now + MINUTE {
            let wait = FIRST_WAIT
                .saturating_mul(1 << record.strikes.min(16))
                .min(LONGEST_WAIT);
            record.strikes += 1;
            record.until = now + wait;
            // The next failure after the wait is one too many again, until a whole minute without any.
            record.clear_at = now + MINUTE + wait;
        }
    }

    /// Forgets who is forgiven.
    pub(super) fn tidy(&self) {
        let now = Instant::now();
        let mut records = self.records.lock();
        records.retain(|_, record| !record.is_over(now));
        records.shrink_to_fit();
    }
}

impl Record {
    fn is_over(&self, now: Instant) -> bool {
        self.clear_at <= now && self.until <= now
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn source(last: u32) -> Source {
        Source::of(std::net::Ipv4Addr::from_bits(last).into())
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_stop_waits_twice_as_long_each_time() {
        let backoff = Backoff::new(3);
        for _ in 0..3 {
            assert_eq!(backoff.wait(source(1)), None);
            backoff.failed(source(1));
        }
        assert_eq!(backoff.wait(source(1)), None);
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            backoff.failed(source(1));
            let wait = Duration::from_secs(seconds);
            assert_eq!(backoff.wait(source(1)), Some(wait));
            assert_eq!(backoff.wait(source(2)), None);
            advance(wait).await;
            assert_eq!(backoff.wait(source(1)), None);
        }
        advance(MINUTE).await;
        backoff.failed(source(1));
        assert_eq!(backoff.wait(source(1)), None, "forgiven");
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_mistakes_cost_nothing() {
        let backoff = Backoff::new(6);
        for _ in 0..1_000 {
            backoff.failed(source(1));
            assert_eq!(backoff.wait(source(1)), None);
            advance(MINUTE / 6).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn any_number_of_sources_fills_no_memory() {
        let backoff = Backoff::new(1);
        for at in 0..SOURCES as u32 * 2 {
            backoff.failed(source(at));
        }
        assert_eq!(backoff.records.lock().len(), SOURCES);
        advance(MINUTE * 2).await;
        backoff.tidy();
        assert_eq!(backoff.records.lock().capacity(), 0);
    }
}

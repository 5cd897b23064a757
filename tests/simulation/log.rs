//! What happened, in order; two runs of one seed must agree on it. And the first breach of a rule, which ends the run.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use parking_lot::Mutex;
use rollcall::clock::Clock;
use tokio::time::Instant;

/// Events of one run. Clones share it.
#[derive(Clone)]
pub struct Log {
    start: Instant,
    clock: Clock,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    step: usize,
    lines: Vec<String>,
    /// The greatest time that the store's clock has shown.
    newest: i64,
    /// The clock was stepped back, and the server may not know: when, and what it showed before.
    unseen: Option<(Instant, i64)>,
    breach: Option<String>,
}

/// A rule that did not hold.
#[derive(Debug)]
pub struct Breach(pub String);

impl Log {
    pub fn new(clock: Clock) -> Self {
        Self {
            start: Instant::now(),
            clock,
            inner: Arc::default(),
        }
    }

    /// Adds a line. Nothing in it may depend on secrets, which no seed repeats.
    pub fn note(&self, what: impl fmt::Display) {
        let mut inner = self.inner.lock();
        let line = format!(
            "{:>4} {:>12.6} {what}",
            inner.step,
            self.start.elapsed().as_secs_f64()
        );
        inner.lines.push(line);
    }

    pub fn next_step(&self) {
        self.inner.lock().step += 1;
    }

    pub fn step(&self) -> usize {
        self.inner.lock().step
    }

    /// Notes a breach found outside of the world's own checks. The first one stays.
    pub fn fail(&self, what: impl fmt::Display) {
        let step = self.step();
        let breach = &mut self.inner.lock().breach;
        breach.get_or_insert_with(|| format!("step {step}: {what}"));
    }

    pub fn check(&self) -> Result<(), Breach> {
        match &self.inner.lock().breach {
            Some(breach) => Err(Breach(breach.clone())),
            None => Ok(()),
        }
    }

    /// The store's now, in Unix milliseconds.
    pub fn now(&self) -> i64 {
        self.clock.now().as_millis()
    }

    /// The greatest now that the store has shown.
    pub fn newest(&self) -> i64 {
        let now = self.now();
        let inner = &mut *self.inner.lock();
        let unseen = inner.unseen.map_or(i64::MIN, |(at, shown)| {
            shown + at.elapsed().as_millis() as i64 + 2
        });
        inner.newest = inner.newest.max(now).max(unseen);
        inner.newest
    }

    /// The clock is about to be stepped: until the server hears of it, its times go on as before.
    pub fn steps(&self) {
        let now = self.newest();
        self.inner.lock().unseen = Some((Instant::now(), now));
    }

    /// The server has had an answer to what it asked the store at `asked`.
    pub fn heard(&self, asked: Instant) {
        self.newest();
        let unseen = &mut self.inner.lock().unseen;
        if unseen.is_some_and(|(at, _)| at < asked) {
            *unseen = None;
        }
    }

    /// How long the run has taken, in simulated time.
    pub fn age(&self) -> std::time::Duration {
        self.start.elapsed()
    }

    pub fn tail(&self, count: usize) -> String {
        let lines = &self.inner.lock().lines;
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// All lines as one number.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.inner.lock().lines.hash(&mut hasher);
        hasher.finish()
    }
}

/// Fails a check.
macro_rules! breach {
    ($($what:tt)*) => {
        return Err($crate::log::Breach(format!($($what)*)))
    };
}
pub(crate) use breach;

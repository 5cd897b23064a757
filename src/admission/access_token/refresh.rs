//! Keeps the keys of a JWKS fresh: one task reads them, everybody else looks at what it read last.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use super::{JwksSource, header::Header, jwks::JwksError, keys::VerifyingKey};
use crate::{
    backoff::{Backoff, jittered},
    clock::Clock,
    metrics::Metrics,
    telemetry::chain,
};

/// Tokens with unknown key ids may cause one read in this time, whoever sends them and however many.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// A token waits this long for the read that may bring its key.
const WAIT: Duration = Duration::from_secs(2);
/// The waits after failed reads.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What is known of a JWKS.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// The keys of the last read that succeeded.
    pub(super) keys: Arc<[VerifyingKey]>,
    /// No read has succeeded yet.
    pub(super) is_empty: bool,
    /// The last read failed.
    pub(super) is_failing: bool,
    is_reading: bool,
    reads: u64,
    ask_again_at: Instant,
}

impl Known {
    pub(super) fn names(&self, header: &Header) -> bool {
        self.keys.iter().any(|key| key.is_named_by(header))
    }

    /// Whether what is not known may yet be there: it has not been possible to look.
    pub(super) fn is_uncertain(&self) -> bool {
        self.is_empty || self.is_failing || self.is_reading
    }
}

/// The keys as they were read last. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Jwks {
    known: watch::Receiver<Known>,
    wanted: Arc<Notify>,
    pub(super) may_hold_secrets: bool,
}

impl Jwks {
    pub(super) fn known(&self) -> Known {
        self.known.borrow().clone()
    }

    /// Asks for a read, unless one was a moment ago, and waits for it a little.
    pub(super) async fn refreshed(&self) -> Known {
        let mut known = self.known.clone();
        let before = {
            let now = known.borrow();
            if !now.is_reading && Instant::now() < now.ask_again_at {
                return now.clone();
            }
            now.reads
        };
        self.wanted.notify_one();
        match timeout(WAIT, known.wait_for(|now| now.reads > before)).await {
            Ok(Ok(now)) => now.clone(),
            _ => self.known(),
        }
    }
}

/// The task that reads the keys at its start, every interval, and when a token names a key that is not known.
#[derive(Debug)]
pub struct JwksRefresher {
    source: JwksSource,
    interval: Duration,
    known: watch::Sender<Known>,
    wanted: Arc<Notify>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

impl JwksRefresher {
    pub(super) fn new(
        source: JwksSource,
        interval: Duration,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> (Jwks, Self) {
        let (sender, known) = watch::channel(Known {
            keys: Arc::new([]),
            is_empty: true,
            is_failing: false,
            // It is about to be.
            is_reading: true,
            reads: 0,
            ask_again_at: Instant::now(),
        });
        let wanted = Arc::new(Notify::new());
        let jwks = Jwks {
            known,
            wanted: Arc::clone(&wanted),
            may_hold_secrets: source.may_hold_secrets(),
        };
        let refresher = Self {
            source,
            interval,
            known: sender,
            wanted,
            metrics,
            clock,
        };
        (jwks, refresher)
    }

    /// Reads on, for ever.
    ///
    /// # Cancel safety
    /// A read that has begun goes on by itself, for a few seconds at most where it is an address; nobody hears of it.
    pub async fn run(self) {
        let mut retry = Backoff::new(RETRY.0, RETRY.1.min(self.interval));
        loop {
            let wait = match self.read().await {
                Ok(keys) => {
                    self.succeed(keys);
                    retry.reset();
                    jittered(self.interval)
                }
                Err(error) => {
                    self.fail(&error);
                    retry.next_wait()
                }
            };
            self.wait(wait).await;
        }
    }

    async fn read(&self) -> Result<Vec<VerifyingKey>, JwksError> {
        self.known.send_modify(|known| {
            known.is_reading = true;
            known.ask_again_at = Instant::now() + ASK_EVERY;
        });
        let source = self.source.clone();
        match tokio::task::spawn_blocking(move || source.read()).await {
            Ok(read) => read,
            // Only a panic; like a read that failed, it must not end the node.
            Err(error) => Err(JwksError::File(error.into())),
        }
    }

    fn succeed(&self, keys: Vec<VerifyingKey>) {
        let before = self.known.borrow().clone();
        self.metrics.jwks_read(self.clock.now(), keys.len());
        if before.is_failing {
            info!(jwks.source = %self.source, keys = keys.len(), "the keys of access tokens can be read again");
        } else if before.is_empty {
            info!(jwks.source = %self.source, keys = keys.len(), "read the keys of access tokens");
        }
        self.known.send_modify(|known| {
            known.keys = keys.into();
            known.is_empty = false;
            known.is_failing = false;
            known.is_reading = false;
            known.reads += 1;
        });
    }

    fn fail(&self, error: &JwksError) {
        self.metrics.jwks_failed();
        let is_news = !self.known.borrow().is_failing;
        if is_news {
            warn!(
                jwks.source = %self.source,
                error = %chain(error),
                "the keys of access tokens cannot be read; those read before stay in use, going on trying"
            );
        } else {
            debug!(error = %chain(error), "the keys of access tokens still cannot be read");
        }
        self.known.send_modify(|known| {
            known.is_failing = true;
            known.is_reading = false;
            known.reads += 1;
        });
    }

    /// Waits until the next read is due, or wanted and allowed.
    async fn wait(&self, wait: Duration) {
        let due = Instant::now() + wait;
        loop {
            tokio::select! {
                () = sleep_until(due) => return,
                () = self.wanted.notified() => {
                    if Instant::now() >= self.known.borrow().ask_again_at {
                        return;
                    }
                }
            }
        }
    }
}

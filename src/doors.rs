//! The doors: how many may come, how often, and from where, before anybody looks at what they bring.
//!
//! Every limit here is by [`Source`], in total, or both. Who exceeds one is [turned away](Turned) with the time after which
//! to come again. What somebody brings is judged by [`admission`](crate::admission); of that the doors are told only who
//! brought a credential that is not one.

mod backoff;
mod holds;
mod proxies;
mod source;

use std::{
    net::IpAddr,
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use axum::http::HeaderMap;
use governor::{
    DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock as _,
};
use tokio_util::sync::CancellationToken;

use self::{backoff::Backoff, holds::Holds};
pub use self::{
    holds::{Hold, Kind},
    proxies::{ForwardedHeader, Proxies},
    source::Source,
};
use crate::{
    config::Config,
    metrics::{Limit, Metrics},
};

/// Clones share it.
#[derive(Debug, Clone)]
pub struct Doors {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    proxies: Proxies,
    holds: Arc<Holds>,
    handshakes: Option<DefaultKeyedRateLimiter<Source>>,
    all_handshakes: Option<DefaultDirectRateLimiter>,
    backoff: Option<Backoff>,
    metrics: Arc<Metrics>,
}

/// Why somebody is turned away at the doors, and when to come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turned {
    /// Which limit.
    pub limit: Limit,
    /// At the earliest.
    pub retry_after: Duration,
}

/// Two seconds' worth: a room's browsers all come back at once after a restart, often from one address.
const BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);
/// Sockets that only speak HTTP: those being let in, and the management API's. Never more than half of all.
const HTTP_BESIDE: usize = 8_192;
/// What is kept for HTTP where the operating system's limit is the only one.
const HTTP_AT_LEAST: usize = 512;
/// When a place is likely to be free again.
const CROWDED: Duration = Duration::from_secs(5);
/// How often what is known of sources that have gone quiet is forgotten.
const TIDY_EVERY: Duration = Duration::from_secs(10);

impl Doors {
    /// The doors for these options, of a process that may have this many sockets; `None`: as many as it likes.
    pub fn new(config: &Config, sockets: Option<NonZeroUsize>, metrics: Arc<Metrics>) -> Self {
        let limits = &config.limits;
        let sockets = sockets.map_or(usize::MAX, NonZeroUsize::get);
        let websockets = limits
            .max_connections
            .unwrap_or(usize::MAX)
            .min(sockets.saturating_sub(HTTP_AT_LEAST).max(1));
        let holds = Holds::new(holds::Most {
            sockets,
            http: HTTP_BESIDE.min(sockets / 2).max(1),
            websockets,
            by_source: limits.connections_per_address,
        });
        let quota = |rate| Quota::per_second(rate).allow_burst(BURST.saturating_mul(rate));
        Self {
            inner: Arc::new(Inner {
                proxies: Proxies::new(config.trusted_proxies.clone(), config.forwarded_header),
                holds: Arc::new(holds),
                handshakes: limits
                    .handshakes_per_second
                    .and_then(NonZeroU32::new)
                    .map(|rate| RateLimiter::keyed(quota(rate))),
                all_handshakes: limits
                    .total_handshakes_per_second
                    .and_then(NonZeroU32::new)
                    .map(|rate| RateLimiter::direct(quota(rate))),
                backoff: limits.failed_credentials_per_minute.map(Backoff::new),
                metrics,
            }),
        }
    }

    /// Lets a fresh TCP connection speak HTTP.
    ///
    /// # Errors
    /// The process or the peer's address has as many as it may. There is nothing to answer with then.
    pub fn accept(&self, peer: IpAddr) -> Result<Hold, Turned> {
        let source = (!self.inner.proxies.trusts(peer)).then(|| Source::of(peer));
        self.hold(Kind::Http, source)
    }

    /// How long somebody who has just connected may take to say what they want: `at_most`, and in a crowd a tenth of it, so
    /// that those who say nothing do not keep the others out.
    pub fn patience(&self, at_most: Duration) -> Duration {
        if self.inner.holds.is_crowded() {
            at_most / 10
        } else {
            at_most
        }
    }

    /// The source behind a request; `None` for a listed proxy that does not say whom it speaks for, which no limit by source
    /// applies to.
    pub fn source(&self, peer: IpAddr, headers: &HeaderMap) -> Option<Source> {
        self.inner.proxies.client(peer, headers).map(Source::of)
    }

    /// The host that the browser asked for: `Host`, or what a listed proxy says it was.
    pub fn host<'a>(&self, peer: IpAddr, headers: &'a HeaderMap) -> Option<&'a str> {
        self.inner.proxies.host(peer, headers)
    }

    /// Counts an attempt to enter.
    ///
    /// # Errors
    /// There are too many, from there or in all, or too many failed ones came from there.
    pub fn knock(&self, source: Option<Source>) -> Result<(), Turned> {
        self.check_backoff(source)?;
        if let Some(limiter) = &self.inner.all_handshakes
            && let Err(until) = limiter.check()
        {
            let wait = until.wait_time_from(limiter.clock().now());
            return Err(self.turn_away(Limit::TotalHandshakes, wait));
        }
        if let (Some(limiter), Some(source)) = (&self.inner.handshakes, source)
            && let Err(until) = limiter.check_key(&source)
        {
            let wait = until.wait_time_from(limiter.clock().now());
            return Err(self.turn_away(Limit::Handshakes, wait));
        }
        Ok(())
    }

    /// Whether this source brought too many credentials that are none.
    ///
    /// # Errors
    /// It did, and is to wait.
    pub fn check_backoff(&self, source: Option<Source>) -> Result<(), Turned> {
        let wait = source.zip(self.inner.backoff.as_ref());
        match wait.and_then(|(source, backoff)| backoff.wait(source)) {
            Some(wait) => Err(self.turn_away(Limit::FailedCredentials, wait)),
            None => Ok(()),
        }
    }

    /// Notes that somebody brought a credential that is none.
    pub fn failed(&self, source: Option<Source>) {
        if let (Some(source), Some(backoff)) = (source, &self.inner.backoff) {
            backoff.failed(source);
        }
    }

    /// Takes a place for a WebSocket.
    ///
    /// # Errors
    /// There is none left, for this source or at all.
    pub fn open(&self, source: Option<Source>) -> Result<Hold, Turned> {
        self.hold(Kind::WebSocket, source)
    }

    fn hold(&self, kind: Kind, source: Option<Source>) -> Result<Hold, Turned> {
        self.inner
            .holds
            .take(kind, source)
            .map_err(|limit| self.turn_away(limit, CROWDED))
    }

    fn turn_away(&self, limit: Limit, retry_after: Duration) -> Turned {
        self.inner.metrics.limited(limit);
        Turned { limit, retry_after }
    }

    /// Forgets sources that have gone quiet, until stopped, so that an attacker with many addresses fills no memory.
    pub async fn tidy(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(TIDY_EVERY);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Some(limiter) = &self.inner.handshakes {
                limiter.retain_recent();
                limiter.shrink_to_fit();
            }
            if let Some(backoff) = &self.inner.backoff {
                backoff.tidy();
            }
        }
    }
}

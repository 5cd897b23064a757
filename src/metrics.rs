//! What Prometheus is told. Counters and gauges only; whoever counts something does so through a named method.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use rollcall_protocol::{ProblemCode, Timestamp};

use crate::hub::Ending;

type Labels = [(&'static str, &'static str); 1];

/// The node's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    /// Connections with a seat.
    pub connections: Gauge,
    /// Connections that watch without a seat.
    pub observers: Gauge,
    rooms: Gauge,
    seats: Gauge,
    joins: Family<Labels, Counter>,
    endings: Family<Labels, Counter>,
    limited: Family<Labels, Counter>,
    frames_in: Counter,
    frames_out: Counter,
    arrivals: Counter,
    departures: Counter,
    flush_seconds: Histogram,
    flushed_rows: Counter,
    flush_failures: Counter,
    flush_backlog: Gauge,
    reaped_rooms: Counter,
    sweeps: Counter,
    jwks_failures: Counter,
    jwks_keys: Gauge,
    jwks_success: Gauge,
    last_flush_millis: AtomicI64,
    flushes: AtomicU64,
    /// Zero: none since it was looked at last.
    longest_flush_micros: AtomicU64,
    refusals: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("rollcall");
        macro_rules! metric {
            ($name:literal, $help:literal, $metric:expr) => {{
                let metric = $metric;
                registry.register($name, $help, metric.clone());
                metric
            }};
        }
        let flush_buckets = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0];
        Self {
            connections: metric!("connections", "WebSockets with a seat", Gauge::default()),
            observers: metric!(
                "observers",
                "WebSockets that watch without a seat",
                Gauge::default()
            ),
            rooms: metric!("rooms_live", "Rooms in memory", Gauge::default()),
            seats: metric!("seats", "Seats, grace included", Gauge::default()),
            joins: metric!(
                "joins",
                "Joins by outcome: admitted, resumed, observing, or the problem's code",
                Family::default()
            ),
            endings: metric!(
                "connections_ended",
                "Connections ended, by reason",
                Family::default()
            ),
            limited: metric!(
                "limited",
                "Requests and messages beyond a limit, by limit",
                Family::default()
            ),
            frames_in: metric!("frames_received", "Frames received", Counter::default()),
            frames_out: metric!(
                "frames_fanned_out",
                "Presence and broadcast frames times their readers",
                Counter::default()
            ),
            arrivals: metric!(
                "arrivals",
                "Participants who came, not those who came back to a seat that was kept",
                Counter::default()
            ),
            departures: metric!(
                "departures",
                "Participants who left, timed out or were removed",
                Counter::default()
            ),
            flush_seconds: metric!(
                "flush_seconds",
                "Time of a flush",
                Histogram::new(flush_buckets)
            ),
            flushed_rows: metric!(
                "flushed_rows",
                "Participants written by flushes",
                Counter::default()
            ),
            flush_failures: metric!("flush_failures", "Flushes that failed", Counter::default()),
            flush_backlog: metric!(
                "flush_backlog",
                "Participants waiting for a flush after a failure",
                Gauge::default()
            ),
            reaped_rooms: metric!(
                "reaped_rooms",
                "Rooms deleted by the reaper",
                Counter::default()
            ),
            sweeps: metric!("sweeps", "Sweeps of the reaper", Counter::default()),
            jwks_failures: metric!(
                "jwks_failures",
                "Reads of the keys of access tokens that failed",
                Counter::default()
            ),
            jwks_keys: metric!(
                "jwks_keys",
                "Keys of access tokens read last",
                Gauge::default()
            ),
            jwks_success: metric!(
                "jwks_last_success_timestamp_seconds",
                "When the keys of access tokens were read last, in Unix time; zero: never",
                Gauge::default()
            ),
            registry: Mutex::new(registry),
            last_flush_millis: AtomicI64::new(0),
            flushes: AtomicU64::new(0),
            longest_flush_micros: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    /// Somebody was let in: `admitted`, `resumed` or `observing`.
    pub fn admitted(&self, how: &'static str) {
        self.joins.get_or_create(&[("outcome", how)]).inc();
    }

    /// Somebody who wanted to enter was refused; not of those who only asked.
    pub fn refused(&self, code: ProblemCode) {
        self.joins
            .get_or_create(&[("outcome", code.as_str())])
            .inc();
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    /// A participant took a seat that nobody held for them.
    pub fn arrived(&self) {
        self.arrivals.inc();
    }

    /// A participant departed.
    pub fn departed(&self) {
        self.departures.inc();
    }

    /// A connection ended.
    pub fn ended(&self, ending: Ending) {
        self.endings
            .get_or_create(&[("reason", ending.as_str())])
            .inc();
    }

    /// Somebody was turned away, or a message dropped, because of a limit.
    pub fn limited(&self, limit: Limit) {
        self.limited
            .get_or_create(&[("limit", limit.as_str())])
            .inc();
    }

    /// A frame came in.
    pub fn frame_received(&self) {
        self.frames_in.inc();
    }

    /// A frame was queued for this many readers.
    pub fn frames_fanned_out(&self, readers: u64) {
        self.frames_out.inc_by(readers);
    }

    /// A flush of this many participants succeeded.
    pub fn flushed(&self, rows: u64, took: Duration) {
        self.flush_seconds.observe(took.as_secs_f64());
        self.flushed_rows.inc_by(rows);
        self.flush_backlog.set(0);
        self.flushes.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        self.longest_flush_micros
            .fetch_max(micros, Ordering::Relaxed);
        self.last_flush_millis
            .store(took.as_millis() as i64, Ordering::Relaxed);
    }

    /// A flush failed; this many participants wait for the next.
    pub fn flush_failed(&self, backlog: usize) {
        self.flush_failures.inc();
        self.flush_backlog.set(backlog as i64);
    }

    /// A sweep deleted this many rooms.
    pub fn swept(&self, rooms: u64) {
        self.sweeps.inc();
        self.reaped_rooms.inc_by(rooms);
    }

    /// The keys of access tokens were read, so many of them.
    pub fn jwks_read(&self, now: Timestamp, keys: usize) {
        self.jwks_keys.set(keys as i64);
        self.jwks_success.set(now.as_millis().div_euclid(1000));
    }

    /// The keys of access tokens could not be read.
    pub fn jwks_failed(&self) {
        self.jwks_failures.inc();
    }

    /// The longest flush since this was asked last; `None` if there was none.
    pub fn take_longest_flush(&self) -> Option<Duration> {
        let micros = self.longest_flush_micros.swap(0, Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// What was counted since the start.
    pub fn totals(&self) -> Totals {
        Totals {
            joins: self.arrivals.get(),
            leaves: self.departures.get(),
            refusals: self.refusals.load(Ordering::Relaxed),
            frames: self.frames_in.get(),
            flushed_rows: self.flushed_rows.get(),
            flush_failures: self.flush_failures.get(),
        }
    }

    /// The flush figures for `stats`.
    pub fn flush_figures(&self) -> FlushFigures {
        FlushFigures {
            flushes: self.flushes.load(Ordering::Relaxed),
            rows: self.flushed_rows.get(),
            failures: self.flush_failures.get(),
            backlog: self.flush_backlog.get() as u64,
            last_ms: self.last_flush_millis.load(Ordering::Relaxed) as u64,
        }
    }

    /// The text that Prometheus scrapes.
    pub fn render(&self, rooms: usize, seats: usize) -> String {
        self.rooms.set(rooms as i64);
        self.seats.set(seats as i64);
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry.lock()) {
            tracing::error!(%error, "metrics could not be encoded");
        }
        text
    }
}

/// Counts since the start.
#[derive(Debug, Clone, Copy)]
pub struct Totals {
    /// Participants who came.
    pub joins: u64,
    /// Participants who departed.
    pub leaves: u64,
    /// Joins that were refused.
    pub refusals: u64,
    /// Frames received.
    pub frames: u64,
    /// Participants written by flushes.
    pub flushed_rows: u64,
    /// Flushes that failed.
    pub flush_failures: u64,
}

/// What bounds a client; each is a label of `rollcall_limited_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Open sockets, or `--max-connections`.
    Connections,
    /// `--connections-per-address`.
    ConnectionsPerAddress,
    /// `--connections-per-participant`.
    ConnectionsPerParticipant,
    /// `--handshakes-per-second`.
    Handshakes,
    /// `--total-handshakes-per-second`.
    TotalHandshakes,
    /// `--failed-credentials-per-minute`.
    FailedCredentials,
    /// `--messages-per-second`.
    Messages,
    /// `--bytes-per-second`.
    Bytes,
    /// `--fanout-frames-per-second` and `--fanout-bytes-per-second`.
    Fanout,
    /// `--max-rooms`.
    Rooms,
    /// A room's `max_participants`.
    Participants,
    /// `--join-queue`.
    JoinQueue,
}

impl Limit {
    /// As a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::ConnectionsPerParticipant => "connections_per_participant",
            Self::Handshakes => "handshakes",
            Self::TotalHandshakes => "total_handshakes",
            Self::FailedCredentials => "failed_credentials",
            Self::Messages => "messages",
            Self::Bytes => "bytes",
            Self::Fanout => "fanout",
            Self::Rooms => "rooms",
            Self::Participants => "participants",
            Self::JoinQueue => "join_queue",
        }
    }
}

/// Flush figures since the start.
#[derive(Debug, Clone, Copy, serde::Serialize, utoipa::ToSchema)]
pub struct FlushFigures {
    /// Flushes that succeeded.
    pub flushes: u64,
    /// Participants written.
    pub rows: u64,
    /// Flushes that failed.
    pub failures: u64,
    /// Participants waiting after a failure.
    pub backlog: u64,
    /// How long the last one took.
    pub last_ms: u64,
}

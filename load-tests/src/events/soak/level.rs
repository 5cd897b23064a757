//! What the server holds at a moment, and whether that is what it held before.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::MEGA;
use crate::{
    api::Api,
    fault::{Fault, Faults},
    report::Report,
    server::Server,
};

/// How long graces, reaping, and what is slow besides may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Resident memory may be more than before by this share and this much: allocators keep pages, and the store's cache moves.
const RSS_SHARE: f64 = 0.1;
const RSS_BYTES: f64 = 5e6;

/// What the server holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Level {
    rss_bytes: u64,
    descriptors: u64,
    threads: u64,
    connections: u64,
    seats: u64,
    rooms_live: u64,
    rooms_stored: u64,
    backlog: u64,
}

impl Level {
    /// What the columns of [`Level::row`] are.
    pub(super) const HEAD: [&str; 8] = [
        "minute",
        "connections",
        "RSS, MB",
        "fds",
        "threads",
        "seats",
        "rooms live",
        "rooms stored",
    ];

    /// Looks.
    ///
    /// # Errors
    /// The server has ended, or refuses.
    pub(super) async fn read(server: &Server, api: &mut Api) -> anyhow::Result<Self> {
        // First: asking opens our own connection if it is not open, and it is to be counted every time.
        let (metrics, rooms_stored) = (api.metrics().await?, api.stored_rooms().await?);
        let process = server.process();
        Ok(Self {
            rss_bytes: process.cost()?.rss_bytes,
            descriptors: process.descriptors()?,
            threads: process.threads()?,
            connections: metrics.connections(),
            seats: metrics.seats(),
            rooms_live: metrics.rooms_live(),
            rooms_stored,
            backlog: metrics.flush_backlog(),
        })
    }

    /// Waits until nobody and no room is left, then for `calm`; and then until the server holds no more than `base`, if that is
    /// not to be found out here, or for as long as may be: threads that only wait end after 10 s, as do connections over which
    /// nothing is asked.
    ///
    /// # Errors
    /// The server has ended, or refuses.
    pub(super) async fn settled(
        server: &Server,
        api: &mut Api,
        calm: Duration,
        (empty, base): (&Self, Option<&Self>),
    ) -> anyhow::Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        while Self::read(server, api).await?.holds_more(empty) && Instant::now() < deadline {
            sleep(LOOK).await;
        }
        sleep(calm).await;
        let deadline = Instant::now() + PATIENCE / 2;
        loop {
            let level = Self::read(server, api).await?;
            let is_back = base.is_none_or(|base| level.leaks(base).is_empty());
            if is_back || Instant::now() > deadline {
                return Ok(level);
            }
            sleep(LOOK).await;
        }
    }

    /// Whether somebody or something is there that was not.
    fn holds_more(&self, empty: &Self) -> bool {
        self.connections > empty.connections
            || self.seats > empty.seats
            || self.rooms_live > empty.rooms_live
            || self.rooms_stored > empty.rooms_stored
            || self.backlog > empty.backlog
    }

    /// What did not go back to what it was, as faults.
    pub(super) fn leaks(&self, base: &Self) -> Faults {
        let mut faults = Faults::default();
        for (name, now, then) in [
            ("descriptors", self.descriptors, base.descriptors),
            ("threads", self.threads, base.threads),
            ("connections", self.connections, base.connections),
            ("seats", self.seats, base.seats),
            ("rooms in memory", self.rooms_live, base.rooms_live),
            ("rooms in the store", self.rooms_stored, base.rooms_stored),
            ("flush backlog", self.backlog, base.backlog),
        ] {
            if now > then {
                faults.add(Fault::Leaked, format!("{name}: {then} before, {now} after"));
            }
        }
        let (now, then) = (self.rss_bytes as f64, base.rss_bytes as f64);
        if now > then * (1.0 + RSS_SHARE) + RSS_BYTES {
            let text = format!(
                "resident memory: {:.1} MB before, {:.1} MB after",
                then / MEGA,
                now / MEGA
            );
            faults.add(Fault::Leaked, text);
        }
        faults
    }

    /// For the table.
    pub(super) fn row(&self, minute: f64) -> Vec<f64> {
        let counts = [
            self.descriptors,
            self.threads,
            self.seats,
            self.rooms_live,
            self.rooms_stored,
        ];
        let mut row = vec![
            minute,
            self.connections as f64,
            self.rss_bytes as f64 / MEGA,
        ];
        row.extend(counts.map(|count| count as f64));
        row
    }

    pub(super) fn report(&self, when: &str, report: &mut Report) {
        report.figure(
            format!("server memory, nobody there, {when}"),
            self.rss_bytes as f64 / MEGA,
            "MB",
        );
        report.figure(
            format!("… descriptors, {when}"),
            self.descriptors as f64,
            "",
        );
        report.figure(format!("… threads, {when}"), self.threads as f64, "");
        report.figure(
            format!("… connections, seats, rooms and backlog, {when}"),
            (self.connections + self.seats + self.rooms_live + self.rooms_stored + self.backlog)
                as f64,
            "",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Level = Level {
        rss_bytes: 20_000_000,
        descriptors: 30,
        threads: 7,
        connections: 0,
        seats: 0,
        rooms_live: 0,
        rooms_stored: 0,
        backlog: 0,
    };

    fn leaks(after: &Level) -> u64 {
        after.leaks(&BASE).count(Fault::Leaked)
    }

    #[test]
    fn what_does_not_go_back_is_a_fault() {
        assert_eq!(leaks(&BASE), 0);
        let less = Level {
            descriptors: 29,
            rss_bytes: 26_900_000,
            ..BASE
        };
        assert_eq!(leaks(&less), 0);
        let more = Level {
            descriptors: 31,
            seats: 1,
            rss_bytes: 27_100_000,
            ..BASE
        };
        assert_eq!(leaks(&more), 3);
    }
}

//! What to measure, at which size.

use clap::{Parser, ValueEnum};

/// Measures what PostgreSQL costs.
#[derive(Debug, Parser)]
#[command(name = "postgres")]
pub(crate) struct Options {
    /// What to measure [default: everything]
    #[arg(value_enum)]
    what: Vec<What>,
    /// A tenth of the rows and a few rounds: whether it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Rooms, of five people each [default: 200000]
    #[arg(long)]
    rooms: Option<usize>,
    /// Rooms of the second reaper [default: 1000000]
    #[arg(long)]
    many_rooms: Option<usize>,
    /// Participants written by one flush [default: 100000]
    #[arg(long)]
    dirty: Option<usize>,
    /// Participants handed over in one call of a flush [default: all; the store cuts them into transactions anyway]
    #[arg(long)]
    pub(crate) chunk: Option<usize>,
    /// Flushes of each way [default: 20]
    #[arg(long)]
    flushes: Option<usize>,
    /// Stale rooms in one sweep [default: 10000]
    #[arg(long)]
    stale: Option<usize>,
    /// Sweeps [default: 5]
    #[arg(long)]
    sweeps: Option<usize>,
    /// Joins of each way in one round [default: 20000]
    #[arg(long)]
    joins: Option<usize>,
    /// Rounds of joins [default: 5]
    #[arg(long)]
    join_rounds: Option<usize>,
    /// Connections of the store's pool for joins, and of those who commit each join by itself
    #[arg(long, default_value_t = 10)]
    pub(crate) connections: u32,
    /// A line of postgresql.conf, such as `enable_hashjoin=off`; wins over the benchmark's own
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Cargo's, to tell a benchmark from a test
    #[arg(long, hide = true)]
    bench: bool,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Writing when participants were last seen
    Flush,
    /// Deleting idle rooms
    Reaper,
    /// Joining durably
    Joins,
    /// All of these
    All,
}

impl Options {
    /// Each at most once, in the order of [`What`].
    pub(crate) fn what(&self) -> impl Iterator<Item = What> {
        let everything = self.what.is_empty() || self.what.contains(&What::All);
        let all = [What::Flush, What::Reaper, What::Joins].into_iter();
        all.filter(move |what| everything || self.what.contains(what))
    }

    pub(crate) fn rooms(&self) -> usize {
        self.size(self.rooms, 200_000, 20_000)
    }

    pub(crate) fn many_rooms(&self) -> usize {
        self.size(self.many_rooms, 1_000_000, 100_000)
    }

    pub(crate) fn dirty(&self) -> usize {
        self.size(self.dirty, 100_000, 10_000)
    }

    pub(crate) fn flushes(&self) -> usize {
        self.size(self.flushes, 20, 5)
    }

    pub(crate) fn stale(&self) -> usize {
        self.size(self.stale, 10_000, 1_000)
    }

    pub(crate) fn sweeps(&self) -> usize {
        self.size(self.sweeps, 5, 2)
    }

    pub(crate) fn joins(&self) -> usize {
        self.size(self.joins, 20_000, 4_000)
    }

    pub(crate) fn join_rounds(&self) -> usize {
        self.size(self.join_rounds, 5, 2)
    }

    fn size(&self, given: Option<usize>, full: usize, quick: usize) -> usize {
        given.unwrap_or(if self.quick { quick } else { full })
    }

    /// The lines of postgresql.conf, of which the last of a name wins.
    pub(crate) fn settings(&self) -> Vec<(&str, &str)> {
        let given = self
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        SETTINGS.iter().copied().chain(given).collect()
    }

    pub(crate) fn settings_line(&self) -> String {
        let settings = self.settings();
        let lines: Vec<String> = settings
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        format!("PostgreSQL {}", lines.join(" "))
    }
}

fn setting(given: &str) -> Result<(String, String), String> {
    let (name, value) = given.split_once('=').ok_or("needs a NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// As durable as in production, and quiet while something is measured.
const SETTINGS: &[(&str, &str)] = &[
    // What a join waits for, and what a flush must not skip.
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("synchronous_commit", "on"),
    // The figures to reach are of a database that fits.
    ("shared_buffers", "2GB"),
    // No checkpoint in the middle: the first change of each page after one writes all of the page.
    ("max_wal_size", "8GB"),
    ("checkpoint_timeout", "30min"),
    // The log's files are used again, as they are in production, instead of being made while something is measured.
    ("min_wal_size", "4GB"),
    // Otherwise one way's garbage is collected at another's expense. What must be vacuumed is, between measurements.
    ("autovacuum", "off"),
    // The cluster's own default is for tests that kill it.
    ("dynamic_shared_memory_type", "posix"),
];

//! How many, and what for.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

/// Holds connections in one process, without sockets, and hears each of them.
#[derive(Debug, Parser)]
#[command(name = "million")]
pub(crate) struct Options {
    /// Connections; several numbers make several runs, each in a process of its own
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 100_000])]
    connections: Vec<usize>,
    /// Everybody is welcomed in a room with so many members, which shrinks to 8 then
    #[arg(long, default_value_t = ROOM)]
    pub(crate) welcome_members: usize,
    /// The run with crowded welcomes that follows the others holds so many connections; 0: no such run
    #[arg(long, default_value_t = 2_000)]
    crowded: usize,
    /// How long to look at idle connections, in seconds
    #[arg(long, default_value_t = 4)]
    idle_seconds: u64,
    /// 10,000 connections only
    #[arg(long)]
    quick: bool,
    /// Writes the figures there, too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Runs one of the runs in this very process
    #[arg(long, hide = true)]
    pub(crate) part: Option<Part>,
    /// Cargo's, to tell a benchmark from a test
    #[arg(long, hide = true)]
    bench: bool,
}

/// What one process measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Connections as the server holds them.
    Held,
    /// Tasks that only answer, on the same wires: what the bench itself costs.
    Bare,
    /// The bytes of one connection, by what they are for.
    Sizes,
}

/// One run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) connections: usize,
    pub(crate) welcome_members: usize,
    pub(crate) idle: Duration,
}

/// Members of a room.
pub(crate) const ROOM: usize = 8;
/// Members of a room that everybody has once seen full.
const CROWD: usize = 1_000;

impl Options {
    /// The run of this very process.
    pub(crate) fn run(&self) -> Run {
        Run {
            connections: self.connections[0].next_multiple_of(ROOM),
            welcome_members: self.welcome_members.max(ROOM),
            idle: Duration::from_secs(self.idle_seconds),
        }
    }

    /// All that is to be measured, each in a process of its own.
    pub(crate) fn runs(&self) -> Vec<Run> {
        let sizes = if self.quick {
            &[10_000][..]
        } else {
            &self.connections
        };
        let run = |connections, welcome_members| Run {
            connections,
            welcome_members,
            ..self.run()
        };
        let plain = sizes.iter().map(|size| run(*size, self.welcome_members));
        let crowded = self.crowded > 0 && self.welcome_members == ROOM;
        plain
            .chain(crowded.then(|| run(self.crowded, CROWD)))
            .collect()
    }
}

impl Run {
    /// The words that make another process do it.
    pub(crate) fn arguments(&self, part: &str) -> Vec<String> {
        let words = format!(
            "--bench --part {part} --connections {} --welcome-members {} --idle-seconds {}",
            self.connections,
            self.welcome_members,
            self.idle.as_secs()
        );
        words.split(' ').map(str::to_owned).collect()
    }

    /// Every run ends by itself after this.
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(120) + self.idle + Duration::from_micros(300) * self.people() as u32
    }

    pub(crate) fn rooms(&self) -> usize {
        self.connections.div_ceil(ROOM)
    }

    /// Everybody there is, with the crowd.
    pub(crate) fn people(&self) -> usize {
        self.rooms() * self.welcome_members
    }

    pub(crate) fn is_crowded(&self) -> bool {
        self.welcome_members > ROOM
    }
}

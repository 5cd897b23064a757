//! What to do, at which size.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::engine::RunOptions;

/// Measures what a crowd does to a Rollcall server, and checks what the server tells the crowd.
///
/// Each event starts a `rollcall serve` of its own and ends it. Exit code 1: something was told wrong, or the run failed.
#[derive(Debug, Parser)]
#[command(name = "rollcall-load", version)]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// An event to measure.
    #[command(flatten)]
    Event(Event),
    /// Run a scenario: who comes when and does what, out of a file
    ///
    /// Exit code 1: something was told wrong, a threshold was missed, or the run failed.
    Run(Box<RunOptions>),
    /// List the scenarios that come with this program
    Scenarios,
    /// Be people of a scenario for another rollcall-load: orders on standard input, answers on standard output
    #[command(hide = true)]
    Work,
    /// Hold clients for another rollcall-load: orders on standard input, reports on standard output
    #[command(hide = true)]
    Hold,
    /// Be attackers for another rollcall-load: orders on standard input, a report on standard output
    #[command(hide = true)]
    Besiege,
    /// Be the least server that the parts allow, for comparison
    #[command(hide = true)]
    Floor,
    /// Become another program that ends when its parent does
    #[command(hide = true, name = "become")]
    Become(Program),
}

/// A program to become.
#[derive(Debug, Args)]
pub struct Program {
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub argv: Vec<OsString>,
}

/// An event.
#[derive(Debug, Clone, Subcommand)]
pub enum Event {
    /// Nearly all connections are lost in one instant; what do the rest notice?
    Drop(DropOptions),
    /// The same, and all of them come back at once
    Resume(ResumeOptions),
    /// One room, everybody joins within seconds, then everybody leaves at once
    Crowd(CrowdOptions),
    /// A busy room with clients in it that never read
    Stuck(StuckOptions),
    /// Garbage from everywhere at a server with its own limits; what do those who are in notice?
    Siege(SiegeOptions),
    /// People and rooms come and go for a long time; does the server keep anything of them?
    Soak(SoakOptions),
    /// The server is replaced under everybody, first asked to stop, then killed; who is lost?
    Deploy(DeployOptions),
    /// What a connection, a heartbeat and a join cost, beside the least that the parts allow
    Figures(FiguresOptions),
}

/// What every event needs to know.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Where the database is [default: a SQLite file in a folder for the run]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// The server to run [default: the one built beside this program]
    #[arg(long, value_name = "PATH")]
    pub rollcall: Option<PathBuf>,
    /// Write everything measured to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// What the server logs; a line a connection by default, as in production
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// How long a quiet stretch is measured
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    pub steady: Duration,
    /// How long the whole run may take
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    pub limit: Duration,
}

/// Options of `drop`.
#[derive(Debug, Clone, Args)]
pub struct DropOptions {
    /// Connections in all; at most a quarter of them, and 500, are not dropped
    #[arg(long, value_name = "N", default_value_t = 15_000)]
    pub connections: usize,
    /// How long the server keeps the seats
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub grace: Duration,
    /// See there.
    #[command(flatten)]
    pub common: Common,
}

/// Options of `resume`.
#[derive(Debug, Clone, Args)]
pub struct ResumeOptions {
    /// Connections in all; at most a quarter of them, and 500, are not dropped
    #[arg(long, value_name = "N", default_value_t = 15_000)]
    pub connections: usize,
    /// How they come back
    #[arg(long, value_enum, default_value_t = By::Resume)]
    pub by: By,
    /// How long the server keeps the seats; more than its default of 10 s, so that the last is back before the first seat goes
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    pub grace: Duration,
    /// See there.
    #[command(flatten)]
    pub common: Common,
}

/// What a client comes back by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Its resume token: no store call while the seat is held
    Resume,
    /// Its invite, with the same `client`: a join like any other
    Invite,
}

/// Options of `crowd`.
#[derive(Debug, Clone, Args)]
pub struct CrowdOptions {
    /// How many join
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub connections: usize,
    /// Within which time, at an even rate
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub within: Duration,
    /// Members beyond which the server only counts [default: the server's]
    #[arg(long, value_name = "N")]
    pub roster_limit: Option<usize>,
    /// See there.
    #[command(flatten)]
    pub common: Common,
}

/// Options of `stuck`.
#[derive(Debug, Clone, Args)]
pub struct StuckOptions {
    /// Members of the room, a fifth of which move a cursor 20 times a second
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub connections: usize,
    /// How many never read, one stretch after the other
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 20])]
    pub never_read: Vec<usize>,
    /// How long each lot may not read: the kernel takes a while to have enough, then the server waits for 10 s
    #[arg(long, value_name = "DURATION", default_value = "80s", value_parser = humantime::parse_duration)]
    pub stretch: Duration,
    /// See there.
    #[command(flatten)]
    pub common: Common,
}

/// Options of `siege`.
#[derive(Debug, Clone, Args)]
pub struct SiegeOptions {
    /// Clients that are in, in rooms of 8, and say so once a second
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub connections: usize,
    /// Senseless connections a second, however the server answers
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub per_second: u32,
    /// For how long
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = humantime::parse_duration)]
    pub flood: Duration,
    /// From how many addresses of 127.1.0.0/16, in turn
    #[arg(long, value_name = "N", default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=62_500))]
    pub sources: u32,
    /// Each from another address, so that limits by address are none
    #[arg(long, conflicts_with = "sources")]
    pub spread: bool,
    /// How many processes they come from
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub processes: u32,
    /// See there; `--steady` is how long it is quiet before and after.
    #[command(flatten)]
    pub common: Common,
}

/// Options of `soak`.
#[derive(Debug, Clone, Args)]
pub struct SoakOptions {
    /// How long people come and go; an hour shows what ten minutes hide
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// How many people, in rooms of 8
    #[arg(long, value_name = "N", default_value_t = 400)]
    pub connections: usize,
    /// How long they do so before the baseline is taken, so that what is made at first use is in it
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = humantime::parse_duration)]
    pub warm_up: Duration,
    /// See there; `--limit` is what the run may take besides the coming and going.
    #[command(flatten)]
    pub common: Common,
}

/// Options of `deploy`.
#[derive(Debug, Clone, Args)]
pub struct DeployOptions {
    /// How many people, in rooms of 8
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub connections: usize,
    /// How long a new process holds the seats that the one before left; a third of it spreads those who come back
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    pub restart_grace: Duration,
    /// See there.
    #[command(flatten)]
    pub common: Common,
}

/// Options of `figures`.
#[derive(Debug, Clone, Args)]
pub struct FiguresOptions {
    /// How many connections, one size after the other
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [15_000])]
    pub connections: Vec<usize>,
    /// People in a room
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub room: usize,
    /// How often everything is measured; the report has the medians
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub rounds: usize,
    /// How long heartbeats are counted, one a connection in each half of it; bursts and silence last as long
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub window: Duration,
    /// Measure the server only: no floor beside it, no bursts
    #[arg(long)]
    pub alone: bool,
    /// See there; `--limit` is what each round of each size may take.
    #[command(flatten)]
    pub common: Common,
}

impl Event {
    /// What every event needs to know.
    pub fn common(&self) -> &Common {
        match self {
            Self::Drop(options) => &options.common,
            Self::Resume(options) => &options.common,
            Self::Crowd(options) => &options.common,
            Self::Stuck(options) => &options.common,
            Self::Siege(options) => &options.common,
            Self::Soak(options) => &options.common,
            Self::Deploy(options) => &options.common,
            Self::Figures(options) => &options.common,
        }
    }

    /// How long it may take: one that is told how long to go on has that besides.
    pub fn limit(&self) -> Duration {
        let limit = self.common().limit;
        match self {
            Self::Soak(options) => limit + options.warm_up + options.duration,
            Self::Figures(options) => {
                limit
                    * u32::try_from(options.rounds * options.connections.len()).unwrap_or(u32::MAX)
            }
            _ => limit,
        }
    }
}

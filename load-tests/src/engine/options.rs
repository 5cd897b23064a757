//! Which scenario, at which size, against which server.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::options::Common;

/// Options of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunOptions {
    /// A scenario that comes with this program (see `scenarios`), or the path of a file
    #[arg(value_name = "NAME|FILE")]
    pub scenario: String,
    /// Print the file, a start for one of your own, and do nothing
    #[arg(long)]
    pub print: bool,
    /// So many times as many people
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub scale: f64,
    /// Another value (repeatable): `phase.steady.duration=1m`, `population.people.clients=100`
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// A server that is there, `http://HOST:PORT`; its --handshakes-per-second may have to be raised [default: one of our own]
    #[arg(long, value_name = "URL", conflicts_with_all = ["database_url", "rollcall", "log"])]
    pub url: Option<String>,
    /// An API key of it
    #[arg(
        long,
        value_name = "KEY",
        env = "ROLLCALL_API_KEY",
        hide_env_values = true
    )]
    pub api_key: Option<String>,
    /// Where its metrics are, if not at the same address
    #[arg(long, value_name = "URL", requires = "url")]
    pub metrics_url: Option<String>,
    /// Its process, if it is on this machine and may be looked at: memory and processor time
    #[arg(long, value_name = "PID", requires = "url")]
    pub server_pid: Option<u32>,
    /// Where the database of our own server is [default: a SQLite file in a folder for the run]
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// The server to run [default: the one built beside this program]
    #[arg(long, value_name = "PATH")]
    pub rollcall: Option<PathBuf>,
    /// What our own server logs; a line a connection by default, as in production
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// Write everything measured to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a page with charts to this file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// How long the whole run may take besides its phases
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration)]
    pub limit: Duration,
}

impl RunOptions {
    /// What starting a server needs to know.
    pub(super) fn common(&self) -> Common {
        Common {
            database_url: self.database_url.clone(),
            rollcall: self.rollcall.clone(),
            json: None,
            log: self.log.clone(),
            steady: Duration::ZERO,
            limit: self.limit,
        }
    }
}

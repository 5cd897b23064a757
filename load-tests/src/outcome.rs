//! What a run of a scenario found, as data: what is judged, printed, written to a file and drawn.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{fault::Faults, measure::latency::Summary, tally::Traffics};

/// What a run found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// What it is for, in a sentence.
    pub about: String,
    /// Under which conditions: server, machine, clients; a line each.
    pub conditions: Vec<String>,
    /// Every single number, by the name that a threshold calls it: `heartbeat_p99_ms`, `ghosts`, `bytes_per_connection`.
    pub figures: BTreeMap<String, f64>,
    /// Latencies by step: `connect`, `welcome`, `heartbeat`, `join_seen`, `broadcast`, …
    pub steps: BTreeMap<String, Summary>,
    /// What clients received, by kind of message.
    pub traffic: Traffics,
    /// The phases, in order.
    pub phases: Vec<Phase>,
    /// The run second by second.
    pub timeline: Vec<Second>,
    /// What was told wrong; any fails the run.
    pub faults: Faults,
}

/// A stretch of a run that has a name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// Its beginning, seconds since the run began.
    pub from_s: f64,
    /// Its end.
    pub to_s: f64,
}

/// One second of a run, all clients together.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Second {
    /// Since the run began, seconds.
    pub at_s: f64,
    /// Connections that are welcomed and open.
    pub connections: u64,
    /// Attempts to enter within this second, by what came of them: `admitted`, or the problem's code.
    pub entries: BTreeMap<String, u64>,
    /// Frames received within this second, by kind of message.
    pub frames: BTreeMap<String, u64>,
    /// Frames sent within this second.
    pub sent: u64,
    /// Latencies of this second by step.
    pub steps: BTreeMap<String, Summary>,
    /// The server, where it may be looked at.
    pub server: Option<ServerSecond>,
    /// Processor time of the clients themselves, cores.
    pub client_cores: f64,
}

/// The server within one second.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct ServerSecond {
    /// Processor time, cores; `None`: neither `--server-pid` nor a server of our own.
    pub cores: Option<f64>,
    /// Resident memory, bytes.
    pub rss_bytes: Option<u64>,
    /// Connections by its own count (`/metrics`).
    pub connections: Option<u64>,
    /// Seats by its own count (`/metrics`).
    pub seats: Option<u64>,
}

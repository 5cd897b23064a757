//! A scenario file: who comes, when, what they do, and what is done to the server meanwhile. TOML; see `scenarios/`.
//!
//! Every duration is written as people write it (`"90s"`, `"1m 30s"`). What is not known is refused, with the line.

mod check;
mod places;
mod population;
mod schedule;
mod shipped;
mod words;

use std::{ops::Range, time::Duration};

use anyhow::Context;
use serde::Deserialize;
use toml::Spanned;

pub use self::{
    places::set,
    population::{
        Access, Back, Broadcast, End, Heartbeat, Link, Population, Read, Rooms, Size, Update,
    },
    schedule::{Arrive, Shape},
    shipped::{SHIPPED, find},
    words::{Mix, Span},
};

/// A scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it is for, in a sentence.
    pub about: String,
    /// The server, where the run starts one of its own.
    #[serde(default)]
    pub server: Flags,
    /// `[[phase]]`: stretches of time, one after the other.
    #[serde(rename = "phase")]
    pub phases: Vec<Phase>,
    /// `[[population]]`: who comes.
    #[serde(default, rename = "population")]
    pub populations: Vec<Population>,
    /// `[[flood]]`: what is not a client at all.
    #[serde(default, rename = "flood")]
    pub floods: Vec<Flood>,
    /// What must hold of the figures: `"heartbeat_p99_ms < 50"`.
    #[serde(default)]
    pub thresholds: Vec<String>,
}

/// How the server is started.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flags {
    /// Its flags. Of a server that the run did not start it is believed that it was given them.
    #[serde(default)]
    pub flags: Vec<String>,
}

/// A stretch of the run.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// How long it lasts.
    #[serde(deserialize_with = "words::duration")]
    pub duration: Duration,
    /// Whether nobody comes or goes in it. Memory per connection and processor time per heartbeat are those of the last such
    /// phase, and are absent without one. Default: false.
    #[serde(default)]
    pub steady: bool,
    /// What happens at its start, in this order. Default: nothing.
    #[serde(default)]
    pub begin: Vec<Action>,
}

/// What happens at the start of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Every connection of every population breaks in one instant; all come back as their population does.
    Drop,
    /// The server is asked to stop, and started again. Only a server that the run started.
    Terminate,
    /// The server is killed, and started again. Only a server that the run started.
    Kill,
    /// The reaper is asked to sweep.
    Reap,
}

/// Connections that make no sense. The server must answer each with the right refusal or close code, and live.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flood {
    /// The phase in which they come, at an even rate.
    pub phase: Spanned<String>,
    /// How many.
    pub per_second: f64,
    /// Of which kinds. Default: all, alike.
    #[serde(default = "all_garbage")]
    pub kinds: Mix<Garbage>,
}

/// What makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Garbage {
    /// Random bytes where a request should be: 400, or a close.
    Bytes,
    /// Requests that are nearly a handshake: a problem with the right code.
    Handshake,
    /// Twenty messages that are not JSON: an error each, then 4400.
    Messages,
    /// A message of more than 16 KiB: 1009.
    Oversize,
    /// A frame that RFC 6455 forbids: 1002, or 1007.
    Frame,
}

impl Scenario {
    /// Reads a file's text.
    ///
    /// # Errors
    /// It is not TOML, something in it is not known, or makes no sense; the message shows the place.
    pub fn read(text: &str) -> anyhow::Result<Self> {
        let scenario: Self = toml::from_str(text).context("the scenario cannot be read")?;
        scenario.check(text)?;
        Ok(scenario)
    }

    /// With this many times as many people; at least one of each population.
    pub fn scale(&mut self, factor: f64) {
        for population in &mut self.populations {
            let clients = (population.clients as f64 * factor).round() as usize;
            population.clients = clients.max(1);
        }
        for flood in &mut self.floods {
            flood.per_second *= factor;
        }
    }

    /// When a phase is, since the beginning.
    pub fn span(&self, phase: usize) -> Range<Duration> {
        let from = self.phases[..phase]
            .iter()
            .map(|phase| phase.duration)
            .sum();
        from..from + self.phases[phase].duration
    }

    /// Which phase is called so.
    pub fn phase(&self, name: &str) -> Option<usize> {
        self.phases.iter().position(|phase| phase.name == name)
    }

    /// How long all phases take.
    pub fn duration(&self) -> Duration {
        self.phases.iter().map(|phase| phase.duration).sum()
    }

    /// What a flag of the server's says, as a duration.
    pub fn flag(&self, name: &str) -> Option<Duration> {
        let at = self.server.flags.iter().position(|flag| flag == name)?;
        humantime::parse_duration(self.server.flags.get(at + 1)?).ok()
    }

    /// Whether a population comes by access tokens.
    pub fn mints(&self) -> bool {
        let tokens = |population: &Population| {
            population
                .access
                .kinds()
                .any(|access| access == Access::Token)
        };
        self.populations.iter().any(tokens)
    }
}

fn all_garbage() -> Mix<Garbage> {
    Mix::evenly(&[
        Garbage::Bytes,
        Garbage::Handshake,
        Garbage::Messages,
        Garbage::Oversize,
        Garbage::Frame,
    ])
}

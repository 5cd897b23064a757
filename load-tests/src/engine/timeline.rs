//! The run second by second, all processes together.

use std::{collections::BTreeMap, time::Duration};

use super::{
    books::{Step, Tick},
    watch::{Look, Watch},
};
use crate::{
    measure::latency::{Latency, Recorded},
    outcome::{Second, ServerSecond},
    scenario::Scenario,
    tally::Traffics,
};

/// How far a run is, once a second.
#[derive(Debug, Clone)]
pub struct News<'a> {
    /// The phase.
    pub phase: &'a str,
    /// How many phases there are.
    pub phases: usize,
    /// Of the phases, what is over.
    pub elapsed: Duration,
    /// How long all phases take.
    pub of: Duration,
    /// The last second.
    pub second: Second,
    /// Faults so far.
    pub faults: u64,
}

/// Who is told of every second.
pub type Listener<'a> = &'a dyn Fn(&News<'_>);

/// See above.
pub(super) struct Timeline<'a> {
    scenario: &'a Scenario,
    processes: usize,
    listener: Listener<'a>,
    seconds: BTreeMap<u64, Sum>,
    /// Over the whole run.
    pub steps: BTreeMap<Step, Latency>,
    pub lag: Latency,
}

/// A second, as far as all processes have said.
#[derive(Debug, Default)]
struct Sum {
    said: usize,
    open: u64,
    entries: BTreeMap<String, u64>,
    steps: BTreeMap<Step, Recorded>,
    /// Since the beginning.
    traffic: Traffics,
    sent: u64,
    cpu_seconds: f64,
    faults: u64,
}

impl<'a> Timeline<'a> {
    pub(super) fn new(scenario: &'a Scenario, processes: usize, listener: Listener<'a>) -> Self {
        Self {
            scenario,
            processes,
            listener,
            seconds: BTreeMap::new(),
            steps: BTreeMap::new(),
            lag: Latency::default(),
        }
    }

    /// Takes in a second of one process. What comes after the last phase is not part of the run.
    pub(super) fn take(&mut self, tick: Tick, watch: &Watch) {
        if Duration::from_secs(tick.second) >= self.scenario.duration() {
            return;
        }
        for (step, recorded) in &tick.steps {
            self.steps.entry(*step).or_default().merge(recorded);
        }
        self.lag.merge(&tick.lag);
        let second = tick.second;
        let sum = self.seconds.entry(second).or_default();
        sum.add(tick);
        if sum.said == self.processes {
            self.tell(second, &watch.looks());
        }
    }

    fn tell(&self, second: u64, looks: &[Look]) {
        let Some(shown) = self.second(second, looks) else {
            return;
        };
        let elapsed = Duration::from_secs(second + 1);
        let at = (0..self.scenario.phases.len()).find(|at| elapsed <= self.scenario.span(*at).end);
        let phases = &self.scenario.phases;
        (self.listener)(&News {
            phase: at.map_or("", |at| phases[at].name.as_str()),
            phases: phases.len(),
            elapsed,
            of: self.scenario.duration(),
            second: shown,
            faults: self.seconds.get(&second).map_or(0, |sum| sum.faults),
        });
    }

    /// All seconds.
    pub(super) fn all(&self, looks: &[Look]) -> Vec<Second> {
        let seconds = self.seconds.keys();
        seconds
            .filter_map(|second| self.second(*second, looks))
            .collect()
    }

    fn second(&self, second: u64, looks: &[Look]) -> Option<Second> {
        let now = self.seconds.get(&second)?;
        let nothing = Sum::default();
        let before = second
            .checked_sub(1)
            .and_then(|before| self.seconds.get(&before));
        let before = before.unwrap_or(&nothing);
        let frames = now.traffic.0.keys().map(|kind| {
            let since = now
                .traffic
                .of(kind)
                .frames
                .saturating_sub(before.traffic.of(kind).frames);
            (kind.clone(), since)
        });
        let steps = now.steps.iter();
        Some(Second {
            at_s: second as f64,
            connections: now.open,
            entries: now.entries.clone(),
            frames: frames.filter(|(_, count)| *count > 0).collect(),
            sent: now.sent.saturating_sub(before.sent),
            steps: steps
                .map(|(step, recorded)| (step.name().to_owned(), recorded.summary()))
                .collect(),
            server: server(usize::try_from(second).ok()?, looks),
            client_cores: now.cpu_seconds - before.cpu_seconds,
        })
    }

    /// Everything received.
    pub(super) fn traffic(&self) -> Traffics {
        let last = self.seconds.values().next_back();
        last.map(|sum| sum.traffic.clone()).unwrap_or_default()
    }

    /// All attempts to enter by what came of them.
    pub(super) fn entries(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (outcome, count) in self.seconds.values().flat_map(|sum| &sum.entries) {
            *all.entry(outcome.clone()).or_default() += count;
        }
        all
    }
}

impl Sum {
    fn add(&mut self, tick: Tick) {
        self.said += 1;
        self.open += tick.open;
        self.sent += tick.sent;
        self.cpu_seconds += tick.cpu_seconds;
        self.faults += tick.faults;
        for (outcome, count) in tick.entries {
            *self.entries.entry(outcome).or_default() += count;
        }
        for (step, recorded) in tick.steps {
            self.steps.entry(step).or_default().merge(&recorded);
        }
        self.traffic.add(&tick.traffic);
    }
}

/// What the server did between two looks.
fn server(second: usize, looks: &[Look]) -> Option<ServerSecond> {
    let (from, to) = (looks.get(second)?, looks.get(second + 1)?);
    let seen = ServerSecond {
        cores: match (from.cost, to.cost) {
            // Another process has begun to count anew.
            (Some((old, before)), Some((new, after))) if old == new => {
                Some(after.cpu_since(&before))
            }
            _ => None,
        },
        rss_bytes: to.cost.map(|(_, cost)| cost.rss_bytes),
        connections: to.connections,
        seats: to.seats,
    };
    let nothing = seen.rss_bytes.is_none() && seen.connections.is_none() && seen.seats.is_none();
    (!nothing).then_some(seen)
}

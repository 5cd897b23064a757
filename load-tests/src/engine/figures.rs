//! What a run found, under the names that thresholds use. What was not measured has no figure: it is absent, not zero.

mod steady;

use std::collections::BTreeMap;

use self::steady::Steady;
use super::{timeline::Timeline, watch::Look, worker::Done};
use crate::{
    fault::{Fault, Faults},
    outcome::{Outcome, Phase, Second},
    scenario::Scenario,
};

/// Clients that were later than this themselves have measured themselves.
const LATE_MS: f64 = 25.0;
/// For humans: a megabyte is a million.
const MEGA: f64 = 1e6;
/// Of an attempt that came to nothing: neither admitted, nor refused for good.
const NOT_REFUSED: [&str; 7] = [
    "admitted",
    "resumed",
    "failed",
    "rate_limited",
    "draining",
    "overloaded",
    "store_unavailable",
];

/// Everything that was found.
pub(super) struct Findings<'a> {
    pub scenario: &'a Scenario,
    pub looks: Vec<Look>,
    pub dones: Vec<Done>,
    pub faults: Faults,
    /// Lines that the server logged; `None`: its log cannot be read.
    pub warnings: Option<usize>,
    pub reaped: Option<usize>,
    pub server: String,
    pub load: String,
}

type Figures = BTreeMap<String, f64>;

impl Findings<'_> {
    /// All of it.
    pub(super) fn outcome(mut self, timeline: &Timeline<'_>) -> Outcome {
        let processes = self.dones.len();
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for done in std::mem::take(&mut self.dones) {
            self.faults.merge(done.faults);
            for (what, count) in done.counts {
                *counts.entry(what).or_default() += count;
            }
        }
        let seconds = timeline.all(&self.looks);
        let mut figures = Figures::new();
        steps(timeline, &mut figures);
        entries(timeline, &seconds, &mut figures);
        self.counts(&counts, &mut figures);
        self.server(&seconds, &mut figures);
        self.faults(&counts, &mut figures);
        let traffic = timeline.traffic();
        let received = traffic.0.values();
        figures.insert(
            "bytes_received".to_owned(),
            received.map(|one| one.bytes as f64).sum(),
        );
        Outcome {
            scenario: self.scenario.name.clone(),
            about: self.scenario.about.clone(),
            conditions: self.conditions(processes, &figures),
            steps: timeline
                .steps
                .iter()
                .map(|(step, latency)| (step.name().to_owned(), latency.summary()))
                .collect(),
            traffic,
            phases: self.phases(),
            timeline: seconds,
            faults: self.faults,
            figures,
        }
    }

    fn conditions(&self, processes: usize, figures: &Figures) -> Vec<String> {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let load: Vec<&str> = self.load.split(' ').take(3).collect();
        let people: usize = self
            .scenario
            .populations
            .iter()
            .map(|one| one.clients)
            .sum();
        let mut conditions = vec![
            format!("server: {}", self.server),
            format!("machine: {cores} cores, load before {}", load.join(" ")),
            format!("clients: {people} people in {processes} process(es)"),
        ];
        let lag = figures
            .get("client_lag_p99_ms")
            .copied()
            .unwrap_or_default();
        if lag > LATE_MS {
            conditions.push(format!(
                "the clients were late themselves (p99 {lag:.0} ms): latencies near that say nothing about the server"
            ));
        }
        conditions
    }

    fn phases(&self) -> Vec<Phase> {
        let phase = |(at, phase): (usize, &crate::scenario::Phase)| {
            let span = self.scenario.span(at);
            Phase {
                name: phase.name.clone(),
                from_s: span.start.as_secs_f64(),
                to_s: span.end.as_secs_f64(),
            }
        };
        self.scenario.phases.iter().enumerate().map(phase).collect()
    }

    fn counts(&self, counts: &BTreeMap<String, u64>, figures: &mut Figures) {
        let of = |what: &str| counts.get(what).copied().unwrap_or_default() as f64;
        let floods = !self.scenario.floods.is_empty();
        for (what, is_known) in [
            ("rosters_compared", true),
            ("rosters_never_still", true),
            ("rooms_unchecked", true),
            ("dates_compared", true),
            ("rate_limited", true),
            ("too_slow", true),
            ("flood_attempts", floods),
            ("flood_answered", floods),
        ] {
            if is_known {
                figures.insert(what.to_owned(), of(what));
            }
        }
        if let Some(reaped) = self.reaped {
            figures.insert("reaped_rooms".to_owned(), reaped as f64);
        }
    }

    fn faults(&self, counts: &BTreeMap<String, u64>, figures: &mut Figures) {
        let compared = |what| counts.get(what).is_some_and(|count| *count > 0);
        for (fault, name) in Fault::ALL {
            let is_known = match fault {
                Fault::Ghost => compared("rosters_compared") || self.faults.count(fault) > 0,
                Fault::Misdated => compared("dates_compared") || self.faults.count(fault) > 0,
                Fault::Logged | Fault::Unclean => {
                    self.warnings.is_some() || self.faults.count(fault) > 0
                }
                Fault::Kept | Fault::Asked | Fault::Leaked => false,
                _ => true,
            };
            if is_known {
                figures.insert(name.to_owned(), self.faults.count(fault) as f64);
            }
        }
        let wrong = [Fault::Refused, Fault::Misjudged].map(|fault| self.faults.count(fault));
        figures.insert(
            "wrong_refusals".to_owned(),
            wrong.iter().sum::<u64>() as f64,
        );
        figures.insert("faults".to_owned(), self.faults.total() as f64);
        if let Some(warnings) = self.warnings {
            figures.insert("warnings_logged".to_owned(), warnings as f64);
        }
    }

    fn server(&self, seconds: &[Second], figures: &mut Figures) {
        let seen = || seconds.iter().filter_map(|second| second.server);
        let most = |value: &mut dyn Iterator<Item = f64>| {
            value.fold(None, |most: Option<f64>, one| {
                Some(most.unwrap_or(one).max(one))
            })
        };
        let rss = most(
            &mut seen()
                .filter_map(|one| one.rss_bytes)
                .map(|bytes| bytes as f64 / MEGA),
        );
        let cores = most(&mut seen().filter_map(|one| one.cores));
        let clients = most(&mut seconds.iter().map(|second| second.client_cores));
        let steady = self.steady(seconds);
        for (name, value) in [
            ("server_rss_mb", rss),
            ("server_cores_peak", cores),
            ("client_cores_peak", clients),
            (
                "bytes_per_connection",
                steady.as_ref().and_then(Steady::bytes_per_connection),
            ),
            (
                "cpu_us_per_heartbeat",
                steady.as_ref().and_then(Steady::cpu_us_per_heartbeat),
            ),
        ] {
            if let Some(value) = value {
                figures.insert(name.to_owned(), value);
            }
        }
    }

    /// The whole seconds of the last steady phase.
    fn steady<'b>(&'b self, seconds: &'b [Second]) -> Option<Steady<'b>> {
        let at = self
            .scenario
            .phases
            .iter()
            .rposition(|phase| phase.steady)?;
        let span = self.scenario.span(at);
        let from = span.start.as_secs_f64().ceil() as usize;
        let to = span.end.as_secs() as usize;
        Some(Steady {
            before: self.looks.first()?,
            looks: self.looks.get(from..=to)?,
            seconds: seconds.get(from..to)?,
        })
    }
}

fn steps(timeline: &Timeline<'_>, figures: &mut Figures) {
    for (step, latency) in &timeline.steps {
        let summary = latency.summary();
        let name = step.name();
        figures.insert(format!("{name}_p50_ms"), summary.p50_ms);
        figures.insert(format!("{name}_p99_ms"), summary.p99_ms);
        figures.insert(format!("{name}_max_ms"), summary.max_ms);
        figures.insert(format!("{name}_count"), summary.count as f64);
        if let Some(p999) = latency.quantile_ms(0.999) {
            figures.insert(format!("{name}_p999_ms"), p999);
        }
    }
    let lag = timeline.lag.summary();
    if lag.count > 0 {
        figures.insert("client_lag_p99_ms".to_owned(), lag.p99_ms);
        figures.insert("client_lag_max_ms".to_owned(), lag.max_ms);
    }
}

fn entries(timeline: &Timeline<'_>, seconds: &[Second], figures: &mut Figures) {
    let all = timeline.entries();
    let of = |outcome: &str| all.get(outcome).copied().unwrap_or_default() as f64;
    let refused = all
        .iter()
        .filter(|(code, _)| !NOT_REFUSED.contains(&code.as_str()));
    let refused: u64 = refused.map(|(_, count)| *count).sum();
    let sent_away = NOT_REFUSED[3..].iter().filter_map(|code| all.get(*code));
    let sent_away: u64 = sent_away.sum();
    let joins = seconds
        .iter()
        .map(|second| second.entries.get("admitted").copied().unwrap_or_default());
    let open = || seconds.iter().map(|second| second.connections);
    for (name, value) in [
        ("admitted", of("admitted")),
        ("resumed", of("resumed")),
        ("refused", refused as f64),
        ("sent_away", sent_away as f64),
        ("failed_attempts", of("failed")),
        // In the second with the most.
        ("joins_per_second", joins.max().unwrap_or_default() as f64),
        ("connections_peak", open().max().unwrap_or_default() as f64),
        (
            "connections_end",
            open().next_back().unwrap_or_default() as f64,
        ),
    ] {
        figures.insert(name.to_owned(), value);
    }
}

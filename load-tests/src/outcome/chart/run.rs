//! The charts of a run. One that has nothing to show is left out.

use std::collections::{BTreeMap, BTreeSet};

use super::{Chart, Curve, Ink, Scale, thin::thin};
use crate::{
    measure::latency::Summary,
    outcome::{Judged, Second, ServerSecond, Verdict},
};

/// The charts of a run.
#[derive(Debug)]
pub(in crate::outcome) struct Charts {
    /// As wide as the page, one above the other, so that a moment is at the same place in each.
    pub(in crate::outcome) wide: Vec<Chart>,
    /// Latencies, step by step.
    pub(in crate::outcome) steps: Vec<Chart>,
    /// The end of the run, which all have in common.
    pub(in crate::outcome) until: f64,
}

/// The charts of a run.
pub(in crate::outcome) fn of(judged: &Judged) -> Charts {
    let outcome = &judged.outcome;
    let timeline = thin(&outcome.timeline);
    let ends = outcome.phases.iter().map(|phase| phase.to_s);
    let until = ends.chain(timeline.last().map(|second| second.at_s));
    let wide = [
        connections(&timeline),
        entries(&timeline),
        frames(&timeline),
        cores(&timeline),
        memory(&timeline),
    ];
    Charts {
        wide: wide.into_iter().filter_map(seen).collect(),
        steps: steps(&timeline, &judged.verdicts),
        until: until.fold(1.0, f64::max),
    }
}

fn seen(mut chart: Chart) -> Option<Chart> {
    chart.curves.retain(Curve::is_seen);
    (!chart.curves.is_empty()).then_some(chart)
}

fn connections(timeline: &[Second]) -> Chart {
    let server = |second: &Second| from(second, |server| server.connections.map(|n| n as f64));
    let seats = |second: &Second| from(second, |server| server.seats.map(|n| n as f64));
    let clients = |second: &Second| second.connections as f64;
    Chart {
        curves: vec![
            curve("seats, by the server’s count", Ink::Violet, timeline, seats),
            curve("by the clients’ count", Ink::Blue, timeline, clients),
            curve("by the server’s count", Ink::Server, timeline, server),
        ],
        ..chart("Connections", "")
    }
}

fn entries(timeline: &[Second]) -> Chart {
    const INKS: [Ink; 5] = [Ink::Red, Ink::Orange, Ink::Violet, Ink::Pink, Ink::Slate];
    let names = by_size(timeline, |second| &second.entries);
    let (admitted, others) = names
        .into_iter()
        .partition::<Vec<_>, _>(|name| name == "admitted");
    let inks = [Ink::Green].into_iter().take(admitted.len());
    let names = admitted.into_iter().chain(others);
    let inks = inks.chain(INKS.into_iter().cycle());
    Chart {
        stacked: true,
        curves: stack(timeline, names.zip(inks), |second| &second.entries),
        ..chart("Attempts to enter, by what came of them", "a second")
    }
}

fn frames(timeline: &[Second]) -> Chart {
    const INKS: [Ink; 7] = [
        Ink::Blue,
        Ink::Teal,
        Ink::Violet,
        Ink::Orange,
        Ink::Pink,
        Ink::Green,
        Ink::Slate,
    ];
    let names = by_size(timeline, |second| &second.frames).into_iter();
    let inks = INKS.into_iter().cycle();
    Chart {
        stacked: true,
        curves: stack(timeline, names.zip(inks), |second| &second.frames),
        ..chart("Frames received by clients, by kind", "a second")
    }
}

fn cores(timeline: &[Second]) -> Chart {
    let server = |second: &Second| from(second, |server| server.cores);
    Chart {
        curves: vec![
            curve("server", Ink::Orange, timeline, server),
            curve("clients", Ink::Blue, timeline, |second| second.client_cores),
        ],
        note: Some(
            "Where the clients use all the cores they have, they are what was measured, not the server.",
        ),
        ..chart("Processor time", "cores")
    }
}

fn memory(timeline: &[Second]) -> Chart {
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let memory = |second: &Second| from(second, |server| server.rss_bytes.map(mebibytes));
    Chart {
        curves: vec![curve("resident", Ink::Orange, timeline, memory)],
        ..chart("Server memory", "MiB")
    }
}

fn steps(timeline: &[Second], verdicts: &[Verdict]) -> Vec<Chart> {
    let names = timeline.iter().flat_map(|second| second.steps.keys());
    let names: BTreeSet<_> = names.collect();
    let charts = names.into_iter().map(|name| Chart {
        scale: Scale::Log,
        limits: limits(name, verdicts),
        ..step(name, timeline)
    });
    charts.filter_map(seen).collect()
}

fn step(name: &str, timeline: &[Second]) -> Chart {
    let of = |second: &Second, value: fn(&Summary) -> f64| {
        let summary = second.steps.get(name).filter(|summary| summary.count > 0);
        summary.map_or(f64::NAN, value)
    };
    let line = |label, ink, value: fn(&Summary) -> f64| {
        curve(label, ink, timeline, |second| of(second, value))
    };
    Chart {
        title: name.replace('_', " "),
        curves: vec![
            line("max", Ink::Slate, |summary| summary.max_ms),
            line("p99", Ink::Blue, |summary| summary.p99_ms),
            line("p50", Ink::Teal, |summary| summary.p50_ms),
        ],
        ..chart("", "ms")
    }
}

/// The thresholds of a step's latencies: those of `heartbeat_p99_ms` are drawn where heartbeats are.
fn limits(step: &str, verdicts: &[Verdict]) -> Vec<(String, f64)> {
    let thresholds = verdicts.iter().map(|verdict| &verdict.threshold);
    let limits = thresholds.filter_map(|threshold| {
        let part = threshold.figure.strip_prefix(step)?.strip_prefix('_')?;
        let part = part.strip_suffix("_ms")?;
        let known = matches!(part, "p50" | "p99" | "max") && threshold.bound > 0.0;
        let words = format!("{part} {} {}", threshold.operator, threshold.bound);
        known.then_some((words, threshold.bound))
    });
    limits.collect()
}

fn chart(title: &str, unit: &'static str) -> Chart {
    Chart {
        title: title.to_owned(),
        unit,
        note: None,
        scale: Scale::Linear,
        stacked: false,
        curves: Vec::new(),
        limits: Vec::new(),
    }
}

fn curve(name: &str, ink: Ink, timeline: &[Second], value: impl Fn(&Second) -> f64) -> Curve {
    Curve {
        name: name.to_owned(),
        ink,
        points: timeline
            .iter()
            .map(|second| (second.at_s, value(second)))
            .collect(),
    }
}

fn from(second: &Second, value: impl Fn(ServerSecond) -> Option<f64>) -> f64 {
    second.server.and_then(value).unwrap_or(f64::NAN)
}

/// The names that occur, the most frequent first.
fn by_size(timeline: &[Second], of: fn(&Second) -> &BTreeMap<String, u64>) -> Vec<String> {
    let mut sums = BTreeMap::<&String, u64>::new();
    for (name, count) in timeline.iter().flat_map(of) {
        *sums.entry(name).or_default() += count;
    }
    let mut names: Vec<_> = sums.into_iter().filter(|(_, sum)| *sum > 0).collect();
    names.sort_by_key(|(_, sum)| std::cmp::Reverse(*sum));
    names.into_iter().map(|(name, _)| name.clone()).collect()
}

/// Curves that stand upon each other: each has the sum of its own and all before.
fn stack(
    timeline: &[Second],
    names: impl Iterator<Item = (String, Ink)>,
    of: fn(&Second) -> &BTreeMap<String, u64>,
) -> Vec<Curve> {
    let mut sums = vec![0.0; timeline.len()];
    let curve = |(name, ink): (String, Ink)| {
        for (sum, second) in sums.iter_mut().zip(timeline) {
            *sum += of(second).get(&name).copied().unwrap_or(0) as f64;
        }
        let points = timeline.iter().zip(&sums);
        let points = points.map(|(second, sum)| (second.at_s, *sum));
        Curve {
            points: points.collect(),
            name,
            ink,
        }
    };
    names.map(curve).collect()
}

//! The charts of a run. One that has nothing to show is left out.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Chart, Curve, Ink, Scale,
    thin::{seconds_each, thin},
};
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
    /// How many seconds a point stands for.
    pub(in crate::outcome) seconds_each: usize,
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
        seconds_each: seconds_each(&outcome.timeline),
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
    let of: Counts = |second| &second.entries;
    let (admitted, problems): (Vec<_>, Vec<_>) = by_size(timeline, of)
        .into_iter()
        .partition(|name| name == "admitted");
    let admitted = admitted.into_iter().map(|name| (vec![name], Ink::Green));
    Chart {
        stacked: true,
        curves: stack(timeline, admitted.chain(inked(&problems, &INKS)), of),
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
    let of: Counts = |second| &second.frames;
    let names = by_size(timeline, of);
    Chart {
        stacked: true,
        curves: stack(timeline, inked(&names, &INKS), of),
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

/// Which counts of a second.
type Counts = fn(&Second) -> &BTreeMap<String, u64>;

/// The names that occur, the most frequent first.
fn by_size(timeline: &[Second], of: Counts) -> Vec<String> {
    let mut sums = BTreeMap::<&String, u64>::new();
    for (name, count) in timeline.iter().flat_map(of) {
        *sums.entry(name).or_default() += count;
    }
    let mut names: Vec<_> = sums.into_iter().filter(|(_, sum)| *sum > 0).collect();
    names.sort_by_key(|(_, sum)| std::cmp::Reverse(*sum));
    names.into_iter().map(|(name, _)| name.clone()).collect()
}

/// A colour for each, and the last for all that are left, since two of one colour could not be told apart.
fn inked(names: &[String], inks: &[Ink]) -> impl Iterator<Item = (Vec<String>, Ink)> + use<> {
    let alone = match names.len() {
        few if few <= inks.len() => few,
        _ => inks.len() - 1,
    };
    let (alone, left) = names.split_at(alone);
    let groups = alone.iter().map(|name| vec![name.clone()]);
    let groups: Vec<_> = groups.chain([left.to_vec()]).collect();
    let groups = groups.into_iter().filter(|group| !group.is_empty());
    groups.zip(inks.to_vec())
}

/// Curves that stand upon each other: each has the sum of its own and all before.
fn stack(
    timeline: &[Second],
    groups: impl Iterator<Item = (Vec<String>, Ink)>,
    of: Counts,
) -> Vec<Curve> {
    let mut sums = vec![0.0; timeline.len()];
    let curve = |(names, ink): (Vec<String>, Ink)| {
        for (sum, second) in sums.iter_mut().zip(timeline) {
            let counts = names.iter().filter_map(|name| of(second).get(name));
            *sum += counts.sum::<u64>() as f64;
        }
        let points = timeline.iter().zip(&sums);
        let points = points.map(|(second, sum)| (second.at_s, *sum));
        Curve {
            points: points.collect(),
            name: label(names),
            ink,
        }
    };
    groups.map(curve).collect()
}

fn label(names: Vec<String>) -> String {
    match <[String; 1]>::try_from(names) {
        Ok([name]) => name,
        Err(names) => format!("{} others", names.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacked_curves_are_sums_and_no_two_have_one_colour() {
        let names: Vec<_> = (1..=9).map(|at| format!("kind_{at}")).collect();
        let counts = names
            .iter()
            .zip(1..)
            .map(|(name, count)| (name.clone(), count));
        let second = Second {
            frames: counts.collect(),
            ..Second::default()
        };
        let chart = frames(&[second]);
        let heights = chart.curves.iter().map(|curve| curve.points[0].1);
        let heights: Vec<_> = heights.collect();
        assert_eq!(heights, [9.0, 17.0, 24.0, 30.0, 35.0, 39.0, 45.0]);
        assert_eq!(chart.curves[0].name, "kind_9");
        assert_eq!(chart.curves[6].name, "3 others");
    }

    #[test]
    fn a_threshold_is_drawn_where_its_step_is() {
        let verdict = |text| Verdict {
            threshold: crate::outcome::Threshold::parse(text).unwrap(),
            measured: None,
            passed: false,
            note: None,
        };
        let texts = [
            "heartbeat_p99_ms < 50",
            "heartbeats = 1",
            "join_seen_p50_ms <= 9",
        ];
        let verdicts = texts.map(verdict);
        let p99 = ("p99 < 50".to_owned(), 50.0);
        assert_eq!(limits("heartbeat", &verdicts), [p99]);
        assert_eq!(limits("join", &verdicts), []);
    }
}

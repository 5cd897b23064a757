//! Fewer seconds than a run had: beyond a point for every pixel, more only make the file larger.

use std::collections::BTreeMap;

use crate::{
    measure::latency::Summary,
    outcome::{Second, ServerSecond},
};

/// Points of a curve.
const POINTS: usize = 600;

/// How many seconds a point stands for.
pub(super) fn seconds_each(timeline: &[Second]) -> usize {
    timeline.len().div_ceil(POINTS).max(1)
}

/// The run in at most [`POINTS`] stretches: rates are averaged, of latencies the worst stays, else a spike would vanish.
pub(super) fn thin(timeline: &[Second]) -> Vec<Second> {
    let stretches = timeline.chunks(seconds_each(timeline));
    stretches.filter_map(together).collect()
}

fn together(seconds: &[Second]) -> Option<Second> {
    let (last, others) = seconds.split_last()?;
    if others.is_empty() {
        return Some(last.clone());
    }
    let many = seconds.len() as u64;
    Some(Second {
        at_s: last.at_s,
        connections: last.connections,
        entries: average(seconds.iter().map(|second| &second.entries), many),
        frames: average(seconds.iter().map(|second| &second.frames), many),
        sent: seconds.iter().map(|second| second.sent).sum::<u64>() / many,
        steps: worst(seconds),
        server: server(seconds),
        client_cores: seconds
            .iter()
            .map(|second| second.client_cores)
            .sum::<f64>()
            / many as f64,
    })
}

fn average<'a>(
    maps: impl Iterator<Item = &'a BTreeMap<String, u64>>,
    many: u64,
) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::<String, u64>::new();
    for (name, count) in maps.flatten() {
        *sums.entry(name.clone()).or_default() += count;
    }
    // Rounded up: what happened once in a stretch did happen.
    sums.values_mut().for_each(|sum| *sum = sum.div_ceil(many));
    sums
}

fn worst(seconds: &[Second]) -> BTreeMap<String, Summary> {
    let mut steps = BTreeMap::<String, Summary>::new();
    for (name, one) in seconds.iter().flat_map(|second| &second.steps) {
        let all = steps.entry(name.clone()).or_insert(*one);
        all.count += one.count;
        all.p50_ms = all.p50_ms.max(one.p50_ms);
        all.p99_ms = all.p99_ms.max(one.p99_ms);
        all.max_ms = all.max_ms.max(one.max_ms);
    }
    steps
}

/// Counts and memory as they were last; processor time averaged over the seconds that have it.
fn server(seconds: &[Second]) -> Option<ServerSecond> {
    let mut seen = seconds.iter().filter_map(|second| second.server);
    let cores: Vec<_> = seen.clone().filter_map(|server| server.cores).collect();
    let last = seen.next_back()?;
    let mean = cores.iter().sum::<f64>() / cores.len() as f64;
    Some(ServerSecond {
        cores: (!cores.is_empty()).then_some(mean),
        ..last
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(at: u32) -> Second {
        let p99_ms = if at == 1000 { 900.0 } else { 1.0 };
        let summary = Summary {
            count: 10,
            p50_ms: 0.5,
            p99_ms,
            max_ms: p99_ms,
        };
        Second {
            at_s: f64::from(at),
            connections: u64::from(at),
            frames: [("sync".to_owned(), 20)].into(),
            steps: [("heartbeat".to_owned(), summary)].into(),
            client_cores: 0.5,
            ..Second::default()
        }
    }

    #[test]
    fn a_short_run_stays_as_it_is() {
        let timeline: Vec<_> = (0..90).map(second).collect();
        assert_eq!(thin(&timeline).len(), 90);
        assert!(thin(&[]).is_empty());
    }

    #[test]
    fn a_spike_survives_and_rates_stay_rates() {
        let timeline: Vec<_> = (0..7200).map(second).collect();
        let thinned = thin(&timeline);
        assert_eq!(thinned.len(), POINTS);
        assert_eq!(thinned[POINTS - 1].connections, 7199);
        let spikes = thinned
            .iter()
            .filter(|second| second.steps["heartbeat"].p99_ms > 800.0);
        assert_eq!(spikes.count(), 1);
        assert!(thinned.iter().all(|second| second.frames["sync"] == 20));
        assert!(thinned.iter().all(|second| second.client_cores == 0.5));
    }
}

//! Writes the page of a run that never was, so that its looks can be worked on: `cargo run --example report -- OUT.html`.

use std::{collections::BTreeMap, env, path::PathBuf};

use rollcall_load::{
    fault::Fault,
    measure::latency::Summary,
    outcome::{Judged, Outcome, Phase, Second, ServerSecond, Threshold},
    tally::{Traffic, Traffics},
};

/// Clients that come within the first phase.
const CLIENTS: f64 = 15_000.0;
/// Seconds: of the first phase, until the last begins, of all.
const RAMP: f64 = 30.0;
const LEAVE: f64 = 75.0;
const END: f64 = 90.0;

fn main() -> anyhow::Result<()> {
    let file = env::args_os().nth(1).map(PathBuf::from);
    let thresholds = [
        "heartbeat_p99_ms < 50",
        "welcome_p99_ms < 500",
        "admitted >= 14_900",
        "ghosts = 0",
        "bytes_per_connection <= 12_000",
        "brodcast_p99_ms < 100",
    ];
    let thresholds = thresholds.map(Threshold::parse);
    let thresholds: Vec<_> = thresholds.into_iter().collect::<anyhow::Result<_>>()?;
    Judged::new(outcome(), &thresholds).publish(None, file.as_deref())
}

fn outcome() -> Outcome {
    let timeline: Vec<_> = (1..=END as u32).map(|at| second(at.into())).collect();
    let mut outcome = Outcome {
        scenario: "lecture-hall".to_owned(),
        about: "A whole year enters within half a minute, stays, and leaves when the bell rings."
            .to_owned(),
        conditions: vec![
            "server: rollcall 0.1.0, release build, one core, SQLite".to_owned(),
            "machine: 4 cores, 16 GiB, Linux 6.12; clients in 3 processes on the other cores"
                .to_owned(),
            "clients: 15,000 in 150 rooms of 100; a heartbeat every 15 s; 300 move a cursor"
                .to_owned(),
        ],
        steps: whole(&timeline),
        traffic: traffic(&timeline),
        phases: phases(),
        timeline,
        ..Outcome::default()
    };
    outcome.figures = figures(&outcome);
    let ghost = r#"room-117, 43.2 s: {"type":"presence","seq":812,"joins":[{"user":"<b>ada</b>"}]} though she left at 41.0 s"#;
    outcome.faults.add(Fault::Ghost, ghost);
    outcome
}

fn phases() -> Vec<Phase> {
    let phases = [
        ("ramp", 0.0, RAMP),
        ("hold", RAMP, LEAVE),
        ("everybody leaves", LEAVE, END),
    ];
    let phase = |(name, from_s, to_s): (&str, f64, f64)| Phase {
        name: name.to_owned(),
        from_s,
        to_s,
    };
    phases.map(phase).into()
}

fn second(at_s: f64) -> Second {
    let here = here(at_s);
    let arrivals = (here - self::here(at_s - 1.0)).max(0.0);
    let busy = 0.06 + here / 40_000.0 + arrivals / 1_200.0 + 0.5 * spike(at_s);
    let connections = here as u64;
    Second {
        at_s,
        connections,
        entries: entries(arrivals),
        frames: frames(at_s, here, arrivals),
        sent: (here / 15.0) as u64,
        steps: steps(at_s, arrivals),
        server: Some(ServerSecond {
            cores: Some(busy.min(0.99) + 0.02 * wobble(at_s, 1.0)),
            rss_bytes: Some((38_000_000.0 + 9_600.0 * here.max(9_000.0 * step(at_s))) as u64),
            connections: Some(connections.saturating_sub((40.0 * step(at_s)) as u64)),
            seats: Some((here + 1_100.0 * spike(at_s)) as u64),
        }),
        client_cores: 0.2 + here / 14_000.0 + arrivals / 900.0 + 0.05 * wobble(at_s, 2.0),
    }
}

/// How many are there: they come evenly, and leave quickly.
fn here(at: f64) -> f64 {
    match at {
        early if early < RAMP => CLIENTS * (early.max(0.0) / RAMP).powf(1.2),
        late if late > LEAVE => CLIENTS * (1.0 - ((late - LEAVE) / 12.0).min(1.0)).powi(2),
        _ => CLIENTS,
    }
}

/// Something slow in the middle of the run.
fn spike(at: f64) -> f64 {
    (-((at - 52.0) / 2.2).powi(2)).exp()
}

/// Noise that is the same every time.
fn wobble(at: f64, seed: f64) -> f64 {
    (at * 12.989 + seed * 78.233).sin() * (at * 3.7 + seed).cos()
}

fn step(at: f64) -> f64 {
    if at > RAMP { 1.0 } else { 0.0 }
}

fn entries(arrivals: f64) -> BTreeMap<String, u64> {
    let busy = (arrivals - 480.0).max(0.0) * 0.9;
    let counts = [
        ("admitted", arrivals),
        ("overloaded", busy),
        ("room_full", arrivals / 40.0),
    ];
    named(counts)
}

fn frames(at: f64, here: f64, arrivals: f64) -> BTreeMap<String, u64> {
    let counts = [
        ("welcome", arrivals),
        (
            "presence",
            2.2 * here * (1.0 + 0.1 * wobble(at, 3.0)) * (1.0 - 0.7 * step(at)),
        ),
        (
            "broadcast",
            0.9 * here * (1.0 - 0.6 * spike(at)) * (1.0 + 0.06 * wobble(at, 4.0)),
        ),
        ("heartbeat_ack", here / 15.0),
        ("sync", 900.0 * spike(at)),
    ];
    named(counts)
}

fn named<const N: usize>(counts: [(&str, f64); N]) -> BTreeMap<String, u64> {
    counts
        .map(|(name, count)| (name.to_owned(), count as u64))
        .into()
}

fn steps(at: f64, arrivals: f64) -> BTreeMap<String, Summary> {
    let slow = 1.0 + 60.0 * spike(at) + arrivals / 200.0;
    let entering = arrivals > 0.0;
    let steps = [
        ("connect", 1.1, entering),
        ("welcome", 4.0, entering),
        ("heartbeat", 0.6, true),
        ("broadcast", 1.4, true),
        ("join_seen", 14.0, entering),
    ];
    let seen = steps.into_iter().filter(|(_, _, seen)| *seen);
    let summary =
        |(name, usual, _): (&str, f64, bool)| (name.to_owned(), summary(at, usual * slow));
    seen.map(summary).collect()
}

fn summary(at: f64, p50_ms: f64) -> Summary {
    let p99_ms = p50_ms * (4.0 + 1.5 * wobble(at, p50_ms));
    Summary {
        count: 1_000,
        p50_ms: p50_ms * (1.0 + 0.1 * wobble(at, 5.0)),
        p99_ms,
        max_ms: p99_ms * (2.2 + wobble(at, 6.0)),
    }
}

fn whole(timeline: &[Second]) -> BTreeMap<String, Summary> {
    let mut steps = BTreeMap::<String, Summary>::new();
    for (name, one) in timeline.iter().flat_map(|second| &second.steps) {
        let all = steps.entry(name.clone()).or_insert(*one);
        all.count += one.count;
        all.p99_ms = all.p99_ms.max(0.6 * one.p99_ms);
        all.max_ms = all.max_ms.max(one.max_ms);
    }
    steps
}

fn traffic(timeline: &[Second]) -> Traffics {
    let mut traffics = Traffics::default();
    for (kind, count) in timeline.iter().flat_map(|second| &second.frames) {
        let bytes = if kind == "welcome" { 8_400 } else { 96 };
        let traffic: &mut Traffic = traffics.0.entry(kind.clone()).or_default();
        traffic.frames += count;
        traffic.bytes += count * bytes;
    }
    traffics
}

fn figures(outcome: &Outcome) -> BTreeMap<String, f64> {
    let entries = outcome.timeline.iter().map(|second| &second.entries);
    let admitted: u64 = entries.filter_map(|entries| entries.get("admitted")).sum();
    let mut figures = BTreeMap::from([
        ("admitted".to_owned(), admitted as f64),
        ("ghosts".to_owned(), 0.0),
        ("bytes_per_connection".to_owned(), 9_604.5),
    ]);
    for (step, summary) in &outcome.steps {
        figures.insert(format!("{step}_p50_ms"), summary.p50_ms);
        figures.insert(format!("{step}_p99_ms"), summary.p99_ms);
        figures.insert(format!("{step}_max_ms"), summary.max_ms);
    }
    figures
}

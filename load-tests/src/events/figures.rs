//! `figures`: what a connection, a heartbeat, a join and doing nothing cost the server, by the method of TARGETS.md,
//! section 1, and beside it in the same run what the floor costs (see [`crate::floor`]).

mod burst;
mod join_seen;
mod sitting;
mod subject;

use std::sync::Arc;

use self::{
    sitting::Sitting,
    subject::{Kind, Subject},
};
use crate::{
    options::FiguresOptions,
    report::{Report, Table, Target},
    tally::Tally,
};

const BYTES: Target = Target {
    reach: 4096.0,
    stretch: Some(2500.0),
};
const CPU_OF_FLOOR: Target = Target {
    reach: 1.25,
    stretch: Some(1.1),
};
const CPU_PER_JOIN: Target = Target {
    reach: 300.0,
    stretch: Some(150.0),
};
const IDLE: Target = Target {
    reach: 0.5,
    stretch: Some(0.1),
};
const JOIN_SEEN: Target = Target {
    reach: 3.0,
    stretch: Some(1.5),
};

/// Everything of one round, of one kind of server.
#[derive(Debug, Default)]
struct Found {
    sittings: Vec<Sitting>,
    bursts: Vec<f64>,
    joins_seen: Vec<f64>,
}

pub(super) async fn measure(options: &FiguresOptions) -> anyhow::Result<Report> {
    let tally = Arc::new(Tally::default());
    let subject = Subject::start(Kind::Rollcall, &options.common, &[]).await?;
    let title = format!(
        "figures: {:?} connections, rooms of {}, medians of {} rounds",
        options.connections, options.room, options.rounds
    );
    let mut report = super::report(title, &subject.flags());
    subject.end(&tally).await?;
    let (mut ours, mut floor) = (Found::default(), Found::default());
    for _ in 0..options.rounds {
        for connections in &options.connections {
            if !options.alone {
                floor
                    .sit(Kind::Floor, *connections, options, &tally)
                    .await?;
            }
            ours.sit(Kind::Rollcall, *connections, options, &tally)
                .await?;
        }
        if !options.alone {
            floor
                .bursts
                .push(burst::measure(Kind::Floor, options, &tally).await?);
            ours.bursts
                .push(burst::measure(Kind::Rollcall, options, &tally).await?);
        }
        ours.joins_seen
            .push(join_seen::measure(options, &tally).await?);
    }
    for connections in &options.connections {
        tell(&mut report, *connections, &ours, &floor);
    }
    tell_rest(&mut report, &ours, &floor);
    report.table_of(growth(options, &ours, &floor));
    report.faults(tally.faults());
    Ok(report)
}

impl Found {
    async fn sit(
        &mut self,
        kind: Kind,
        connections: usize,
        options: &FiguresOptions,
        tally: &Tally,
    ) -> anyhow::Result<()> {
        let subject = Subject::start(kind, &options.common, &[]).await?;
        let sitting = sitting::measure(&subject, connections, options, tally).await?;
        subject.end(tally).await?;
        self.sittings.push(sitting);
        Ok(())
    }

    /// Something in each round of a size, in order.
    fn each(&self, connections: usize, figure: impl Fn(&Sitting) -> f64) -> Vec<f64> {
        let sittings = self.sittings.iter();
        let of_size = sittings.filter(|sitting| sitting.connections == connections);
        of_size.map(figure).collect()
    }

    /// The median of something over the rounds of a size; NaN if there was none.
    fn median(&self, connections: usize, figure: impl Fn(&Sitting) -> f64) -> f64 {
        median(self.each(connections, figure))
    }
}

fn tell(report: &mut Report, connections: usize, ours: &Found, floor: &Found) {
    let heartbeat =
        |found: &Found| found.median(connections, |sitting| sitting.cpu_us_per_heartbeat);
    let each = |found: &Found| found.each(connections, |sitting| sitting.cpu_us_per_heartbeat);
    let bytes = |found: &Found| found.median(connections, |sitting| sitting.bytes_per_connection);
    report.aimed(
        format!("{connections}: bytes a connection"),
        bytes(ours),
        "",
        BYTES,
    );
    report.figure("… processor time a heartbeat", heartbeat(ours), "µs");
    if !floor.sittings.is_empty() {
        report.figure("… the floor: bytes a connection", bytes(floor), "");
        report.figure(
            "… the floor: processor time a heartbeat",
            heartbeat(floor),
            "µs",
        );
        let ratio = ratio(each(ours), each(floor));
        report.aimed(
            "… a heartbeat, against the floor's",
            ratio,
            "×",
            CPU_OF_FLOOR,
        );
    }
    let join = ours.median(connections, |sitting| sitting.cpu_us_per_join);
    report.aimed(
        "… processor time a connect and join",
        join,
        "µs",
        CPU_PER_JOIN,
    );
    report.figure(
        "… joins a second",
        ours.median(connections, |sitting| sitting.joins_per_second),
        "",
    );
    let idle = ours.median(connections, |sitting| sitting.idle_percent);
    report.aimed("… nothing to do: of one core", idle, "%", IDLE);
}

fn tell_rest(report: &mut Report, ours: &Found, floor: &Found) {
    let burst = |found: &Found| median(found.bursts.clone());
    if !ours.bursts.is_empty() {
        report.figure(
            "burst of 200: round trips a processor second",
            burst(ours),
            "",
        );
        report.figure("… the floor", burst(floor), "");
        report.figure(
            "… against the floor's (reach 0.8, stretch 0.95)",
            ratio(ours.bursts.clone(), floor.bursts.clone()),
            "×",
        );
    }
    let seen = median(ours.joins_seen.clone());
    report.aimed("a join seen by all 8 members, p50", seen, "ms", JOIN_SEEN);
}

fn growth(options: &FiguresOptions, ours: &Found, floor: &Found) -> Table {
    let row = |connections: &usize| {
        let of = |found: &Found, figure: fn(&Sitting) -> f64| found.median(*connections, figure);
        vec![
            *connections as f64,
            of(ours, |sitting| sitting.bytes_per_connection),
            of(ours, |sitting| sitting.cpu_us_per_heartbeat),
            of(ours, |sitting| sitting.cpu_us_per_join),
            of(ours, |sitting| sitting.flush_ms),
            of(floor, |sitting| sitting.bytes_per_connection),
            of(floor, |sitting| sitting.cpu_us_per_heartbeat),
        ]
    };
    Table {
        head: vec![
            "connections",
            "bytes each",
            "µs/heartbeat",
            "µs/join",
            "ms/flush",
            "floor bytes",
            "floor µs/hb",
        ],
        rows: options.connections.iter().map(row).collect(),
    }
}

/// The median of the rounds' own ratios: what else the machine does changes from round to round, and less within one.
fn ratio(ours: Vec<f64>, floor: Vec<f64>) -> f64 {
    let rounds = ours.into_iter().zip(floor);
    median(rounds.map(|(ours, floor)| ours / floor).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

//! `drop`: nearly all connections are lost in one instant. Do strangers get in, do the rest notice, is everybody told right?

use std::{collections::HashSet, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use super::MEGA;
use crate::{
    measure::{lag::Lag, process::Cost, sampler::Sampler},
    options::DropOptions,
    population::{PROBE_HOST, Population},
    probe::Prober,
    report::{Report, Target},
    roster::Id,
    wire::Route,
};

/// TARGETS.md, section 1.
const ACCEPT_STALL: Target = Target {
    reach: 100.0,
    stretch: Some(20.0),
};
/// How long after the grace the last may be told.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the server is asked whether it has noticed.
const LOOK: Duration = Duration::from_millis(20);

pub(super) async fn measure(options: &DropOptions) -> anyhow::Result<Report> {
    let flags = [
        "--reconnect-grace".to_owned(),
        format!("{}ms", options.grace.as_millis()),
    ];
    let mut people = Population::connect(&options.common, options.connections, &flags).await?;
    let (kept, lost) = (people.kept(), people.lost());
    let mut report = super::report(
        format!("drop: {lost} of {} in one instant", kept + lost),
        &people.server.flags(),
    );
    let gone: HashSet<Id> = people
        .lost
        .iter()
        .flat_map(|lost| &lost.held)
        .filter_map(|held| Id::read(&held.participant))
        .collect();

    let invite = people.make_anteroom().await?;
    let route = Route::local(people.server.addr(), PROBE_HOST);
    let watch = Watch {
        prober: Prober::begin(
            route,
            Some(format!("invite={invite}&name=stranger")),
            &people.tally,
        ),
        sampler: Sampler::watch(people.server.process()),
        lag: Lag::watch(),
    };
    let began = watch.sampler.now()?;
    sleep(options.common.steady).await;
    let before = watch.close(&mut report, &people, "before", began)?;
    report.figure(
        "server memory, all connected",
        before.rss_bytes as f64 / MEGA,
        "MB",
    );
    let each = before.growth_since(&people.empty) / (kept + lost) as f64;
    report.figure("… a connection", each, "bytes");

    let dropped = people.drop_lost().await?;
    report.figure(
        "the holders' sockets closed within",
        millis(dropped.elapsed()),
        "ms",
    );
    while people.api.metrics().await?.ended("hangup") < lost as u64 && dropped.elapsed() < PATIENCE
    {
        sleep(LOOK).await;
    }
    report.figure(
        "the server knew of all of them after",
        millis(dropped.elapsed()),
        "ms",
    );
    sleep_until(dropped + options.grace.mul_f64(0.9)).await;
    let stall = watch.prober.accepts().summary().max_ms;
    report.aimed(
        "longest stall of an accept, dropping",
        stall,
        "ms",
        ACCEPT_STALL,
    );
    let seen = watch.close(&mut report, &people, "dropped", before)?;

    people
        .await_rosters(|room| room.kept, options.grace + PATIENCE)
        .await;
    let last = people
        .kept
        .seats()
        .iter()
        .map(|seat| seat.view.lock().moves().1)
        .max();
    let convergence = last
        .unwrap_or(dropped)
        .saturating_duration_since(dropped + options.grace);
    report.figure(
        "… after the grace, until the last was told",
        millis(convergence),
        "ms",
    );
    sleep_until(Instant::now() + options.common.steady.min(Duration::from_secs(1))).await;
    let stall = watch.prober.accepts().summary().max_ms;
    report.aimed(
        "longest stall of an accept, graces ending",
        stall,
        "ms",
        ACCEPT_STALL,
    );
    let told = watch.close(&mut report, &people, "graces end", seen)?;

    sleep(options.common.steady).await;
    let after = watch.close(&mut report, &people, "after", told)?;
    report.figure("server memory after", after.rss_bytes as f64 / MEGA, "MB");
    report.samples(watch.sampler.samples());
    drop(watch);
    people.check_rosters().await?;
    people.check_store(&gone).await?;
    let tally = people.tally.clone();
    report.figure("warnings logged", people.end().await? as f64, "");
    report.faults(tally.faults());
    Ok(report)
}

/// Everything that goes on while something happens.
struct Watch {
    prober: Prober,
    sampler: Sampler,
    lag: Lag,
}

impl Watch {
    /// Closes a chapter: what strangers and the kept waited, and what it cost the server.
    fn close(
        &self,
        report: &mut Report,
        people: &Population,
        chapter: &str,
        since: Cost,
    ) -> anyhow::Result<Cost> {
        report.latency(
            format!("{chapter}: connect to healthz"),
            self.prober.accepts().take(),
        );
        report.latency(
            format!("{chapter}: connect to welcome"),
            self.prober.joins().take(),
        );
        report.latency(
            format!("{chapter}: heartbeat of the others"),
            people.tally.acks.take(),
        );
        report.latency(
            format!("{chapter}: (lag of this program)"),
            self.lag.late().take(),
        );
        let now = self.sampler.now()?;
        report.figure(
            format!("server processor time, {chapter}"),
            now.cpu_since(&since),
            "s",
        );
        Ok(now)
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

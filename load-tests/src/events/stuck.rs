//! `stuck`: clients in a busy room that never read. What do they cost, and do the others notice (rule R8)?

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::MEGA;
use crate::{
    api::Api,
    client::{Arrival, Client},
    crowd::{Crowd, Pace, Ticket},
    fault::{Fault, Faults},
    measure::{lag::Lag, sampler::Sampler},
    options::StuckOptions,
    population::{Names, PROBE_HOST},
    report::Report,
    script::Script,
    server::Server,
    tally::Tally,
    wire::Route,
};

/// The least that Linux gives (it doubles what it is asked for).
const RECEIVE_BUFFER: u32 = 1152;
/// Everybody sends heartbeats; a fifth move a cursor; the rest turn pages.
const HEARTBEAT: Option<Duration> = Some(Duration::from_secs(1));
const CURSOR: Duration = Duration::from_millis(50);
const UPDATE: Duration = Duration::from_secs(1);
/// How long people may take to come, to be told, and to catch up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the server is asked whom it has closed.
const LOOK: Duration = Duration::from_millis(100);

/// The busy room.
struct Scene {
    server: Server,
    api: Api,
    tally: Arc<Tally>,
    movers: Crowd,
    others: Crowd,
    query: String,
    sampler: Sampler,
    lag: Lag,
    size: usize,
}

pub(super) async fn measure(options: &StuckOptions) -> anyhow::Result<Report> {
    let server = Server::start(&options.common, &[]).await?;
    let title = format!(
        "stuck: a busy room of {}, and {:?} who never read",
        options.connections, options.never_read
    );
    let mut report = super::report(title, &server.flags());
    let mut scene = Scene::set(server, options.connections).await?;
    scene
        .absent(&mut report, "none", options.common.steady)
        .await;
    for &count in &options.never_read {
        let quiet = Instant::now();
        scene
            .absent(&mut report, "none", options.common.steady)
            .await;
        let usual = (
            scene.sampler.typical_rss_since(quiet),
            scene.sampler.typical_tcp_since(quiet),
        );
        scene
            .present(&mut report, count, options.stretch, usual)
            .await?;
    }
    scene
        .absent(&mut report, "none", options.common.steady)
        .await;
    scene.end(&mut report).await?;
    Ok(report)
}

impl Scene {
    async fn set(server: Server, size: usize) -> anyhow::Result<Self> {
        let mut api = Api::connect(server.addr()).await?;
        let names = Names::default();
        let invite = api.make_room(&names.room(0)).await?;
        let tally = Arc::new(Tally::default());
        let tickets: Vec<Ticket> = (0..size)
            .map(|at| Ticket {
                room: 0,
                query: names.guest(&invite, at),
            })
            .collect();
        let (movers, others) = tickets.split_at(size / 5);
        let gather = |tickets: &[Ticket], script| {
            let routes = vec![Route::local(server.addr(), 2)];
            Crowd::gather(routes, tickets.to_vec(), Pace::Abreast(8), script, &tally)
        };
        let movers = gather(
            movers,
            Script {
                heartbeat: HEARTBEAT,
                cursor: Some(CURSOR),
                update: None,
            },
        );
        let others = gather(
            others,
            Script {
                heartbeat: HEARTBEAT,
                cursor: None,
                update: Some(UPDATE),
            },
        );
        movers.settled(PATIENCE).await;
        others.settled(PATIENCE).await;
        let (sampler, lag) = (Sampler::watch(server.process()), Lag::watch());
        let query = format!("invite={invite}&name=stuck");
        let scene = Self {
            server,
            api,
            tally,
            movers,
            others,
            query,
            sampler,
            lag,
            size,
        };
        scene.await_occupancy(size).await;
        Ok(scene)
    }

    /// A stretch with nobody stuck.
    async fn absent(&self, report: &mut Report, who: &str, stretch: Duration) {
        self.begin();
        sleep(stretch).await;
        self.close(report, who);
    }

    /// A stretch with some who never read, which ends with their reading what there is.
    async fn present(
        &mut self,
        report: &mut Report,
        count: usize,
        stretch: Duration,
        usual: (u64, u64),
    ) -> anyhow::Result<()> {
        let closed_before = self.api.metrics().await?.ended("too_slow");
        let route = Route {
            receive_buffer: Some(RECEIVE_BUFFER),
            ..Route::local(self.server.addr(), PROBE_HOST)
        };
        let mut stuck = Vec::new();
        for _ in 0..count {
            match Client::enter(&route, &self.query, &self.tally).await? {
                Arrival::In(client) => stuck.push(client),
                refused => anyhow::bail!("{refused:?}"),
            }
        }
        self.begin();
        let began = Instant::now();
        let mut closed_after = None;
        while began.elapsed() < stretch && closed_after.is_none() {
            sleep(LOOK).await;
            let closed = self.api.metrics().await?.ended("too_slow") - closed_before;
            closed_after = (closed >= count as u64).then(|| began.elapsed());
        }
        let peak = (
            self.sampler.peak_rss_since(began),
            self.sampler.peak_tcp_since(began),
        );
        self.close(report, &format!("{count} never read"));
        let each = |peak: u64, usual: u64| (peak as f64 - usual as f64) / count as f64;
        report.figure(
            format!("server memory for each of {count}"),
            each(peak.0, usual.0),
            "bytes",
        );
        report.figure(
            "… in the kernel's TCP buffers, both ends",
            each(peak.1, usual.1),
            "bytes",
        );
        if let Some(after) = closed_after {
            report.figure(
                format!("all {count} were closed as too slow after"),
                after.as_secs_f64(),
                "s",
            );
        }
        self.catch_up(report, stuck).await;
        self.await_occupancy(self.size).await;
        Ok(())
    }

    /// They read again: each is up to date, or was closed with 1013, or so late that the close was lost too.
    async fn catch_up(&self, report: &mut Report, stuck: Vec<Client>) {
        let (mut closed, mut broken, mut up_to_date) = (0, 0, 0);
        for mut client in stuck {
            match timeout(PATIENCE, client.catch_up()).await {
                Ok(Ok(None)) => {
                    up_to_date += 1;
                    if let Err(error) = client.leave().await {
                        self.tally.fault(Fault::Lost, format!("{error:#}"));
                    }
                }
                Ok(Ok(Some(1013))) => closed += 1,
                Ok(Ok(Some(1006))) => broken += 1,
                wrong => self
                    .tally
                    .fault(Fault::Kept, format!("reading again: {wrong:?}")),
            }
        }
        report.figure("… reading again: closed with 1013", f64::from(closed), "");
        report.figure(
            "… reading again: the close did not fit either",
            f64::from(broken),
            "",
        );
        report.figure(
            "… reading again: brought up to date",
            f64::from(up_to_date),
            "",
        );
    }

    fn begin(&self) {
        self.tally.broadcasts.take();
        self.tally.acks.take();
        self.lag.late().take();
    }

    fn close(&self, report: &mut Report, who: &str) {
        report.latency(
            format!("{who}: broadcast to receipt"),
            self.tally.broadcasts.take(),
        );
        report.latency(format!("{who}: heartbeat"), self.tally.acks.take());
        report.latency(
            format!("{who}: (lag of this program)"),
            self.lag.late().take(),
        );
    }

    async fn await_occupancy(&self, size: usize) {
        let deadline = Instant::now() + PATIENCE;
        let seats = [self.movers.seats(), self.others.seats()].concat();
        while seats
            .iter()
            .any(|seat| seat.view.lock().occupancy() != size as u64)
        {
            if Instant::now() > deadline {
                self.tally.fault(
                    Fault::Ghost,
                    format!("not all see {size} after {PATIENCE:?}"),
                );
                return;
            }
            sleep(LOOK).await;
        }
    }

    async fn end(mut self, report: &mut Report) -> anyhow::Result<()> {
        let cost = self.sampler.now()?;
        report.figure(
            "server memory at the end",
            cost.rss_bytes as f64 / MEGA,
            "MB",
        );
        report.figure("server processor time in all", cost.cpu_seconds, "s");
        report.samples(self.sampler.samples());
        self.movers.leave(PATIENCE).await;
        self.others.leave(PATIENCE).await;
        if !self
            .api
            .present(&Names::default().room(0))
            .await?
            .is_empty()
        {
            self.tally
                .fault(Fault::Ghost, "somebody is in the room after everybody left");
        }
        drop(self.sampler);
        let mut faults = Faults::default();
        report.figure(
            "warnings logged",
            self.server.end(&mut faults).await? as f64,
            "",
        );
        report.faults(faults);
        report.faults(self.tally.faults());
        Ok(())
    }
}

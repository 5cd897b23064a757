//! `soak`: people and rooms come and go for a long time. Does the server keep anything of them?
//!
//! The measure is the server itself after it has done the same for a while and everybody has gone: what is made at first use,
//! and kept for good reason, is in the baseline; what grows with every visit is not.

mod guest;
mod ledger;
mod level;
mod room;
mod score;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::try_join_all;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};

use self::{level::Level, score::Score};
use crate::{
    api::{Api, Metrics},
    fault::Fault,
    measure::lag::Lag,
    options::SoakOptions,
    population::Names,
    report::{Report, Table},
    server::Server,
    tally::Tally,
    wire::Route,
};

/// How long the server keeps seats; short, so that in any minute many graces end.
const GRACE: Duration = Duration::from_secs(2);
/// How long a room may be empty that is left to the reaper; the least is 5 s with the intervals below.
const IDLE: Duration = Duration::from_secs(6);
/// Everything that takes time takes less of it than in production, and so happens more often.
const FLAGS: [&str; 14] = [
    "--reconnect-grace",
    "2s",
    "--restart-grace",
    "5s",
    "--heartbeat-interval",
    "2s",
    "--heartbeat-timeout",
    "5s",
    "--flush-interval",
    "1s",
    "--reap-interval",
    "2s",
    "--jwt-secret",
    "a secret that is used for a load test only",
];
/// People in a room, as in TARGETS.
const ROOM: usize = 8;
/// The addresses they come from: a port rests for a minute after use, and there are many visits in a minute.
const HOSTS: [u8; 8] = [2, 3, 4, 5, 6, 7, 8, 9];
/// So many quiet stretches before the server is measured: with the default longer than anything only waits for an end.
const CALM: u32 = 3;
/// How often the server is looked at.
const MINUTE: Duration = Duration::from_secs(60);
/// How much longer than meant a room may last, its last silent connection included.
const PATIENCE: Duration = Duration::from_secs(60);

/// More questions at a time than any pool has connections, and so many that all are under way at once.
const ABREAST: usize = 32;
const ASKED: usize = 50;

/// What everybody shares.
#[derive(Debug)]
struct Scene {
    route: Route,
    names: Names,
    made: AtomicUsize,
    tally: Arc<Tally>,
    score: Score,
}

pub(super) async fn measure(options: &SoakOptions) -> anyhow::Result<Report> {
    let flags = FLAGS.map(str::to_owned);
    let server = Server::start(&options.common, &flags).await?;
    let (size, duration) = (options.connections, options.duration);
    let title = format!("soak: {size} people and their rooms come and go for {duration:?}");
    let mut report = super::report(title, &server.flags());
    let mut api = Api::connect(server.addr()).await?;
    let scene = Arc::new(Scene {
        route: Route::local(server.addr(), HOSTS[0]),
        names: Names::default(),
        made: AtomicUsize::new(0),
        tally: Arc::default(),
        score: Score::default(),
    });
    let empty = Level::read(&server, &mut api).await?;
    let calm = options.common.steady * CALM;

    open_pools(&server).await?;
    scene
        .churn(size, options.warm_up, &server, &mut api)
        .await?;
    let base = Level::settled(&server, &mut api, calm, (&empty, None)).await?;
    scene.forget();

    let lag = Lag::watch();
    let cost = server.process().cost()?;
    let mut table = Table {
        head: Level::HEAD.to_vec(),
        rows: vec![base.row(0.0)],
    };
    let began = Instant::now();
    let looks = scene.churn(size, duration, &server, &mut api).await?;
    table.rows.extend(looks);
    let used = server.process().cost()?.cpu_since(&cost);
    let after = Level::settled(&server, &mut api, calm, (&empty, Some(&base))).await?;
    table.rows.push(after.row(minutes(began.elapsed())));

    report.figure("server processor time", used, "s");
    scene.report(&mut report, &api.metrics().await?);
    base.report("before", &mut report);
    after.report("after", &mut report);
    report.latency("(lag of this program)", lag.late().take());
    report.table_of(table);
    let mut faults = after.leaks(&base);
    report.figure("warnings logged", server.end(&mut faults).await? as f64, "");
    report.faults(faults);
    report.faults(scene.tally.faults());
    Ok(report)
}

impl Scene {
    /// Lets people come and go for a time, until the last is gone; the server is looked at every minute.
    async fn churn(
        self: &Arc<Self>,
        size: usize,
        time: Duration,
        server: &Server,
        api: &mut Api,
    ) -> anyhow::Result<Vec<Vec<f64>>> {
        let began = Instant::now();
        let until = began + time;
        let mut rooms = JoinSet::new();
        for first in (0..size).step_by(ROOM) {
            let people = first..size.min(first + ROOM);
            rooms.spawn(room::keep(Arc::clone(self), people, until));
        }
        let mut looks = Vec::new();
        let mut at = began + MINUTE.min(time.mul_f64(0.9));
        while at < until {
            sleep_until(at).await;
            let level = Level::read(server, api).await?;
            looks.push(level.row(minutes(began.elapsed())));
            at += MINUTE;
        }
        let gone = async { while rooms.join_next().await.is_some() {} };
        if timeout_at(until + PATIENCE, gone).await.is_err() {
            let text = format!("{} rooms did not end", rooms.len());
            self.tally.fault(Fault::Unanswered, text);
        }
        Ok(looks)
    }

    /// What was seen while warming up is not reported.
    fn forget(&self) {
        self.score.clear();
        self.tally.welcomes.take();
        self.tally.acks.take();
        self.tally.broadcasts.take();
    }

    fn report(&self, report: &mut Report, metrics: &Metrics) {
        self.score.report(report);
        for (name, count) in [
            ("rooms reaped, warm-up included", metrics.reaped_rooms()),
            ("flushes that failed", metrics.flush_failures()),
        ] {
            report.figure(name, count as f64, "");
        }
        report.latency("asked to enter to welcome", self.tally.welcomes.take());
        report.latency("heartbeat", self.tally.acks.take());
        report.latency("broadcast to receipt", self.tally.broadcasts.take());
    }

    /// A number that no other room has.
    fn next_room(&self) -> usize {
        self.made.fetch_add(1, Ordering::Relaxed)
    }
}

/// Has the server open every connection to its database that it may: they are opened when first needed, and kept.
async fn open_pools(server: &Server) -> anyhow::Result<()> {
    let lane = || async {
        let mut api = Api::connect(server.addr()).await?;
        for _ in 0..ASKED {
            api.stored_rooms().await?;
        }
        anyhow::Ok(())
    };
    try_join_all((0..ABREAST).map(|_| lane())).await?;
    Ok(())
}

fn minutes(time: Duration) -> f64 {
    time.as_secs_f64() / 60.0
}

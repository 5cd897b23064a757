//! `siege`: senseless connections from everywhere at a server with the limits that it has by itself. What do those who are in
//! notice, who else gets in, and what stays of it?

mod newcomers;

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::newcomers::{Fared, Newcomers};
use super::MEGA;
use crate::{
    api::{Api, Metrics},
    besieger::{Assault, Besieger, Sources, Toll},
    crowd::{Pace, Ticket},
    fault::{Fault, Faults},
    holder::{Holder, Plan},
    measure::{kernel::Kernel, latency::Recorded, process::Process, sampler::Sampler},
    options::SiegeOptions,
    population::{Names, PROBE_HOST, invites},
    report::{Report, Table},
    script::Script,
    server::Server,
    tally::Tally,
    wire::Route,
};

/// People in a room, as in TARGETS.
const ROOM: usize = 8;
/// Processes of those who are in.
const HOLDERS: usize = 2;
/// The last numbers of their addresses in 127.0.0.0/24.
const HOSTS: std::ops::Range<u8> = 2..42;
/// How many come in a second: far less than any limit.
const PACE: f64 = 200.0;
/// Heartbeats are what is measured; somebody turns a page, so that there are presence frames to miss.
const SCRIPT: Script = Script {
    heartbeat: Some(Duration::from_secs(1)),
    cursor: None,
    update: Some(Duration::from_secs(10)),
};
/// How long those who are in may take to come, and the last attacker to be gone.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often descriptors are counted.
const LOOK: Duration = Duration::from_millis(250);
/// Descriptors more than before that are not the flood's: of whoever asks the API.
const OTHERS: u64 = 8;
/// Newcomers who take turns: each has its own `client`, so that nobody is in twice.
const NEWCOMERS: usize = 100;

/// Everybody who is in, and who looks at it.
struct Scene {
    server: Server,
    api: Api,
    tally: Arc<Tally>,
    held: Vec<Holder>,
    newcomers: Newcomers,
    sampler: Sampler,
}

/// What was seen in one stretch.
struct Stretch {
    began: Instant,
    took: Duration,
    sights: Sights,
    fared: Fared,
    cpu_seconds: f64,
    /// The median.
    rss_bytes: u64,
    /// At most.
    descriptors: u64,
}

/// What those who are in have seen.
#[derive(Default)]
struct Sights {
    /// Since last asked.
    acks: Recorded,
    /// How late their processes were, since last asked.
    late: Recorded,
    /// Joins and leaves, since ever.
    moves: u64,
    /// Since ever.
    faults: Faults,
}

pub(super) async fn measure(options: &SiegeOptions) -> anyhow::Result<Report> {
    let server = Server::start_as_it_is(&options.common).await?;
    let title = format!(
        "siege: {} connections, {} senseless ones a second for {:?} from {}",
        options.connections,
        options.per_second,
        options.flood,
        match options.spread {
            true => "an address each".to_owned(),
            false => format!("{} addresses", options.sources),
        }
    );
    let mut report = super::report(title, "as it is");
    let mut scene = Scene::set(server, options.connections).await?;
    let mut besiegers = besiegers(options, &scene.server).await?;

    let before = scene.stretch(options.common.steady).await?;
    let level = scene.server.process().descriptors()?;
    let (counted, kernel) = (scene.api.metrics().await?, Kernel::read());
    for besieger in &mut besiegers {
        besieger.go().await?;
    }
    let flood = scene.stretch(options.flood).await?;
    let mut toll = Toll::default();
    for besieger in &mut besiegers {
        toll.merge(timeout(PATIENCE, besieger.toll()).await??);
    }
    scene.await_descriptors(level).await?;
    let overflows = Kernel::read().listen_overflows - kernel.listen_overflows;
    let recount = scene.api.metrics().await?;
    // What was seen while the flood went away belongs to neither.
    sights(&mut scene.held).await?;
    let after = scene.stretch(options.common.steady).await?;

    report_flood(&mut report, &toll, options);
    report.figure(
        "connections dropped by a full accept queue",
        overflows as f64,
        "",
    );
    report_counts(&mut report, &counted, &recount);
    report_stretches(&mut report, &before, &flood, &after);
    report.figure(
        "server memory, most, flood and after it",
        scene.sampler.peak_rss_since(flood.began) as f64 / MEGA,
        "MB",
    );
    report.faults(toll.faults);
    report.faults(after.sights.faults);
    scene.end(&mut report, options.connections).await?;
    Ok(report)
}

/// From the main thread only.
async fn besiegers(options: &SiegeOptions, server: &Server) -> anyhow::Result<Vec<Besieger>> {
    let mut besiegers = Vec::new();
    for process in 0..options.processes {
        let assault = Assault {
            to: server.addr(),
            sources: match options.spread {
                true => Sources::Everywhere,
                false => Sources::InTurn(options.sources),
            },
            per_second: options.per_second,
            lasts: options.flood,
            process,
            processes: options.processes,
        };
        besiegers.push(Besieger::start(assault).await?);
    }
    Ok(besiegers)
}

impl Scene {
    async fn set(server: Server, connections: usize) -> anyhow::Result<Self> {
        let names = Names::default();
        let invites = invites(&server, names, connections.div_ceil(ROOM)).await?;
        let tickets: Vec<Ticket> = (0..connections)
            .map(|at| Ticket {
                room: at / ROOM,
                query: names.guest(&invites[at / ROOM], at),
            })
            .collect();
        let tally = Arc::new(Tally::default());
        let mut scene = Self {
            held: hold(&server, &tickets).await?,
            api: Api::connect(server.addr()).await?,
            newcomers: Newcomers {
                route: Route::local(server.addr(), PROBE_HOST),
                queries: (0..NEWCOMERS)
                    .map(|at| names.guest(&invites[at % invites.len()], connections + at))
                    .collect(),
                tally: Arc::clone(&tally),
            },
            sampler: Sampler::watch(server.process()),
            tally,
            server,
        };
        for holder in &mut scene.held {
            holder.joined().await?;
        }
        sights(&mut scene.held).await?;
        Ok(scene)
    }

    /// Newcomers come for so long, and everybody else is asked when it is over; newcomers who wait are waited for.
    async fn stretch(&mut self, lasts: Duration) -> anyhow::Result<Stretch> {
        let (newcomers, sampler) = (&self.newcomers, &self.sampler);
        let (process, held) = (self.server.process(), &mut self.held);
        let watch = async {
            let (began, cost) = (Instant::now(), sampler.now()?);
            let descriptors = most_descriptors(process, began + lasts).await?;
            let cpu_seconds = sampler.now()?.cpu_since(&cost);
            let (took, rss_bytes) = (began.elapsed(), sampler.typical_rss_since(began));
            let sights = sights(held).await?;
            anyhow::Ok((began, took, cpu_seconds, rss_bytes, descriptors, sights))
        };
        let (fared, watched) = tokio::join!(newcomers.come(lasts), watch);
        let (began, took, cpu_seconds, rss_bytes, descriptors, sights) = watched?;
        Ok(Stretch {
            began,
            took,
            sights,
            fared,
            cpu_seconds,
            rss_bytes,
            descriptors,
        })
    }

    /// Waits until the sockets of the flood are gone.
    async fn await_descriptors(&self, level: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let descriptors = self.server.process().descriptors()?;
            if descriptors <= level + OTHERS {
                return Ok(());
            }
            if Instant::now() > deadline {
                let text = format!("{descriptors} descriptors, {level} before");
                self.tally.fault(Fault::Leaked, text);
                return Ok(());
            }
            sleep(LOOK).await;
        }
    }

    async fn end(mut self, report: &mut Report, connections: usize) -> anyhow::Result<()> {
        let seats = self.api.metrics().await?.seats();
        if seats != connections as u64 {
            let text = format!("{seats} seats of {connections} clients");
            self.tally.fault(Fault::Ghost, text);
        }
        report.samples(self.sampler.samples());
        drop((self.held, self.sampler));
        let mut faults = Faults::default();
        let warnings = self.server.end(&mut faults).await?;
        report.figure("warnings logged", warnings as f64, "");
        report.faults(faults);
        report.faults(self.tally.faults());
        Ok(())
    }
}

async fn sights(held: &mut [Holder]) -> anyhow::Result<Sights> {
    let mut sights = Sights::default();
    for holder in held {
        let sight = timeout(PATIENCE, holder.report()).await??;
        sights.acks.merge(&sight.acks);
        sights.late.merge(&sight.late);
        sights.moves += sight.moves;
        sights.faults.merge(sight.faults);
    }
    Ok(sights)
}

async fn most_descriptors(process: Process, until: Instant) -> anyhow::Result<u64> {
    let mut most = 0;
    while Instant::now() < until {
        most = most.max(process.descriptors()?);
        sleep_until(until.min(Instant::now() + LOOK)).await;
    }
    Ok(most)
}

/// Lets everybody in who is to be there all the time.
async fn hold(server: &Server, tickets: &[Ticket]) -> anyhow::Result<Vec<Holder>> {
    let mut held = Vec::new();
    for tickets in tickets.chunks(tickets.len().div_ceil(HOLDERS)) {
        let plan = Plan {
            to: server.addr(),
            hosts: HOSTS.collect(),
            tickets: tickets.to_vec(),
            pace: Pace::Over(Duration::from_secs_f64(tickets.len() as f64 / PACE)),
            script: SCRIPT,
            within: PATIENCE,
        };
        let mut holder = Holder::start(plan).await?;
        holder.go().await?;
        held.push(holder);
    }
    Ok(held)
}

fn report_flood(report: &mut Report, toll: &Toll, options: &SiegeOptions) {
    let (sum, seconds) = (toll.sum(), options.flood.as_secs_f64());
    let share = sum.attempts as f64 / toll.due as f64;
    if share < 0.99 {
        report.note(format!(
            "this machine made {:.0} % of the attempts that were due: the flood was smaller than asked for",
            share * 100.0
        ));
    }
    report.figure("attempts due", toll.due as f64 / seconds, "/s");
    report.figure("attempts made", sum.attempts as f64 / seconds, "/s");
    for (name, count) in [
        ("… refused for what they brought", sum.refused),
        ("… refused by a limit (429)", sum.limited),
        ("… refused as too many in all (503)", sum.busy),
        ("… ended without a word", sum.dropped),
        ("… waited for until the server had enough", sum.outlasted),
        ("… that wanted no answer", sum.left),
        ("… neither answered nor ended", sum.unanswered),
        ("… without a connection", sum.not_connected),
    ] {
        report.figure(name, count as f64, "");
    }
    for (status, count) in &toll.statuses {
        report.figure(format!("answers with {status}"), *count as f64, "");
    }
    report.figure("processor time of the attackers", toll.cpu_seconds, "s");
    report.latency("flood: (lag of the attackers)", toll.late.summary());
    if !toll.outlasted.is_empty() {
        report.latency("flood: half a head waited for", toll.outlasted.summary());
    }
    report.table_of(by_second(toll));
}

fn by_second(toll: &Toll) -> Table {
    let rows = toll.seconds.iter().enumerate().map(|(at, second)| {
        let counts = [
            at as u64,
            second.attempts,
            second.refused,
            second.limited,
            second.busy,
            second.dropped,
            second.not_connected,
        ];
        counts.map(|count| count as f64).to_vec()
    });
    Table {
        head: vec![
            "second",
            "attempts",
            "refused",
            "429",
            "503",
            "dropped",
            "unconnected",
        ],
        rows: rows.collect(),
    }
}

/// What the server counted meanwhile.
fn report_counts(report: &mut Report, before: &Metrics, after: &Metrics) {
    for (name, metric) in [
        ("limited", "rollcall_limited_total"),
        ("joins", "rollcall_joins_total"),
    ] {
        let known = before.by_label(metric);
        for (label, count) in after.by_label(metric) {
            let more = count - known.get(&label).copied().unwrap_or_default();
            if more > 0 {
                report.figure(format!("{name}: {label}"), more as f64, "");
            }
        }
    }
}

fn report_stretches(report: &mut Report, before: &Stretch, flood: &Stretch, after: &Stretch) {
    for (name, stretch) in [("before", before), ("flood", flood), ("after", after)] {
        let Fared {
            joins,
            came,
            let_in,
            sent_away,
        } = stretch.fared;
        let cores = stretch.cpu_seconds / stretch.took.as_secs_f64();
        report.latency(format!("{name}: heartbeat"), stretch.sights.acks.summary());
        report.latency(format!("{name}: due to welcome of newcomers"), joins);
        let late = stretch.sights.late.summary();
        report.latency(format!("{name}: (lag of the clients)"), late);
        for (what, value, unit) in [
            ("newcomers", came as f64, ""),
            ("newcomers let in", let_in as f64, ""),
            ("newcomers told to come back, and did", sent_away as f64, ""),
            ("server processor time", stretch.cpu_seconds, "s"),
            ("server cores", cores, ""),
            (
                "server memory, median",
                stretch.rss_bytes as f64 / MEGA,
                "MB",
            ),
            ("server descriptors, most", stretch.descriptors as f64, ""),
        ] {
            report.figure(format!("{name}: {what}"), value, unit);
        }
    }
    let p99 = |stretch: &Stretch| stretch.sights.acks.summary().p99_ms;
    report.figure(
        "p99 of heartbeats, flood against before",
        p99(flood) / p99(before),
        "times",
    );
    report.figure(
        "joins and leaves seen by those who were in",
        after.sights.moves as f64,
        "",
    );
}

//! `crowd`: everybody joins one room within seconds, then everybody leaves at once. What does the server send?

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::MEGA;
use crate::{
    api::Api,
    client::{Arrival, Client},
    crowd::{Crowd, Pace, Ticket},
    fault::{Fault, Faults},
    measure::{lag::Lag, sampler::Sampler},
    options::CrowdOptions,
    population::{Names, PROBE_HOST},
    report::{Report, Target},
    script::Script,
    server::Server,
    tally::{Tally, Traffic, Traffics},
    wire::Route,
};

/// TARGETS.md, section 1, for 10,000 within 10 s.
const BYTES: Target = Target {
    reach: 2.0,
    stretch: None,
};
/// The addresses that the crowd comes from.
const HOSTS: [u8; 4] = [2, 3, 4, 5];
/// How long the last may take to get in, to be told, or to get out.
const PATIENCE: Duration = Duration::from_secs(120);
/// Seldom enough to be no load, often enough to notice.
const SCRIPT: Script = Script {
    heartbeat: Some(Duration::from_secs(5)),
    cursor: None,
    update: None,
};

pub(super) async fn measure(options: &CrowdOptions) -> anyhow::Result<Report> {
    let limit = options
        .roster_limit
        .map(|limit| ["--roster-limit".to_owned(), limit.to_string()]);
    let server = Server::start(&options.common, limit.as_ref().map_or(&[], |flags| flags)).await?;
    let (size, within) = (options.connections, options.within);
    let mut report = super::report(
        format!("crowd: {size} join one room within {within:?}, then leave at once"),
        &server.flags(),
    );
    let mut api = Api::connect(server.addr()).await?;
    let names = Names::default();
    let invite = api.make_room(&names.room(0)).await?;
    let tally = Arc::new(Tally::default());
    let singles = single_frames(&server, names, &invite, &tally).await?;

    let (sampler, lag) = (Sampler::watch(server.process()), Lag::watch());
    let (before, sent, empty) = (
        tally.traffic(),
        api.metrics().await?.fanned_out(),
        sampler.now()?,
    );
    tally.welcomes.take();
    let tickets = (0..size)
        .map(|at| Ticket {
            room: 0,
            query: names.guest(&invite, at),
        })
        .collect();
    let routes = HOSTS.map(|host| Route::local(server.addr(), host)).to_vec();
    let crowd = Crowd::gather(routes, tickets, Pace::Over(within), SCRIPT, &tally);
    let settled = crowd.settled(within + PATIENCE).await;
    let told = await_occupancy(&crowd, size, &tally).await;
    let full = sampler.now()?;
    let joining = tally.traffic().since(&before);
    report.figure(
        "the last welcome came after",
        settled.last_welcome.as_secs_f64() * 1000.0,
        "ms",
    );
    report.figure(
        "everybody knew of everybody after",
        told.as_secs_f64() * 1000.0,
        "ms",
    );
    report.figure(
        "server processor time, joining",
        full.cpu_since(&empty),
        "s",
    );
    report.figure("… a join", full.cpu_since(&empty) * 1e6 / size as f64, "µs");
    report.figure(
        "server memory, most",
        sampler.peak_rss_since(crowd.began()) as f64 / MEGA,
        "MB",
    );
    report.figure(
        "… a connection",
        full.growth_since(&empty) / size as f64,
        "bytes",
    );
    let now = api.metrics().await?.fanned_out();
    report.figure(
        "frames by the server's count, joining",
        (now - sent) as f64,
        "",
    );
    compare(&mut report, "joining", &joining, size, singles.0);
    report.latency("joining: due to welcome", tally.welcomes.take());
    report.latency("joining: heartbeat of those who are in", tally.acks.take());
    report.latency("joining: (lag of this program)", lag.late().take());
    check_roster(&crowd, &mut api, &names.room(0), &tally).await?;

    sleep(options.common.steady).await;
    report.latency("all there: heartbeat", tally.acks.take());
    lag.late().take();
    let (before, sent, cost) = (
        tally.traffic(),
        api.metrics().await?.fanned_out(),
        sampler.now()?,
    );
    let left = Instant::now();
    crowd.leave(PATIENCE).await;
    report.figure(
        "the last was gone after",
        left.elapsed().as_secs_f64() * 1000.0,
        "ms",
    );
    let leaving = tally.traffic().since(&before);
    report.figure(
        "server processor time, leaving",
        sampler.now()?.cpu_since(&cost),
        "s",
    );
    let now = api.metrics().await?.fanned_out();
    report.figure(
        "frames by the server's count, leaving",
        (now - sent) as f64,
        "",
    );
    compare(&mut report, "leaving", &leaving, size, singles.1);
    report.latency("leaving: (lag of this program)", lag.late().take());
    if !api.present(&names.room(0)).await?.is_empty() {
        tally.fault(Fault::Ghost, "somebody is in the room after everybody left");
    }
    report.samples(sampler.samples());
    drop((sampler, lag));
    let mut faults = Faults::default();
    report.figure("warnings logged", server.end(&mut faults).await? as f64, "");
    report.faults(faults);
    report.faults(tally.faults());
    Ok(report)
}

/// The sizes of a frame that tells one join, and one leave: somebody watches somebody else come and go.
async fn single_frames(
    server: &Server,
    names: Names,
    invite: &str,
    tally: &Arc<Tally>,
) -> anyhow::Result<(u64, u64)> {
    let route = Route::local(server.addr(), PROBE_HOST);
    // Names as long as everybody's.
    let query = |at| names.guest(invite, at);
    let watcher = vec![Ticket {
        room: 0,
        query: query(999_998),
    }];
    let watcher = Crowd::gather(vec![route], watcher, Pace::AtOnce, Script::default(), tally);
    watcher.settled(PATIENCE).await;
    let Arrival::In(guest) = Client::enter(&route, &query(999_999), tally).await? else {
        anyhow::bail!("the first guest was refused");
    };
    await_occupancy(&watcher, 2, tally).await;
    guest.leave().await?;
    await_occupancy(&watcher, 1, tally).await;
    watcher.leave(PATIENCE).await;
    match tally.singles() {
        (Some(join), Some(leave)) => Ok((join, leave)),
        singles => anyhow::bail!("one guest came and went, but its frames were {singles:?}"),
    }
}

/// Waits until all see this many, and answers how long that took since the crowd began.
async fn await_occupancy(crowd: &Crowd, size: usize, tally: &Tally) -> Duration {
    let (seats, deadline) = (crowd.seats(), Instant::now() + PATIENCE);
    let sees = |occupancy: u64| occupancy == size as u64;
    while !seats.iter().all(|seat| sees(seat.view.lock().occupancy())) {
        if Instant::now() > deadline {
            tally.fault(
                Fault::Ghost,
                format!("not all see {size} after {PATIENCE:?}"),
            );
            break;
        }
        sleep(Duration::from_millis(5)).await;
    }
    crowd.began().elapsed()
}

/// What was sent, against a frame for each join, or leave, to each member there at the time.
fn compare(report: &mut Report, chapter: &str, sent: &Traffics, size: usize, single: u64) {
    let frames = size as f64 * (size as f64 - 1.0) / 2.0;
    let bytes = frames * single as f64;
    let (changes, all) = (
        sent.sum(&["presence", "sync"]),
        sent.sum(&["presence", "sync", "welcome"]),
    );
    report.figure(
        format!("one frame a change and member, {chapter}: frames"),
        frames,
        "",
    );
    report.figure(format!("… of {single} bytes"), bytes / MEGA, "MB");
    report.figure(
        format!("sent {chapter}, of those frames"),
        100.0 * changes.frames as f64 / frames,
        "%",
    );
    let share = |sent: Traffic| 100.0 * sent.bytes as f64 / bytes;
    report.figure(
        format!("sent {chapter}, of those bytes"),
        share(changes),
        "%",
    );
    let name = format!("sent {chapter}, of those bytes, welcomes included");
    report.aimed(name, share(all), "%", BYTES);
    report.traffic(chapter, sent);
}

/// What everybody believes, against what the server says.
async fn check_roster(
    crowd: &Crowd,
    api: &mut Api,
    room: &str,
    tally: &Tally,
) -> anyhow::Result<()> {
    let truth = api.present(room).await?;
    for seat in crowd.seats() {
        let view = seat.view.lock();
        let is_right = match view.roster() {
            Some(roster) => *roster == truth,
            None => view.occupancy() == truth.len() as u64,
        };
        if !is_right {
            tally.fault(Fault::Ghost, "somebody has another roster than the server");
        }
    }
    Ok(())
}

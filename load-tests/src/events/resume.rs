//! `resume`: after the drop all come back at once. Is everybody in within the grace, and does nobody else notice?

use std::{collections::HashSet, time::Duration};

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::MEGA;
use crate::{
    api::Metrics,
    crowd::{Pace, Ticket},
    fault::Fault,
    holder::{Held, Holder},
    measure::{kernel::Kernel, lag::Lag, latency::Latency, sampler::Sampler},
    options::{By, ResumeOptions},
    population::{Lost, PROBE_HOST, Population, plan},
    probe::Prober,
    report::Report,
    wire::Route,
};

/// How long the server may take to notice that everybody is gone.
const NOTICE: Duration = Duration::from_secs(30);
/// How often it is asked.
const LOOK: Duration = Duration::from_millis(20);
/// What is added to the last number of an address.
const RETURN: u8 = 110;
/// After the grace: whoever would be seen to leave has been.
const SETTLE: Duration = Duration::from_secs(2);

pub(super) async fn measure(options: &ResumeOptions) -> anyhow::Result<Report> {
    let flags = [
        "--reconnect-grace".to_owned(),
        format!("{}ms", options.grace.as_millis()),
    ];
    let mut people = Population::connect(&options.common, options.connections, &flags).await?;
    let (kept, lost) = (people.kept(), people.lost());
    let way = if options.by == By::Resume {
        "resume"
    } else {
        "invite"
    };
    let title = format!(
        "resume: {lost} of {} come back at once, by {way}",
        kept + lost
    );
    let mut report = super::report(title, &people.server.flags());
    report.note(format!(
        "reconnect grace raised from 10 s to {:?}, so that none ends before the last is back",
        options.grace
    ));

    // Ready to go before anybody is dropped: starting processes is not what is measured.
    let mut returning = Vec::new();
    for lost in &people.lost {
        let tickets = tickets(lost, options.by);
        let plan = plan(
            &people.server,
            elsewhere(&lost.hosts),
            tickets,
            Pace::AtOnce,
        );
        returning.push(Holder::start(plan).await?);
    }
    let route = Route::local(people.server.addr(), PROBE_HOST);
    let prober = Prober::begin(route, None, &people.tally);
    let (sampler, lag) = (Sampler::watch(people.server.process()), Lag::watch());
    sleep(options.common.steady).await;
    report.latency("before: connect to healthz", prober.accepts().take());
    report.latency("before: heartbeat of the others", people.tally.acks.take());
    let moves = seen_moves(&people);

    let dropped = people.drop_lost().await?;
    while people.api.metrics().await?.ended("hangup") < lost as u64 && dropped.elapsed() < NOTICE {
        sleep(LOOK).await;
    }
    report.latency("dropped: heartbeat of the others", people.tally.acks.take());
    prober.accepts().take();
    lag.late().take();
    let (before, cost, kernel) = (people.api.metrics().await?, sampler.now()?, Kernel::read());
    let began = Instant::now();
    for holder in &mut returning {
        holder.go().await?;
    }
    let mut last_welcome = Duration::ZERO;
    let (welcomes, mut resumed, mut back, mut sent_away) = (Latency::default(), 0, 0, 0);
    for holder in &mut returning {
        let joined = holder.joined().await?;
        welcomes.merge(&joined.welcomes);
        last_welcome = last_welcome.max(joined.settled.last_welcome);
        sent_away += joined.settled.sent_away;
        back += joined.held.len();
        resumed += joined.held.iter().filter(|held| held.resumed).count();
    }
    let (after, now) = (people.api.metrics().await?, sampler.now()?);
    report.figure(
        "the last welcome came after",
        last_welcome.as_secs_f64() * 1000.0,
        "ms",
    );
    report.figure(
        "welcomes a second",
        back as f64 / last_welcome.as_secs_f64(),
        "/s",
    );
    report.figure(
        "server processor time a welcome",
        now.cpu_since(&cost) * 1e6 / back as f64,
        "µs",
    );
    report.figure(
        "server memory, most",
        sampler.peak_rss_since(began) as f64 / MEGA,
        "MB",
    );
    report.figure("resumed", 100.0 * resumed as f64 / lost as f64, "%");
    report.figure("told to come back later, and did", sent_away as f64, "");
    report.figure(
        "connections dropped by a full accept queue",
        (Kernel::read().listen_overflows - kernel.listen_overflows) as f64,
        "",
    );
    report.latency("coming back: connect to welcome", welcomes.take());
    report.latency("coming back: connect to healthz", prober.accepts().take());
    report.latency(
        "coming back: heartbeat of the others",
        people.tally.acks.take(),
    );
    report.latency("coming back: (lag of this program)", lag.late().take());
    check_way(&mut report, &people, options.by, &before, &after, resumed);
    if dropped.elapsed() > options.grace {
        people.tally.fault(
            Fault::NotResumed,
            format!(
                "the last was back after {:?}: raise --grace",
                dropped.elapsed()
            ),
        );
    }

    sleep_until(dropped + options.grace + SETTLE).await;
    report.latency("after: heartbeat of the others", people.tally.acks.take());
    check_quiet(&mut returning, &people, moves).await?;
    report.samples(sampler.samples());
    drop((prober, sampler, lag));
    people.check_rosters().await?;
    people.check_store(&HashSet::new()).await?;
    let tally = people.tally.clone();
    drop(returning);
    report.figure("warnings logged", people.end().await? as f64, "");
    report.faults(tally.faults());
    Ok(report)
}

/// From other addresses than before, so that a port of a connection that is not quite over yet is not taken again.
fn elsewhere(hosts: &[u8]) -> Vec<u8> {
    hosts.iter().map(|host| host + RETURN).collect()
}

fn tickets(lost: &Lost, by: By) -> Vec<Ticket> {
    let back = |held: &Held| Ticket {
        room: lost.tickets[held.ticket].room,
        query: match by {
            By::Resume => format!("resume={}", held.resume_token),
            By::Invite => lost.tickets[held.ticket].query.clone(),
        },
    };
    lost.held.iter().map(back).collect()
}

/// The server's own count of how they came back: a held seat is resumed without asking the store.
fn check_way(
    report: &mut Report,
    people: &Population,
    by: By,
    before: &Metrics,
    after: &Metrics,
    resumed: usize,
) {
    let lost = people.lost();
    let since = |outcome| after.joins(outcome) - before.joins(outcome);
    let (by_resume, by_store) = (since("resumed"), since("admitted"));
    report.figure("… by the server's count: resumed", by_resume as f64, "");
    report.figure(
        "… by the server's count: asked the store",
        by_store as f64,
        "",
    );
    match by {
        By::Resume if by_resume != lost as u64 || by_store != 0 => {
            people.tally.fault(
                Fault::Asked,
                format!("{by_resume} resumed and {by_store} admitted, of {lost}"),
            );
        }
        By::Resume if resumed != lost => {
            people.tally.fault(
                Fault::NotResumed,
                format!("{resumed} of {lost} were told so"),
            );
        }
        By::Invite if by_store < lost as u64 => {
            people
                .tally
                .fault(Fault::Refused, format!("{by_store} of {lost} admitted"));
        }
        By::Resume | By::Invite => {}
    }
}

fn seen_moves(people: &Population) -> u64 {
    people
        .kept
        .seats()
        .iter()
        .map(|seat| seat.view.lock().moves().0)
        .sum()
}

/// Neither the kept nor those who came back have seen anybody come or go.
async fn check_quiet(
    returning: &mut [Holder],
    people: &Population,
    before: u64,
) -> anyhow::Result<()> {
    let mut moves = seen_moves(people) - before;
    for holder in returning {
        let sight = timeout(NOTICE, holder.report()).await??;
        moves += sight.moves;
        people
            .tally
            .with_faults(|faults| faults.merge(sight.faults));
    }
    if moves > 0 {
        people.tally.fault(
            Fault::Disturbed,
            format!("{moves} joins and leaves were seen"),
        );
    }
    Ok(())
}

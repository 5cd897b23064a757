//! `deploy`: the server is replaced under everybody, first asked to stop, then killed. Who is lost, and who is told so?

mod check;
mod gate;
mod party;
mod person;

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use self::{
    gate::Gate,
    party::Party,
    person::{Person, Shared},
};
use crate::{
    fault::{Fault, Faults},
    measure::lag::Lag,
    options::DeployOptions,
    population::PROBE_HOST,
    report::Report,
    server::Server,
    wire::Route,
};

/// As the server has it by default; said all the same, because a crash may lose so much.
const FLUSH_INTERVAL: Duration = Duration::from_secs(5);
/// After a grace: whoever would be seen to leave has been.
const SETTLE: Duration = Duration::from_secs(3);
/// How long answers to the last heartbeats before the crash may take.
const HUSH: Duration = Duration::from_millis(500);
/// How much longer than the restart grace the last may be away.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often people are counted.
const LOOK: Duration = Duration::from_millis(10);

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// SIGTERM.
    Asked,
    /// SIGKILL.
    Killed,
}

pub(super) async fn measure(options: &DeployOptions) -> anyhow::Result<Report> {
    let grace = options.restart_grace;
    let flags = [
        "--restart-grace".to_owned(),
        format!("{}ms", grace.as_millis()),
        "--flush-interval".to_owned(),
        format!("{}ms", FLUSH_INTERVAL.as_millis()),
    ];
    let mut server = Server::start(&options.common, &flags).await?;
    let size = options.connections;
    let title = format!("deploy: the server is replaced under {size}, then killed");
    let mut report = super::report(title, &server.flags());
    let store = if options.common.database_url.is_some() {
        "as given"
    } else {
        "SQLite"
    };
    report.note(format!("database: {store}"));
    let lag = Lag::watch();
    let party = Party::gather(&server, size).await?;
    sleep(options.common.steady).await;
    report.latency("before: heartbeat", party.tally().acks.take());

    let asked = round(&mut server, &party, Way::Asked, &mut report).await?;
    sleep_until(asked.opened_at + grace + SETTLE).await;
    party.check_members(&[]);
    party.check_departures(&[]);
    party.check_store(&server, &[]).await?;
    let seen = party.seen_leaving(&[]);
    report.figure("SIGTERM: leave frames seen", seen as f64, "");
    report.latency("SIGTERM: back: heartbeat", party.tally().acks.take());

    // Reading the store has flushed; a crash must find some that was not.
    sleep(FLUSH_INTERVAL.mul_f64(1.6)).await;
    let absent = party.absent();
    report.figure("kill -9: do not come back", absent.len() as f64, "");
    party.hush_absent();
    sleep(HUSH).await;
    let killed = round(&mut server, &party, Way::Killed, &mut report).await?;
    sleep_until(killed.opened_at + grace + SETTLE).await;
    party.check_members(&absent);
    party.check_departures(&absent);
    let spans = party.check_absent(&absent, killed.began + grace);
    party.check_store(&server, &absent).await?;
    let seen = party.seen_leaving(&absent);
    report.figure("kill -9: leave frames of who came back", seen as f64, "");
    spans.report(&mut report, killed.opened_at + grace);
    report.latency("kill -9: back: heartbeat", party.tally().acks.take());
    report.latency("(lag of this program)", lag.late().take());

    let shared = party.end();
    let mut faults = Faults::default();
    report.figure("warnings logged", server.end(&mut faults).await? as f64, "");
    report.faults(faults);
    report.faults(shared.tally.faults());
    Ok(report)
}

/// When what happened.
struct Round {
    began: Instant,
    /// The server admits again.
    opened_at: Instant,
}

/// Ends the server and starts the next at once, and waits until everybody is back who comes back.
async fn round(
    server: &mut Server,
    party: &Party,
    way: Way,
    report: &mut Report,
) -> anyhow::Result<Round> {
    let chapter = match way {
        Way::Asked => "SIGTERM",
        Way::Killed => "kill -9",
    };
    let gate = Gate::watch(Route::local(server.addr(), PROBE_HOST));
    let absent = match way {
        Way::Asked => 0,
        Way::Killed => party.absent().len(),
    };
    let began = Instant::now();
    party.shared().begin(way);
    match way {
        Way::Asked => {
            let status = server.terminate().await?;
            if !status.success() {
                party.tally().fault(Fault::Unclean, status.to_string());
            }
        }
        Way::Killed => server.kill().await?,
    }
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    report.figure(
        format!("{chapter}: the process had ended after"),
        millis(began.elapsed()),
        "ms",
    );
    server.revive().await?;
    report.figure(
        format!("{chapter}: the next listened after"),
        millis(began.elapsed()),
        "ms",
    );
    let outage = gate.open().await?;
    report.figure(
        format!("{chapter}: the port refused or answered 503 for"),
        millis(outage.until - outage.from),
        "ms",
    );
    let last = party.await_back(absent, began).await;
    report.figure(
        format!("{chapter}: the last welcome came after"),
        millis(last),
        "ms",
    );
    party.shared().report(chapter, report);
    Ok(Round {
        began,
        opened_at: outage.until,
    })
}

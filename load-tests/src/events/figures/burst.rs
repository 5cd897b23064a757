//! Two hundred connections that each send the next heartbeat when the last is answered: what the server can do at most.

use std::sync::Arc;

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::subject::{Kind, Subject};
use crate::{
    client::{Arrival, Client},
    fault::Fault,
    options::FiguresOptions,
    tally::Tally,
    wire::Route,
};

/// TARGETS.md, section 1.
const CONNECTIONS: usize = 200;
/// Nobody is told to slow down.
const UNLIMITED: [&str; 4] = [
    "--messages-per-second",
    "1000000",
    "--message-burst",
    "1000000",
];
const HOST: u8 = 2;

/// Round trips per second of the server's processor time.
pub(super) async fn measure(
    kind: Kind,
    options: &FiguresOptions,
    tally: &Arc<Tally>,
) -> anyhow::Result<f64> {
    let flags = UNLIMITED.map(str::to_owned);
    let subject = Subject::start(kind, &options.common, &flags).await?;
    let clients = connect(&subject, options.room, tally).await?;
    let before = subject.process().cost()?;
    let until = Instant::now() + options.window;
    let mut tasks = JoinSet::new();
    for client in clients {
        tasks.spawn(beat(client, until));
    }
    sleep(options.window).await;
    let cpu = subject.process().cost()?.cpu_since(&before);
    let mut trips = 0;
    while let Some(done) = tasks.join_next().await {
        match done? {
            Ok(beats) => trips += beats,
            Err(error) => tally.fault(Fault::Unanswered, format!("{error:#}")),
        }
    }
    subject.end(tally).await?;
    Ok(trips as f64 / cpu)
}

async fn connect(
    subject: &Subject,
    room: usize,
    tally: &Arc<Tally>,
) -> anyhow::Result<Vec<Client>> {
    let route = Route::local(subject.addr(), HOST);
    let mut clients = Vec::new();
    for ticket in subject.tickets(CONNECTIONS, room).await? {
        match Client::enter(&route, &ticket.query, tally).await? {
            Arrival::In(client) => clients.push(client),
            other => tally.fault(Fault::Refused, format!("{other:?}")),
        }
    }
    Ok(clients)
}

async fn beat(mut client: Client, until: Instant) -> anyhow::Result<u64> {
    let mut beats = 0;
    while Instant::now() < until {
        let ended = client.catch_up().await?;
        anyhow::ensure!(ended.is_none(), "ended with {ended:?}");
        beats += 1;
    }
    Ok(beats)
}

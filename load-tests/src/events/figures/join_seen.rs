//! How long it takes from a newcomer's request to enter until each of eight members has been told, its row committed.

use std::{sync::Arc, time::Duration};

use futures::future::try_join_all;
use tokio::time::{Instant, sleep};

use super::subject::{Kind, Subject};
use crate::{
    client::{Arrival, Client},
    measure::latency::Latency,
    options::FiguresOptions,
    tally::Tally,
    wire::Route,
};

/// TARGETS.md, section 1.
const MEMBERS: usize = 8;
/// Joins, one after the other, as far as they go into the window.
const JOINS: usize = 100;
/// Between two joins, so that a window of changes told together has passed.
const PAUSE: Duration = Duration::from_millis(120);
const HOST: u8 = 2;

/// The median, milliseconds: over every member and every join.
pub(super) async fn measure(options: &FiguresOptions, tally: &Arc<Tally>) -> anyhow::Result<f64> {
    let subject = Subject::start(Kind::Rollcall, &options.common, &[]).await?;
    let route = Route::local(subject.addr(), HOST);
    let tickets = subject.tickets(MEMBERS + JOINS, MEMBERS + JOINS).await?;
    let (at_home, newcomers) = tickets.split_at(MEMBERS);
    let mut members = Vec::new();
    for ticket in at_home {
        members.push(enter(&route, &ticket.query, tally).await?);
    }
    let seen = Latency::default();
    let until = Instant::now() + options.window;
    for ticket in newcomers {
        if Instant::now() > until {
            break;
        }
        sleep(PAUSE).await;
        let began = Instant::now();
        let newcomer = enter(&route, &ticket.query, tally).await?;
        let who = newcomer.greeting().participant.clone();
        try_join_all(members.iter_mut().map(async |member| {
            member.see_join(&who).await?;
            seen.record(began.elapsed());
            anyhow::Ok(())
        }))
        .await?;
        newcomer.leave().await?;
    }
    drop(members);
    subject.end(tally).await?;
    Ok(seen.take().p50_ms)
}

async fn enter(route: &Route, query: &str, tally: &Arc<Tally>) -> anyhow::Result<Client> {
    match Client::enter(route, query, tally).await? {
        Arrival::In(client) => Ok(client),
        other => anyhow::bail!("not let in: {other:?}"),
    }
}

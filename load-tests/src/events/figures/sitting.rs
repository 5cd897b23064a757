//! Many connections that sit there: what they take to come, to keep, to hear and to forget about.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::subject::Subject;
use crate::{
    crowd::{Pace, Ticket},
    holder::{Holder, Plan},
    options::FiguresOptions,
    script::Script,
    tally::Tally,
};

/// A process may have 20,000 descriptors here.
const PER_HOLDER: usize = 4000;
/// Addresses that the clients come from, all holders together.
const HOSTS: usize = 8;
/// Clients on their way in at a time, of each process.
const ABREAST: usize = 32;
/// How long all of them may take to enter.
const PATIENCE: Duration = Duration::from_secs(120);
/// Until nothing of what came before is still going on.
const SETTLE: Duration = Duration::from_secs(1);
/// Until what was heard last has been written: to have nothing to do is to have that behind one. The server flushes every five
/// seconds, give or take a tenth.
const LAST_FLUSH: Duration = Duration::from_secs(7);

/// What one size cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sitting {
    pub(super) connections: usize,
    pub(super) bytes_per_connection: f64,
    pub(super) cpu_us_per_heartbeat: f64,
    pub(super) cpu_us_per_join: f64,
    pub(super) joins_per_second: f64,
    pub(super) idle_percent: f64,
    /// Of flushes of everybody; NaN: there was none.
    pub(super) flush_ms: f64,
}

pub(super) async fn measure(
    subject: &Subject,
    connections: usize,
    options: &FiguresOptions,
    tally: &Tally,
) -> anyhow::Result<Sitting> {
    let process = subject.process();
    let empty = process.cost()?;
    let tickets = subject.tickets(connections, options.room).await?;
    let (before, began) = (process.cost()?, Instant::now());
    let heartbeat = options.window / 2;
    let mut held = hold(subject, tickets, heartbeat).await?;
    enter(&mut held, tally).await?;
    let (filled, took) = (process.cost()?, began.elapsed());
    sleep(heartbeat + SETTLE).await;

    let flushed = subject.flushes().await?;
    acks(&mut held, tally).await?;
    let at_first = process.cost()?;
    sleep(options.window).await;
    let at_last = process.cost()?;
    let heartbeats = acks(&mut held, tally).await?;

    let (seconds, flushes) = subject.flushes().await?;
    for holder in &mut held {
        holder.hush().await?;
    }
    sleep(LAST_FLUSH).await;
    let (quiet, since) = (process.cost()?, Instant::now());
    sleep(options.window).await;
    let idle = process.cost()?.cpu_since(&quiet) / since.elapsed().as_secs_f64();
    for mut holder in held {
        holder.kill()?;
        holder.gone().await?;
    }
    let each = connections as f64;
    Ok(Sitting {
        connections,
        bytes_per_connection: at_last.growth_since(&empty) / each,
        cpu_us_per_heartbeat: at_last.cpu_since(&at_first) * 1e6 / heartbeats as f64,
        cpu_us_per_join: filled.cpu_since(&before) * 1e6 / each,
        joins_per_second: each / took.as_secs_f64(),
        idle_percent: idle * 100.0,
        flush_ms: (seconds - flushed.0) * 1000.0 / (flushes - flushed.1) as f64,
    })
}

async fn hold(
    subject: &Subject,
    tickets: Vec<Ticket>,
    heartbeat: Duration,
) -> anyhow::Result<Vec<Holder>> {
    let holders = tickets.len().div_ceil(PER_HOLDER).max(2);
    let hosts: Vec<u8> = (2..).take(HOSTS).collect();
    let mut held = Vec::new();
    for tickets in tickets.chunks(tickets.len().div_ceil(holders)) {
        let plan = Plan {
            to: subject.addr(),
            hosts: hosts.clone(),
            tickets: tickets.to_vec(),
            pace: Pace::Abreast(ABREAST),
            script: Script {
                heartbeat: Some(heartbeat),
                ..Script::default()
            },
            within: PATIENCE,
        };
        held.push(Holder::start(plan).await?);
    }
    Ok(held)
}

async fn enter(held: &mut [Holder], tally: &Tally) -> anyhow::Result<()> {
    for holder in &mut *held {
        holder.go().await?;
    }
    for holder in held {
        holder.joined().await?;
        let faults = holder.report().await?.faults;
        tally.with_faults(|all| all.merge(faults));
    }
    Ok(())
}

/// Heartbeats answered since last asked.
async fn acks(held: &mut [Holder], tally: &Tally) -> anyhow::Result<u64> {
    let mut acks = 0;
    for holder in held {
        let sight = holder.report().await?;
        acks += sight.acks.count();
        tally.with_faults(|all| all.merge(sight.faults));
    }
    Ok(acks)
}

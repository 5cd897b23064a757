//! One run: everybody joins, is heard, and is measured.

use std::{sync::atomic::Ordering, thread, time::Duration};

use anyhow::{Context, ensure};
use rollcall::{hub::Dirty, store::FlushBatch};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    beat::{Beats, beat},
    meter::{self, Memory},
    options::{ROOM, Run},
    table::progress,
    town::{Ground, Town, wait_for},
    wire::{Pipe, Wires},
};

/// Heartbeats whose cost is measured, if not one each is more; everybody's first is not among them.
const HEARTBEATS: usize = 200_000;
/// More from one client in a row the server would refuse (PROTOCOL.md, "Limits").
const IN_A_ROW: usize = 30;
/// How often a part of all is heard and collected.
const COLLECTIONS: usize = 5;

/// What was found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) connections: usize,
    pub(crate) welcome_members: usize,
    /// More than before the first join, each.
    pub(crate) resident_bytes_each: f64,
    pub(crate) live_bytes_each: f64,
    /// Right after everybody was seated, before anybody was heard.
    pub(crate) seated_resident_bytes_each: f64,
    /// Of the bench's own in the figures above: what it has in the place of a socket.
    pub(crate) own_bytes_each: usize,
    /// Of the bench's own before the first join, and so in none of the figures.
    pub(crate) client_bytes_each: usize,
    pub(crate) peak_bytes: usize,
    pub(crate) joins_per_second: f64,
    /// All that were answered.
    pub(crate) heartbeats: u64,
    pub(crate) cpu_micros_per_heartbeat: f64,
    pub(crate) heartbeats_per_second: f64,
    /// `Hub::collect_dirty` with one in ten dirty: the median.
    pub(crate) collect_ms: f64,
    /// A whole flush of as many: collected, coalesced, and written to the database in memory.
    pub(crate) flush_ms: f64,
    /// Of that, what the database in memory takes.
    pub(crate) store_ms: f64,
    pub(crate) idle_cpu_percent: f64,
    pub(crate) pongs: u64,
}

impl Figures {
    fn of(run: &Run) -> Self {
        Self {
            connections: run.connections,
            welcome_members: run.welcome_members,
            own_bytes_each: size_of::<Pipe>(),
            client_bytes_each: Wires::BYTES_EACH,
            ..Self::default()
        }
    }

    /// Whether a crowd has come and gone.
    pub(crate) fn is_crowded(&self) -> bool {
        self.welcome_members > ROOM
    }
}

/// Measures one run.
pub(crate) fn measure(run: &Run) -> anyhow::Result<Figures> {
    progress("making the database");
    let ground = Ground::lay(run)?;
    let closed = Memory::now()?;
    let town = ground.open()?;
    // The crowd is gone again when it is measured; what it leaves behind counts.
    let fresh = if run.is_crowded() {
        closed
    } else {
        Memory::now()?
    };
    let mut figures = Figures::of(run);
    join(&town, run, &mut figures)?;
    weigh(&town, &fresh, &mut figures)?;
    collect(&town, &mut figures)?;
    idle(&town, run, &mut figures)?;
    figures.peak_bytes = meter::peak()?;
    figures.pongs = town.wires.tally().pongs.load(Ordering::Relaxed);
    town.check()?;
    Ok(figures)
}

/// What everybody costs, seated and then heard.
fn weigh(town: &Town, fresh: &Memory, figures: &mut Figures) -> anyhow::Result<()> {
    let all = town.wires.len();
    town.flush()?;
    (figures.seated_resident_bytes_each, _) = Memory::now()?.each_since(fresh, all);
    hear(town, figures)?;
    town.flush()?;
    let heard = Memory::now()?.each_since(fresh, all);
    (figures.resident_bytes_each, figures.live_bytes_each) = heard;
    Ok(())
}

/// Everybody joins, and sees everybody of the room; the crowd, if there is one, leaves.
fn join(town: &Town, run: &Run, figures: &mut Figures) -> anyhow::Result<()> {
    progress(&format!("{} join", run.connections));
    let started = Instant::now();
    town.fill()?;
    let all = run.connections;
    let welcomes = &town.wires.tally().welcomes;
    let is_welcomed = || welcomes.load(Ordering::Acquire) == all as u64;
    wait_for(
        "everybody is welcomed",
        Duration::from_secs(60),
        is_welcomed,
    )?;
    figures.joins_per_second = all as f64 / started.elapsed().as_secs_f64();
    if run.is_crowded() {
        let full = town.wires.seeing(run.welcome_members as u32);
        ensure!(
            full == all,
            "{full} of {all} were welcomed by the whole crowd"
        );
        progress("the crowd leaves");
    }
    let patience = town.node.config.restart_grace + Duration::from_secs(30);
    let sees_room = || town.wires.seeing(ROOM as u32) == all;
    wait_for("everybody sees the room", patience, sees_room)?;
    town.check()
}

/// Everybody is heard twice or more often.
fn hear(town: &Town, figures: &mut Figures) -> anyhow::Result<()> {
    let all = town.wires.len();
    let rounds = HEARTBEATS.div_ceil(all).min(IN_A_ROW);
    progress(&format!("{} heartbeats each", rounds + 1));
    let mut beats = Beats::default();
    for round in 0..=rounds {
        let heard = beat(town.wires, 0..all)?;
        if round > 0 {
            beats.count += heard.count;
            beats.cpu += heard.cpu;
            beats.took += heard.took;
        }
    }
    let answered = town.wires.acknowledged(rounds as u32 + 1);
    ensure!(answered == all, "{answered} of {all} had every ack");
    figures.heartbeats = (all * (rounds + 1)) as u64;
    figures.cpu_micros_per_heartbeat = beats.cpu_micros_each();
    figures.heartbeats_per_second = beats.per_second();
    town.check()
}

/// One in ten is dirty.
fn collect(town: &Town, figures: &mut Figures) -> anyhow::Result<()> {
    let (mut collections, mut flushes, mut writes) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..COLLECTIONS * 2 {
        town.flush()?;
        beat(town.wires, (0..town.wires.len()).skip(turn).step_by(10))?;
        let started = Instant::now();
        if turn % 2 == 0 {
            town.flush()?;
            flushes.push(started.elapsed());
            continue;
        }
        let dirty = town.node.hub.collect_dirty();
        let took = started.elapsed();
        // Unless the flusher came first.
        if dirty.seen.len() >= town.wires.len() / 11 {
            collections.push(took);
            writes.push(write(town, &dirty)?);
        }
    }
    figures.collect_ms = median(&mut collections)?;
    figures.flush_ms = median(&mut flushes)?;
    figures.store_ms = median(&mut writes)?;
    town.flush()
}

/// How long the store takes to write this.
fn write(town: &Town, dirty: &Dirty) -> anyhow::Result<Duration> {
    let mut participants: Vec<_> = dirty.seen.iter().map(|heard| heard.seen).collect();
    participants.sort_unstable_by_key(|seen| seen.key);
    let batch = FlushBatch {
        participants,
        ..FlushBatch::default()
    };
    let started = Instant::now();
    town.block_on(town.node.store.flush(&batch))?;
    Ok(started.elapsed())
}

fn median(times: &mut [Duration]) -> anyhow::Result<f64> {
    times.sort_unstable();
    let middle = times.get(times.len() / 2);
    let middle = middle.context("the flusher always came first")?;
    Ok(middle.as_secs_f64() * 1e3)
}

fn idle(town: &Town, run: &Run, figures: &mut Figures) -> anyhow::Result<()> {
    progress("nothing happens");
    let (cpu, started) = (meter::cpu_of_others()?, Instant::now());
    thread::sleep(run.idle);
    let cpu = meter::cpu_of_others()? - cpu;
    figures.idle_cpu_percent = 100.0 * cpu.as_secs_f64() / started.elapsed().as_secs_f64();
    town.check()
}

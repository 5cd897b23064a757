//! Runs seeds, and says which one failed.

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use rand::RngExt;
use tokio::{runtime::Builder, time::Instant};

use crate::{
    database::Kind,
    link::Flow,
    log::{Breach, Log, breach},
    world::World,
};

/// What a run came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    pub steps: usize,
    pub connections: usize,
    /// Of simulated time.
    pub time: Duration,
    pub digest: u64,
}

/// Runs seeds one after the other.
pub fn run_all(seeds: Range<u64>, kind: Kind) {
    for seed in seeds {
        if let Err(failure) = run(seed, kind) {
            panic!("{failure}");
        }
    }
}

/// Runs seeds on all processors, says how it goes, and fails at the end with the first failure.
#[expect(clippy::print_stdout, reason = "somebody waits and watches")]
pub fn run_many(seeds: Range<u64>, kind: Kind) {
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new((Summary::default(), Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let ended = run(seed, kind);
            let (sum, failures) = &mut *sum.lock();
            match ended {
                Ok(one) => sum.add(one),
                Err(failure) => {
                    println!(
                        "{}",
                        failure
                            .lines()
                            .find(|line| line.starts_with("seed"))
                            .unwrap_or_default()
                    );
                    failures.push(failure);
                }
            }
            if (seed + 1 - seeds.start).is_multiple_of(500) {
                println!(
                    "{} seeds, {} failed",
                    seed + 1 - seeds.start,
                    failures.len()
                );
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    let (sum, failures) = sum.into_inner();
    println!(
        "{seeds:?} on {kind:?}: {} steps, {} connections, {} h of simulated time, {} failed",
        sum.steps,
        sum.connections,
        sum.time.as_secs() / 3600,
        failures.len()
    );
    if let Some(failure) = failures.first() {
        panic!("{failure}");
    }
}

/// What the environment asks for.
pub fn asked() -> (Range<u64>, Kind) {
    let variable = |name| std::env::var(name).ok();
    let kind = match variable("ROLLCALL_STORE").as_deref() {
        Some("Sqlite" | "sqlite") => Kind::Sqlite,
        _ => Kind::Memory,
    };
    let seeds = variable("ROLLCALL_SEEDS").unwrap_or_else(|| "0..1000".to_owned());
    let (first, end) = seeds.split_once("..").unwrap_or((&seeds, ""));
    let first: u64 = first.parse().expect("ROLLCALL_SEEDS is A..B, or one seed");
    let end = if end.is_empty() {
        first + 1
    } else {
        end.parse().expect("ROLLCALL_SEEDS is A..B")
    };
    (first..end, kind)
}

impl Summary {
    fn add(&mut self, one: Self) {
        self.steps += one.steps;
        self.connections += one.connections;
        self.time += one.time;
        self.digest ^= one.digest;
    }
}

/// One life. The error is what to print.
pub fn run(seed: u64, kind: Kind) -> Result<Summary, String> {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().start_paused(true);
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_be_bytes()));
    let runtime = builder.build().unwrap();
    let log = std::cell::RefCell::new(None::<Log>);
    let began = || {
        runtime.block_on(async {
            let mut world = World::new(seed, kind).await;
            log.replace(Some(world.log.clone()));
            let lived = live(&mut world).await;
            lived.map(|()| Summary {
                steps: world.log.step(),
                connections: world.conns.len(),
                time: world.log.age(),
                digest: world.log.digest(),
            })
        })
    };
    let ended = catch_unwind(AssertUnwindSafe(began));
    let why = match ended {
        Ok(Ok(summary)) => return Ok(summary),
        Ok(Err(Breach(why))) => {
            runtime.block_on(async { log.borrow().iter().for_each(|log| log.note("BREACH")) });
            why
        }
        Err(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|why| (*why).to_owned()))
            .unwrap_or_default(),
    };
    let log = log.take();
    let (step, tail) = log.map_or_else(Default::default, |log| (log.step(), log.tail(tail())));
    Err(format!(
        "{tail}\n\nseed {seed} on {kind:?}, step {step}: {why}\nagain: make simulate SEED={seed} STORE={kind:?}"
    ))
}

fn tail() -> usize {
    std::env::var("ROLLCALL_TAIL")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(50)
}

async fn live(world: &mut World) -> Result<(), Breach> {
    world.start_node().await?;
    for slot in 0..4 {
        world.create(slot).await;
    }
    world.check().await?;
    let steps = world.rng.random_range(40..240);
    for _ in 0..steps {
        world.step().await?;
    }
    finish(world).await
}

/// R10: everybody goes, and nothing is left.
async fn finish(world: &mut World) -> Result<(), Breach> {
    world.log.next_step();
    world.log.note("everybody goes");
    world.faults.heal();
    world.later.clear();
    for conn in &mut world.conns {
        conn.link.set(Flow::Cut);
        conn.fault
            .get_or_insert((crate::model::Fault::Cut, Instant::now()));
    }
    world.wait(Duration::from_secs(100)).await?;
    let (rooms, seats) = (world.node().hub.rooms(), world.node().hub.seats());
    if (rooms, seats) != (0, 0) {
        breach!("R10: everybody is gone, and {seats} seats in {rooms} rooms are held");
    }
    for ((key, who), member) in &world.members {
        let row = world.rows.participant(*key, &member.id);
        if row.is_some_and(|row| row.is_active) && member.unknown.is_none() {
            breach!("R10: everybody is gone, and {who} of room {key} is active");
        }
    }
    world.stop().await
}

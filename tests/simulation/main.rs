//! A deterministic simulation of a node and its world, which checks rules R1 to R10 after every step.
//!
//! One seed is one life: of rooms, people, links and the store, with everything that goes wrong in it, in paused time on
//! one thread, through the real connection code. A failing seed says so and how to run it again. With `--cfg
//! tokio_unstable`, as `make simulate` builds, the same seed is the same life to the last event; without it `select!`
//! draws its own order, and a seed is much the same.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]
#![expect(unreachable_pub, reason = "the modules are this program's own")]

mod application;
mod checks;
mod database;
mod faults;
mod holds;
mod link;
mod log;
mod model;
mod news;
mod peer;
mod people;
#[path = "../server/replay.rs"]
#[expect(dead_code, reason = "shared with the server's tests")]
mod replay;
mod restarts;
mod run;
mod steps;
mod store;
mod trouble;
mod verdicts;
mod world;

use self::{
    database::Kind,
    run::{asked, run_all, run_many},
};

/// A share of the seeds for each test, so that they run beside each other.
macro_rules! shares {
    ($($name:ident: $seeds:expr, $kind:ident;)*) => {
        $(
            #[test]
            fn $name() {
                run_all($seeds, Kind::$kind);
            }
        )*
    };
}

shares! {
    r1_to_r10_hold_in_memory_1: 0..25, Memory;
    r1_to_r10_hold_in_memory_2: 25..50, Memory;
    r1_to_r10_hold_in_memory_3: 50..75, Memory;
    r1_to_r10_hold_in_memory_4: 75..100, Memory;
    r1_to_r10_hold_on_sqlite_1: 0..4, Sqlite;
    r1_to_r10_hold_on_sqlite_2: 4..8, Sqlite;
}

/// With `--cfg tokio_unstable` a seed is one life, to the last event.
#[cfg(tokio_unstable)]
#[test]
fn a_seed_replays() {
    for seed in 0..5 {
        let first = run::run(seed, Kind::Memory).unwrap();
        let second = run::run(seed, Kind::Memory).unwrap();
        assert_eq!(first, second, "seed {seed}");
    }
}

/// `make simulate`: the seeds of `ROLLCALL_SEEDS` on the store of `ROLLCALL_STORE`, on all processors.
#[test]
#[ignore = "takes minutes"]
fn simulate() {
    let (seeds, kind) = asked();
    if seeds.end - seeds.start == 1 {
        run_all(seeds, kind);
    } else {
        run_many(seeds, kind);
    }
}

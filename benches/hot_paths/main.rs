//! What is done most often, each in a loop by itself, with its allocations counted.
//!
//! `cargo bench --bench hot_paths`, with a name for some of it (`-- heartbeat`) or `--quick` for a first look. TARGETS.md,
//! section 1, has the figures to reach.

#[path = "../million/client.rs"]
mod client;
mod crowd;
mod eviction;
mod fan_out;
mod flush;
mod frames;
mod heartbeat;
mod stalls;
#[expect(dead_code, reason = "what only the longer tables need")]
#[path = "../postgres/table.rs"]
mod table;
#[expect(dead_code, reason = "what only the million asks of its wires")]
#[path = "../million/wire.rs"]
mod wire;

use std::time::Duration;

use divan::{AllocProfiler, Divan};
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATIONS: AllocProfiler<Jemalloc> = AllocProfiler::new(Jemalloc);

fn main() {
    let is_told = |word: &str| std::env::args().any(|argument| argument == word);
    // `cargo test` runs benchmarks too, and nextest asks for a list: neither says `--bench`.
    if !is_told("--bench") {
        return;
    }
    if is_told("--quick") {
        let soon = Divan::default().sample_count(10);
        soon.max_time(Duration::from_millis(200)).run_benches();
    } else {
        Divan::from_args().main();
    }
    stalls::report();
}

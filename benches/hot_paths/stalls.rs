//! How long a heartbeat may have to wait while a million seats are collected for a flush.
//!
//! A machine with other work takes processors away for longer than that. What the listener was ready to run and had none is
//! taken off, and the same is measured beside work that has nothing to do with heartbeats.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use divan::black_box;
use tokio::time::Instant;

use crate::{
    crowd::{self, TOWN},
    flush::hear,
    table::{Table, shown},
};

/// How long to listen each time.
const WATCH: Duration = Duration::from_secs(5);
/// A heartbeat is not to wait for a flush any longer.
const LIMIT: Duration = Duration::from_millis(1);
/// Of times longer than this it is asked where they went.
const SUSPECT: Duration = Duration::from_micros(200);

/// The times of heartbeats.
#[derive(Default)]
struct Waits {
    count: usize,
    longest: Duration,
    beyond: usize,
}

/// Measures, and prints what was found.
pub(crate) fn report() {
    let mut table = Table::new(["meanwhile", "heartbeats", "longest ms", "beyond 1 ms"]);
    let collect: fn() = || drop(TOWN.hub.collect_dirty());
    for (meanwhile, work) in [
        ("something else", toil as fn()),
        ("10 % are collected", collect),
    ] {
        let waits = measure(work);
        table.row([
            meanwhile.to_owned(),
            waits.count.to_string(),
            shown(waits.longest.as_secs_f64() * 1e3),
            waits.beyond.to_string(),
        ]);
    }
    table.print(&format!(
        "How long a heartbeat takes, with {} seats",
        crowd::seats()
    ));
}

/// Keeps a processor busy for as long as collecting does, by sorting.
fn toil() {
    let mut numbers: Vec<_> = (0..crowd::seats() as u64 / 10)
        .map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .collect();
    numbers.sort_unstable();
    black_box(numbers);
}

fn measure(work: fn()) -> Waits {
    TOWN.hub.collect_dirty();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let heard = scope.spawn(|| listen(&is_over));
        let started = Instant::now();
        while started.elapsed() < WATCH {
            hear(10);
            work();
        }
        is_over.store(true, Ordering::Relaxed);
        heard.join().unwrap_or_default()
    })
}

/// Hears one after the other without a pause, and without a gap between the times.
fn listen(is_over: &AtomicBool) -> Waits {
    let (mut waits, mut withheld) = (Waits::default(), withheld());
    let mut started = Instant::now();
    for place in TOWN.places.iter().cycle() {
        place.hear();
        let ended = Instant::now();
        let took = ended - started;
        waits.count += 1;
        if took > SUSPECT {
            waits.note(took, &mut withheld);
        } else {
            waits.longest = waits.longest.max(took);
        }
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        started = if took > SUSPECT {
            Instant::now()
        } else {
            ended
        };
    }
    waits
}

impl Waits {
    /// Takes off a long time what of it this thread was ready to run and did not get to.
    fn note(&mut self, took: Duration, withheld_before: &mut Duration) {
        let withheld = withheld();
        let own = took.saturating_sub(withheld - *withheld_before);
        *withheld_before = withheld;
        self.longest = self.longest.max(own);
        self.beyond += usize::from(own > LIMIT);
    }
}

/// How long this thread has waited for a processor so far.
fn withheld() -> Duration {
    let line = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = line
        .split_whitespace()
        .nth(1)
        .and_then(|field| field.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

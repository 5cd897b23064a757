//! How long a heartbeat may have to wait while a million seats are collected for a flush.
//!
//! A machine with other work takes processors away for longer than that: the same is measured while nothing is collected,
//! and only what is beyond it counts.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    crowd::{self, TOWN},
    flush::hear,
    table::{Table, shown},
};

const COLLECTIONS: usize = 40;
/// A heartbeat is not to wait for a flush any longer.
const LIMIT: Duration = Duration::from_millis(1);

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
    for (meanwhile, collects) in [("nothing", false), ("10 % are collected", true)] {
        let waits = measure(collects);
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

fn measure(collects: bool) -> Waits {
    TOWN.hub.collect_dirty();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let heard = scope.spawn(|| listen(&is_over));
        for _ in 0..COLLECTIONS {
            hear(10);
            if collects {
                TOWN.hub.collect_dirty();
            } else {
                thread::sleep(Duration::from_millis(10));
            }
        }
        is_over.store(true, Ordering::Relaxed);
        heard.join().unwrap_or_default()
    })
}

/// Hears one after the other without a pause.
fn listen(is_over: &AtomicBool) -> Waits {
    let mut waits = Waits::default();
    for place in TOWN.places.iter().cycle() {
        let started = Instant::now();
        place.hear();
        let took = started.elapsed();
        waits.count += 1;
        waits.longest = waits.longest.max(took);
        waits.beyond += usize::from(took > LIMIT);
        if is_over.load(Ordering::Relaxed) {
            break;
        }
    }
    waits
}

//! What a sweep asks of memory: which of the rooms that look idle in the database are live, and the end of a room.
//!
//! The hub has no clock for rooms: idleness is the store's to tell, so there is no scan of rooms in memory to measure but
//! that of the store in memory.

use std::sync::LazyLock;

use divan::Bencher;
use rollcall::{
    clock::Clock,
    config::Config,
    hub::Ending,
    store::{ReapCriteria, RoomKey, Store, memory::MemoryStore},
};
use tokio::runtime::{Builder, Runtime};

use crate::crowd::{self, TOWN};

/// As many candidates as there are seats in the town, one in eight of them a live room.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn which_of_a_million_rooms_are_live(bencher: Bencher<'_, '_>) {
    let hub = &TOWN.hub;
    let candidates: Vec<_> = (1..=crowd::seats() as i64).map(RoomKey).collect();
    bencher.bench_local(|| {
        let live = candidates.iter().filter(|key| hub.is_live(**key));
        live.count()
    });
}

/// Rooms that were reaped, none of them live.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn forget_a_million_rooms(bencher: Bencher<'_, '_>) {
    let (hub, first) = (&TOWN.hub, crowd::seats() as i64);
    let reaped: Vec<_> = (first..first * 2).map(RoomKey).collect();
    bencher.bench_local(|| {
        for key in &reaped {
            hub.evict(*key, Ending::RoomExpired);
        }
    });
}

/// A room at its end, with everybody still there.
#[divan::bench(sample_size = 1)]
fn end_a_room_of_8(bencher: Bencher<'_, '_>) {
    let hub = crowd::hub();
    bencher
        .with_inputs(|| crowd::room(&hub, 8))
        .bench_local_refs(|places| hub.evict(places[0].room(), Ending::RoomExpired));
}

struct Database {
    runtime: Runtime,
    store: MemoryStore,
}

static DATABASE: LazyLock<Database> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    let store = MemoryStore::new(Clock::system());
    let settings = Config::default_dev().room_defaults();
    runtime.block_on(async {
        for room in 0..crowd::seats() {
            let id = format!("room-{room}").parse().expect("an id");
            let made = store.create_room(&id, &settings).await;
            made.expect("the memory store answers");
        }
    });
    Database { runtime, store }
});

/// No candidate among a million rooms.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn candidates_of_the_memory_store(bencher: Bencher<'_, '_>) {
    let Database { runtime, store } = &*DATABASE;
    bencher.bench_local(|| {
        let look = store.reap_candidates(ReapCriteria::default(), RoomKey(0), 10_000);
        runtime.block_on(look).expect("the memory store answers")
    });
}

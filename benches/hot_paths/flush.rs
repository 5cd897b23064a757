//! Collecting what a flush is to write, from a million seats.

use divan::Bencher;

use crate::crowd::TOWN;

/// So many of a hundred seats were heard since the last time.
#[divan::bench(args = [1, 10, 100], sample_count = 20, sample_size = 1)]
fn collect(bencher: Bencher<'_, '_>, percent: usize) {
    TOWN.hub.collect_dirty();
    bencher
        .with_inputs(|| hear(percent))
        .bench_local_refs(|_| TOWN.hub.collect_dirty());
}

/// Some are heard, all over the town.
pub(crate) fn hear(percent: usize) {
    for place in TOWN.places.iter().step_by(100 / percent) {
        place.hear();
    }
}

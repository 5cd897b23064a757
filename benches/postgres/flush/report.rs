//! What a flush cost, for people to read.

use super::{EACH_FEWER, Found, Sizes, WAYS};
use crate::{
    meter::Cost,
    table::{Goals, Table, shown},
};

pub(super) fn print(found: &[Found], dirty: usize, first: &Cost) {
    let mut table = Table::new([
        "way",
        "ms, median (least–most)",
        "× COPY",
        "rows/s",
        "WAL bytes per row",
        "PostgreSQL CPU ms",
        "client CPU ms",
    ]);
    for (way, own) in WAYS.iter().zip(found) {
        table.row([
            way.name().to_owned(),
            own.ms.shown(),
            shown(own.ms.ratio_to(&found[0].ms)),
            format!("{:.0}", dirty as f64 / own.ms.median() * 1_000.0),
            shown(own.wal_bytes_per_row.median()),
            format!("{:.0}", own.server_ms.median()),
            format!("{:.0}", own.client_ms.median()),
        ]);
    }
    table.row([
        "flush: everybody seen, the first after a checkpoint".to_owned(),
        format!("{:.0}", first.took_ms()),
        shown(first.took_ms() / found[0].ms.median()),
        format!("{:.0}", dirty as f64 / first.took.as_secs_f64()),
        shown(first.wal_bytes as f64 / dirty as f64),
        format!("{:.0}", first.server.as_secs_f64() * 1_000.0),
        format!("{:.0}", first.client.as_secs_f64() * 1_000.0),
    ]);
    table.print(&format!(
        "Flush of {dirty} participants ({EACH_FEWER} times fewer with a commit for each, scaled)"
    ));
}

pub(super) fn print_growth(before: &[Sizes], after: &[Sizes]) {
    let mut table = Table::new([
        "table, never vacuumed",
        "heap MB, before and after",
        "indexes MB, before and after",
    ]);
    let change =
        |before: i64, after: i64| format!("{:.1} → {:.1}", before as f64 / 1e6, after as f64 / 1e6);
    for (before, after) in before.iter().zip(after) {
        let (heap, indexes) = (
            change(before.heap, after.heap),
            change(before.indexes, after.indexes),
        );
        table.row([before.table.to_owned(), heap, indexes]);
    }
    table.print("Growth over all flushes");
}

pub(super) fn print_goals(found: &[Found], hot_percent: f64, before: &[Sizes], after: &[Sizes]) {
    let (copy, ours) = (&found[0], &found[1]);
    let growth = (after[0].total() / before[0].total() - 1.0) * 100.0;
    let mut goals = Goals::new();
    goals.at_most(
        "time, × COPY",
        ours.ms.ratio_to(&copy.ms),
        14.0,
        Some(10.0),
        "",
    );
    goals.at_most(
        "log, bytes per row",
        ours.wal_bytes_per_row.median(),
        105.0,
        None,
        "",
    );
    goals.at_least("heap-only updates", hot_percent, 99.0, None, "%");
    // A page here and there.
    goals.at_most("growth, table and indexes", growth, 0.5, None, "%");
    goals.print("Flush: figures to reach");
}

//! One sweep, step by step as `src/reaper.rs` does it, with a watch on every step.

use std::time::Duration;

use anyhow::ensure;
use rollcall::store::{FlushBatch, ReapCriteria, RoomKey, Store, postgres::PostgresStore};
use tokio::time::Instant;

/// Rooms looked at and deleted together, as in `src/reaper.rs`.
const PAGE: u32 = 500;
/// As in `src/reaper.rs`.
const KEEP_INVITES: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a sweep did.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    pub(crate) rooms: usize,
    pub(crate) participants: u64,
    pub(crate) took: Duration,
    /// Looking for candidates, all pages.
    pub(crate) looking: Duration,
    /// The longest transaction with locks: one `reap`, from asking for a connection to the answer of its commit.
    pub(crate) longest_lock: Duration,
}

/// Sweeps until there are no more candidates.
pub(crate) async fn sweep(store: &PostgresStore) -> anyhow::Result<Swept> {
    let criteria = ReapCriteria::default();
    let started = Instant::now();
    let mut swept = Swept::default();
    let mut after = RoomKey(0);
    loop {
        let looked = Instant::now();
        let candidates = store.reap_candidates(criteria, after, PAGE).await?;
        swept.looking += looked.elapsed();
        let Some(last) = candidates.last() else { break };
        after = last.key;
        // Nobody is live here, and nothing waits to be flushed; the reaper asks all the same.
        store.flush(&FlushBatch::default()).await?;
        let keys: Vec<RoomKey> = candidates.iter().map(|room| room.key).collect();
        let locked = Instant::now();
        let reaped = store.reap(&keys, criteria, false).await?;
        swept.longest_lock = swept.longest_lock.max(locked.elapsed());
        ensure!(
            reaped.len() == keys.len(),
            "{} of {} rooms were reaped",
            reaped.len(),
            keys.len()
        );
        swept.rooms += reaped.len();
        swept.participants += reaped.iter().map(|room| room.participants).sum::<u64>();
    }
    store.purge_invites(KEEP_INVITES, PAGE).await?;
    swept.took = started.elapsed();
    Ok(swept)
}

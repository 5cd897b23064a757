//! One sweep, step by step as `src/reaper.rs` does it, with a watch on every step.

use std::time::Duration;

use anyhow::ensure;
use rollcall::store::{FlushBatch, ReapCriteria, RoomKey, Store, postgres::PostgresStore};
use tokio::time::Instant;

/// Rooms looked for at once, as in `src/reaper.rs`.
const LOOK: u32 = 10_000;
/// Rooms deleted after one flush, as in `src/reaper.rs`.
const PAGE: usize = 1_000;
/// Rooms of one transaction, as in `src/store/postgres/reap.rs`.
const TRANSACTION: usize = 200;
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

impl Swept {
    async fn reap(&mut self, store: &PostgresStore, keys: &[RoomKey]) -> anyhow::Result<()> {
        let locked = Instant::now();
        let reaped = store.reap(keys, ReapCriteria::default(), false).await?;
        if keys.len() <= TRANSACTION {
            self.longest_lock = self.longest_lock.max(locked.elapsed());
        }
        ensure!(
            reaped.len() == keys.len(),
            "{} of {} rooms were reaped",
            reaped.len(),
            keys.len()
        );
        self.rooms += reaped.len();
        self.participants += reaped.iter().map(|room| room.participants).sum::<u64>();
        Ok(())
    }
}

/// Sweeps until there are no more candidates.
pub(crate) async fn sweep(store: &PostgresStore) -> anyhow::Result<Swept> {
    let criteria = ReapCriteria::default();
    let started = Instant::now();
    let mut swept = Swept::default();
    let mut after = RoomKey(0);
    loop {
        let looked = Instant::now();
        let candidates = store.reap_candidates(criteria, after, LOOK).await?;
        swept.looking += looked.elapsed();
        let Some(last) = candidates.last() else { break };
        after = *last;
        for (n, page) in candidates.chunks(PAGE).enumerate() {
            // Nobody is live here, and nothing waits to be flushed; the reaper asks all the same.
            store.flush(&FlushBatch::default()).await?;
            // Every other page transaction by transaction, which is longer, to see how long one of them is.
            let call = if n % 2 == 0 { PAGE } else { TRANSACTION };
            for keys in page.chunks(call) {
                swept.reap(store, keys).await?;
            }
        }
        if candidates.len() < LOOK as usize {
            break;
        }
    }
    store.purge_invites(KEEP_INVITES, PAGE as u32).await?;
    swept.took = started.elapsed();
    Ok(swept)
}

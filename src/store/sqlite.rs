//! The store in a SQLite file: one process, one writer connection, a few readers.
//!
//! Every write is a `BEGIN IMMEDIATE` on the one connection of the writer's pool. Waiting for it is first come, first
//! served, and what is long (flushes, sweeps) lets go between chunks, so a join waits for one chunk at most. A
//! transaction that is dropped is rolled back before the connection is given to the next.
//!
//! Every statement is awaited under `bounded`: SQLite has no other limit than the one on waiting for a lock.

mod admission;
mod flush;
mod invites;
mod node;
mod open;
mod participants;
mod reap;
mod rooms;
mod rows;
mod trial;

use std::{fs::File, path::PathBuf, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use rollcall_protocol::{InviteId, ParticipantId, RoomId, Timestamp};
use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction, pool::PoolConnection};

use self::rows::failed;
use crate::{
    clock::Clock,
    store::{
        Counts, Created, Facts, FlushBatch, Flushed, Identity, InviteKey, InviteRow, JoinBatch,
        LockWait, NewInvite, NodeTerms, ParticipantKey, ParticipantRow, Precision, ReapCriteria,
        ReapedRoom, Restored, RoomEndCause, RoomKey, RoomPatch, RoomRow, RoomSettings, Store,
        StoreClock, StoreError,
        columns::{broken, unavailable},
        verify::Check,
    },
};

/// A call, or a chunk of one, that takes longer than this has failed: whoever joins was told 503 long ago.
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// Taking over reads every participant once, before anybody is served.
const TAKE_OVER_LIMIT: Duration = Duration::from_secs(60);

/// Rooms, participants and invites in a SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    lock_path: PathBuf,
    /// Set from a successful `take_over` to `stop` or `close`.
    node: Mutex<Option<Node>>,
    /// Of the terms under which it was taken over.
    precision: Mutex<Precision>,
    source: Clock,
    clock: StoreClock,
}

/// This process as the one that serves the database.
#[derive(Debug)]
struct Node {
    id: i64,
    /// The operating system frees the lock with it.
    lock: File,
}

impl SqliteStore {
    /// Opens a database, making and migrating it when needed. `url` is `sqlite://path` or `sqlite:path`.
    ///
    /// # Errors
    /// [`StoreError::Broken`] if the URL is none, names a database in memory, or the file is not ours or is of a newer
    /// version; [`StoreError::Unavailable`] if it cannot be opened or migrated for now.
    pub async fn open(url: &str, clock: Clock) -> Result<Self, StoreError> {
        let options = open::options(url)?;
        let lock_path = open::lock_path(&options);
        let (writer, readers) = bounded(open::pools(options)).await?;
        let store_clock = StoreClock::new(clock.now());
        Ok(Self {
            writer,
            readers,
            lock_path,
            node: Mutex::new(None),
            precision: Mutex::default(),
            source: clock,
            clock: store_clock,
        })
    }

    /// Makes the database when it is missing, and brings its schema up to this version.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub async fn migrate(url: &str) -> Result<(), StoreError> {
        let options = open::options(url)?;
        let (writer, readers) = bounded(open::pools(options)).await?;
        readers.close().await;
        writer.close().await;
        Ok(())
    }

    /// Looks a database over, also while a server uses it: schema, indexes, settings, and a trial of flush, expiry and
    /// clean-up that is rolled back. Never makes a file.
    pub async fn verify(url: &str) -> Vec<Check> {
        trial::verify(url).await
    }

    /// The time, sampled: the database has no clock of its own, so this process's is the store's.
    fn now(&self) -> Timestamp {
        let now = self.source.now();
        self.clock.sample(now);
        now
    }

    fn node(&self) -> Option<i64> {
        self.node.lock().as_ref().map(|node| node.id)
    }

    async fn reader(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        self.now();
        self.readers.acquire().await.map_err(failed)
    }

    /// Takes the writer; what is read through it stays true until the commit.
    async fn begin(&self) -> Result<Write, StoreError> {
        let tx = self
            .writer
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(failed)?;
        // Only now: a verdict must not be older than what another writer did while this one waited.
        Ok(Write {
            tx,
            now: self.now(),
        })
    }
}

/// A write transaction; dropped, it never was.
struct Write {
    tx: Transaction<'static, Sqlite>,
    now: Timestamp,
}

impl Write {
    fn db(&mut self) -> &mut SqliteConnection {
        &mut self.tx
    }

    async fn commit(self) -> Result<(), StoreError> {
        self.tx.commit().await.map_err(failed)
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn clock(&self) -> &StoreClock {
        &self.clock
    }

    async fn take_over(&self, terms: NodeTerms) -> Result<Option<Restored>, StoreError> {
        // Asked again while it serves: the lock is this process's own already, and would refuse.
        let held = self.node.lock().take();
        let lock = match held {
            Some(node) => node.lock,
            None => match node::lock(&self.lock_path)? {
                Some(lock) => lock,
                None => return Ok(None),
            },
        };
        let (id, restored) = within(TAKE_OVER_LIMIT, async {
            let mut write = self.begin().await?;
            let now = write.now;
            let taken = node::take_over(write.db(), now, terms).await?;
            write.commit().await?;
            Ok(taken)
        })
        .await?;
        *self.node.lock() = Some(Node { id, lock });
        *self.precision.lock() = terms.last_seen_precision;
        Ok(Some(restored))
    }

    async fn stop(&self) -> Result<(), StoreError> {
        let Some(id) = self.node() else { return Ok(()) };
        bounded(async {
            let mut write = self.begin().await?;
            let now = write.now;
            node::stopped(write.db(), id, now).await?;
            write.commit().await
        })
        .await?;
        self.node.lock().take();
        Ok(())
    }

    async fn close(&self) {
        self.readers.close().await;
        // Last: closing the last connection folds the write-ahead log into the file.
        self.writer.close().await;
        self.node.lock().take();
    }

    async fn ping(&self) -> Result<(), StoreError> {
        bounded(async { open::check_version(&mut *self.reader().await?).await }).await
    }

    async fn signing_key(&self) -> Result<[u8; 32], StoreError> {
        bounded(async {
            if let Some(key) = node::signing_key(&mut *self.reader().await?).await? {
                return Ok(key);
            }
            let mut write = self.begin().await?;
            let now = write.now;
            node::make_signing_key(write.db(), now).await?;
            let key = node::signing_key(write.db()).await?;
            write.commit().await?;
            key.ok_or_else(|| broken("the signing key is not there after it was made"))
        })
        .await
    }

    async fn begin_joins(
        &self,
        identities: &[Identity],
        _wait: LockWait,
    ) -> Result<Box<dyn JoinBatch>, StoreError> {
        let precision = *self.precision.lock();
        let batch = bounded(async {
            admission::Batch::begin(self.begin().await?, identities, precision).await
        })
        .await?;
        Ok(Box::new(batch))
    }

    async fn facts(&self, identity: &Identity) -> Result<(Timestamp, Facts), StoreError> {
        bounded(async {
            let mut db = self.reader().await?;
            let now = self.now();
            Ok((now, admission::find(&mut db, now, identity).await?))
        })
        .await
    }

    async fn flush(&self, batch: &FlushBatch) -> Result<Flushed, StoreError> {
        flush::flush(self, batch).await
    }

    async fn reap_candidates(
        &self,
        criteria: ReapCriteria,
        after: RoomKey,
        limit: u32,
    ) -> Result<Vec<RoomKey>, StoreError> {
        bounded(async {
            let mut db = self.reader().await?;
            reap::candidates(&mut db, self.now(), criteria, after, limit).await
        })
        .await
    }

    async fn reap(
        &self,
        keys: &[RoomKey],
        criteria: ReapCriteria,
        dry_run: bool,
    ) -> Result<Vec<ReapedRoom>, StoreError> {
        if !dry_run {
            return reap::reap(self, keys, criteria).await;
        }
        bounded(async {
            let mut db = self.reader().await?;
            reap::would_reap(&mut db, self.now(), keys, criteria).await
        })
        .await
    }

    async fn purge_invites(&self, keep: Duration, limit: u32) -> Result<u64, StoreError> {
        bounded(async {
            let mut write = self.begin().await?;
            let now = write.now;
            invites::adopt(write.db(), now, limit).await?;
            let purged = invites::purge(write.db(), now, keep, limit).await?;
            write.commit().await?;
            Ok(purged)
        })
        .await
    }

    async fn purge_departed(&self, keep: Duration, limit: u32) -> Result<u64, StoreError> {
        bounded(async {
            let mut write = self.begin().await?;
            let now = write.now;
            let purged = participants::purge_departed(write.db(), now, keep, limit).await?;
            write.commit().await?;
            Ok(purged)
        })
        .await
    }

    async fn create_room(
        &self,
        id: &RoomId,
        settings: &RoomSettings,
    ) -> Result<Created, StoreError> {
        bounded(async {
            let mut write = self.begin().await?;
            let now = write.now;
            let created = rooms::create(write.db(), now, id, settings).await?;
            write.commit().await?;
            Ok(created)
        })
        .await
    }

    async fn room(&self, id: &RoomId) -> Result<Option<RoomRow>, StoreError> {
        bounded(async { rooms::find(&mut *self.reader().await?, id).await }).await
    }

    async fn room_by_key(&self, key: RoomKey) -> Result<Option<RoomRow>, StoreError> {
        bounded(async { rooms::find_by_key(&mut *self.reader().await?, key).await }).await
    }

    async fn last_activity(&self, key: RoomKey) -> Result<Option<Timestamp>, StoreError> {
        bounded(async { rooms::last_activity(&mut *self.reader().await?, key).await }).await
    }

    async fn rooms(&self, after: RoomKey, limit: u32) -> Result<Vec<RoomRow>, StoreError> {
        bounded(async { rooms::list(&mut *self.reader().await?, after, limit).await }).await
    }

    async fn patch_room(
        &self,
        id: &RoomId,
        patch: &RoomPatch,
    ) -> Result<Option<RoomRow>, StoreError> {
        bounded(async {
            let mut write = self.begin().await?;
            let room = rooms::patch(write.db(), id, patch).await?;
            write.commit().await?;
            Ok(room)
        })
        .await
    }

    async fn touch_room(&self, id: &RoomId) -> Result<Option<RoomRow>, StoreError> {
        bounded(async {
            let mut write = self.begin().await?;
            let now = write.now;
            let Some(room) = rooms::find(write.db(), id).await? else {
                return Ok(None);
            };
            let room = rooms::touch(write.db(), now, room.key).await?;
            write.commit().await?;
            Ok(room)
        })
        .await
    }

    async fn delete_room(&self, id: &RoomId) -> Result<Option<RoomRow>, StoreError> {
        bounded(async {
            let mut write = self.begin().await?;
            let now = write.now;
            let Some(room) = rooms::find(write.db(), id).await? else {
                return Ok(None);
            };
            rooms::end(write.db(), now, &[(room.key, RoomEndCause::Closed)]).await?;
            write.commit().await?;
            Ok(Some(room))
        })
        .await
    }

    async fn participants(
        &self,
        room: RoomKey,
        after: ParticipantKey,
        limit: u32,
    ) -> Result<Vec<ParticipantRow>, StoreError> {
        bounded(async { participants::list(&mut *self.reader().await?, room, after, limit).await })
            .await
    }

    async fn participant(
        &self,
        room: RoomKey,
        id: ParticipantId,
    ) -> Result<Option<ParticipantRow>, StoreError> {
        bounded(async { participants::find(&mut *self.reader().await?, room, id).await }).await
    }

    async fn remove_participant(
        &self,
        room: RoomKey,
        id: ParticipantId,
        bar: bool,
        revoke_invite: bool,
    ) -> Result<Option<ParticipantRow>, StoreError> {
        bounded(async {
            let mut write = self.begin().await?;
            let now = write.now;
            let Some(found) = participants::find(write.db(), room, id).await? else {
                return Ok(None);
            };
            let left_at = self.precision.lock().round(now);
            let removed = participants::remove(write.db(), now, left_at, found.key, bar).await?;
            if let (true, Some(invite)) = (revoke_invite, found.invite_key) {
                invites::revoke_by_key(write.db(), now, invite).await?;
            }
            write.commit().await?;
            Ok(removed)
        })
        .await
    }

    async fn restore_participant(
        &self,
        room: RoomKey,
        id: ParticipantId,
    ) -> Result<Option<ParticipantRow>, StoreError> {
        bounded(async {
            let mut write = self.begin().await?;
            let restored = participants::restore(write.db(), room, id).await?;
            write.commit().await?;
            Ok(restored)
        })
        .await
    }

    async fn create_invite(
        &self,
        room: &RoomId,
        invite: &NewInvite,
    ) -> Result<Option<InviteRow>, StoreError> {
        bounded(async {
            let mut write = self.begin().await?;
            let now = write.now;
            let Some(room) = rooms::find(write.db(), room).await? else {
                return Ok(None);
            };
            let invite = invites::create(write.db(), now, &room, invite).await?;
            write.commit().await?;
            Ok(Some(invite))
        })
        .await
    }

    async fn invites(
        &self,
        room: RoomKey,
        after: InviteKey,
        limit: u32,
    ) -> Result<Vec<InviteRow>, StoreError> {
        bounded(async { invites::list(&mut *self.reader().await?, room, after, limit).await }).await
    }

    async fn revoke_invite(&self, id: InviteId) -> Result<Option<InviteRow>, StoreError> {
        bounded(async {
            let mut write = self.begin().await?;
            let now = write.now;
            let invite = invites::revoke(write.db(), now, id).await?;
            write.commit().await?;
            Ok(invite)
        })
        .await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        bounded(async { rooms::counts(&mut *self.reader().await?).await }).await
    }
}

/// Gives work its limit. What is dropped at the limit rolls back, unless it was the commit.
async fn bounded<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    within(CALL_LIMIT, work).await
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, work).await {
        Ok(answer) => answer,
        Err(elapsed) => Err(unavailable(elapsed)),
    }
}

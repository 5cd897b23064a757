//! The store in PostgreSQL 13 and newer, for production.
//!
//! Every call is a transaction of its own, or a few bounded ones, opened by a line that carries all its settings
//! (`transaction`): nothing rests on what a session was told before, so a transaction-mode pooler may sit between. The
//! database's clock is the store's. Joins and requests share one pool, flush and reaper have another: neither waits
//! for the other's connections.
//!
//! Three limits, the innermost first: a statement's and a lock's, which the server keeps; this process's own (`bounded`),
//! because a server that hangs keeps no limit at all.

mod admission;
mod flush;
mod invites;
mod node;
mod open;
mod participants;
mod reap;
mod rooms;
mod rows;
mod transaction;
mod trial;

use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rollcall_protocol::{InviteId, ParticipantId, RoomId, Timestamp};
use sqlx::{Connection, PgPool, SqlStr};
use tokio::time::Instant;

use self::{
    admission::Asker,
    node::Charge,
    rows::failed,
    transaction::{Openings, Transaction, Write},
};
use crate::{
    clock::Clock,
    config::Database,
    store::{
        Counts, Created, Facts, FlushBatch, Flushed, Identity, InviteKey, InviteRow, JoinBatch,
        LockWait, NewInvite, NodeTerms, ParticipantKey, ParticipantRow, Precision, ReapCriteria,
        ReapedRoom, Restored, RoomKey, RoomPatch, RoomRow, RoomSettings, Store, StoreClock,
        StoreError,
        columns::{broken, unavailable},
        verify::Check,
    },
    telemetry::chain,
};

/// A call, or a chunk of one, that takes longer than this has failed: whoever joins was told 503 long ago.
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// Taking over reads every participant once, before anybody is served; a migration may rewrite every row.
const LONG_CALL_LIMIT: Duration = Duration::from_secs(65);
/// A node that looks silent must have looked so through this much of a reachable database: after an outage it is given
/// the time to say that it is there. Its flusher tries once a second.
const WATCH: Duration = Duration::from_secs(3);

/// Rooms, participants and invites in PostgreSQL.
#[derive(Debug)]
pub struct PostgresStore {
    /// Joins and requests.
    front: PgPool,
    /// Flush and reaper.
    background: PgPool,
    openings: Openings,
    /// This process's row of `nodes`, from a successful `take_over` to `stop`.
    node: Mutex<Option<i64>>,
    /// Of the terms under which it was taken over.
    precision: Mutex<Precision>,
    /// Since when another node has looked silent, without a failed look between.
    silent_since: Mutex<Option<Instant>>,
    source: Clock,
    clock: StoreClock,
}

impl PostgresStore {
    /// Connects, and brings the schema up to this version, making it when needed. Waits for a database that is not there
    /// yet, as long as `database` says. A manual clock stands in for the database's own.
    ///
    /// # Errors
    /// [`StoreError::Broken`] if the address is none, or the database refuses this user, or the schema is of a newer
    /// version; [`StoreError::Unavailable`] if the database cannot be reached for now.
    pub async fn open(database: &Database, clock: Clock) -> Result<Self, StoreError> {
        let options = open::options(database)?;
        let openings = Openings::new(&database.schema);
        prepare(database, &openings).await?;
        let (front, background) = open::pools(&options, database.connections);
        let store = Self {
            front,
            background,
            openings,
            node: Mutex::new(None),
            precision: Mutex::default(),
            silent_since: Mutex::new(None),
            clock: StoreClock::new(clock.now()),
            source: clock,
        };
        store.ping().await?;
        Ok(store)
    }

    /// Brings the schema up to this version, making it when needed. Safe from several processes at once.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub async fn migrate(database: &Database) -> Result<(), StoreError> {
        prepare(database, &Openings::new(&database.schema)).await
    }

    /// Looks a database over, also while a server uses it: schema, functions, triggers, indexes, the share of heap-only
    /// updates, and a trial of flush, expiry and clean-up that is rolled back.
    pub async fn verify(database: &Database) -> Vec<Check> {
        trial::verify(database).await
    }

    fn node(&self) -> Option<i64> {
        *self.node.lock()
    }

    fn manual_now(&self) -> Option<Timestamp> {
        self.source.manual_now()
    }

    fn asker(&self) -> Asker<'_> {
        Asker {
            node: self.node(),
            manual_now: self.manual_now(),
            clock: &self.clock,
        }
    }

    async fn read(&self) -> Result<Transaction, StoreError> {
        Transaction::begin(&self.front, &self.openings.read).await
    }

    async fn begin(&self, pool: &PgPool) -> Result<Write, StoreError> {
        self.begin_as(pool, &self.openings.write, self.node()).await
    }

    async fn begin_as(
        &self,
        pool: &PgPool,
        opening: &SqlStr,
        node: Option<i64>,
    ) -> Result<Write, StoreError> {
        let mut transaction = Transaction::begin(pool, opening).await?;
        let now = node::now(transaction.db(), node, self.manual_now()).await?;
        self.clock.sample(now);
        Ok(Write { transaction, now })
    }

    /// Who is in charge, looked at without keeping anybody from anything.
    async fn charge(&self) -> Result<Charge, StoreError> {
        let mut tx = self.read().await?;
        let now = node::now(tx.db(), None, self.manual_now()).await?;
        let charge = node::charge(tx.db(), now, self.node()).await?;
        tx.commit().await?;
        Ok(charge)
    }

    /// Whether this process may take over by what it has just found.
    fn may_take_over(&self, charge: Result<Charge, StoreError>) -> Result<bool, StoreError> {
        let mut silent_since = self.silent_since.lock();
        match charge {
            Ok(Charge::Silent) => {
                let since = *silent_since.get_or_insert_with(Instant::now);
                Ok(since.elapsed() >= WATCH)
            }
            Ok(charge) => {
                *silent_since = None;
                Ok(charge == Charge::Free)
            }
            Err(error) => {
                *silent_since = None;
                Err(error)
            }
        }
    }
}

/// Waits for the database and migrates it.
async fn prepare(database: &Database, openings: &Openings) -> Result<(), StoreError> {
    let options = open::options(database)?;
    let mut connection = open::connect(&options, database.wait).await?;
    let work = async {
        open::migrate(&mut connection, &database.schema, openings).await?;
        connection.close().await.map_err(failed)
    };
    within(LONG_CALL_LIMIT, work).await
}

#[async_trait]
impl Store for PostgresStore {
    fn clock(&self) -> &StoreClock {
        &self.clock
    }

    async fn take_over(&self, terms: NodeTerms) -> Result<Option<Restored>, StoreError> {
        if !self.may_take_over(bounded(self.charge()).await)? {
            return Ok(None);
        }
        let taken = within(LONG_CALL_LIMIT, async {
            let own = self.node();
            let mut write = self
                .begin_as(&self.background, &self.openings.take_over, None)
                .await?;
            node::lock(write.db()).await?;
            // Another may have come first while this one waited.
            let now = node::now(write.db(), None, self.manual_now()).await?;
            if node::charge(write.db(), now, own).await? == Charge::Taken {
                write.transaction.rollback().await?;
                return Ok(None);
            }
            let taken = node::take_over(write.db(), now, terms).await?;
            write.commit().await?;
            Ok(Some(taken))
        })
        .await;
        let taken = match taken {
            // Somebody is still writing, a clean-up by hand perhaps: no reason not to start, only to ask again.
            Err(StoreError::Locked(error)) => {
                tracing::debug!(error = %chain(&*error), "cannot take over while rows are locked");
                None
            }
            taken => taken?,
        };
        Ok(taken.map(|(id, restored)| {
            *self.node.lock() = Some(id);
            *self.precision.lock() = terms.last_seen_precision;
            restored
        }))
    }

    async fn stop(&self) -> Result<(), StoreError> {
        let Some(id) = self.node() else { return Ok(()) };
        bounded(async {
            let mut write = self.begin(&self.background).await?;
            let now = write.now;
            node::stopped(write.db(), id, now).await?;
            write.commit().await
        })
        .await?;
        self.node.lock().take();
        Ok(())
    }

    async fn close(&self) {
        let pools = async {
            self.front.close().await;
            self.background.close().await;
            Ok(())
        };
        // A server that hangs sees the connections end with the process.
        let _ = bounded(pools).await;
    }

    async fn ping(&self) -> Result<(), StoreError> {
        bounded(async {
            let mut tx = self.read().await?;
            open::check_version(tx.db()).await?;
            let now = node::now(tx.db(), self.node(), self.manual_now()).await?;
            self.clock.sample(now);
            tx.commit().await
        })
        .await
    }

    async fn signing_key(&self) -> Result<[u8; 32], StoreError> {
        bounded(async {
            let mut write = self.begin(&self.front).await?;
            let now = write.now;
            let key = match node::signing_key(write.db()).await? {
                Some(key) => Some(key),
                None => {
                    node::make_signing_key(write.db(), now).await?;
                    node::signing_key(write.db()).await?
                }
            };
            write.commit().await?;
            key.ok_or_else(|| broken("the signing key is not there after it was made"))
        })
        .await
    }

    async fn begin_joins(
        &self,
        identities: &[Identity],
        wait: LockWait,
    ) -> Result<Box<dyn JoinBatch>, StoreError> {
        bounded(async {
            let precision = *self.precision.lock();
            let transaction = Transaction::begin(&self.front, &self.openings.write).await?;
            let batch =
                admission::Batch::begin(transaction, identities, wait, self.asker(), precision)
                    .await?;
            Ok(Box::new(batch) as Box<dyn JoinBatch>)
        })
        .await
    }

    async fn facts(&self, identity: &Identity) -> Result<(Timestamp, Facts), StoreError> {
        bounded(async {
            let mut tx = self.read().await?;
            let found = admission::facts(tx.db(), identity, self.asker()).await?;
            tx.commit().await?;
            Ok(found)
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
            let mut tx = Transaction::begin(&self.background, &self.openings.read).await?;
            let now = node::now(tx.db(), None, self.manual_now()).await?;
            let found = reap::candidates(tx.db(), now, criteria, after, limit).await?;
            tx.commit().await?;
            Ok(found)
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
            let mut write = self.begin(&self.background).await?;
            let now = Some(write.now);
            let (rooms, _) = reap::reap_rooms(write.db(), now, None, keys, criteria, true).await?;
            write.transaction.rollback().await?;
            Ok(rooms)
        })
        .await
    }

    async fn purge_invites(&self, keep: Duration, limit: u32) -> Result<u64, StoreError> {
        bounded(async {
            let mut write = self.begin(&self.background).await?;
            let now = write.now;
            let purged = invites::purge(write.db(), now, keep, limit).await?;
            write.commit().await?;
            Ok(purged)
        })
        .await
    }

    async fn purge_departed(&self, keep: Duration, limit: u32) -> Result<u64, StoreError> {
        bounded(async {
            let mut write = self.begin(&self.background).await?;
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
            let mut write = self.begin(&self.front).await?;
            let now = write.now;
            let created = rooms::create(write.db(), now, id, settings).await?;
            write.commit().await?;
            Ok(created)
        })
        .await
    }

    async fn room(&self, id: &RoomId) -> Result<Option<RoomRow>, StoreError> {
        bounded(async {
            let mut tx = self.read().await?;
            let room = rooms::find(tx.db(), id).await?;
            tx.commit().await?;
            Ok(room)
        })
        .await
    }

    async fn room_by_key(&self, key: RoomKey) -> Result<Option<RoomRow>, StoreError> {
        bounded(async {
            let mut tx = self.read().await?;
            let room = rooms::find_by_key(tx.db(), key).await?;
            tx.commit().await?;
            Ok(room)
        })
        .await
    }

    async fn last_activity(&self, key: RoomKey) -> Result<Option<Timestamp>, StoreError> {
        bounded(async {
            let mut tx = self.read().await?;
            let at = rooms::last_activity(tx.db(), key).await?;
            tx.commit().await?;
            Ok(at)
        })
        .await
    }

    async fn rooms(&self, after: RoomKey, limit: u32) -> Result<Vec<RoomRow>, StoreError> {
        bounded(async {
            let mut tx = self.read().await?;
            let rooms = rooms::list(tx.db(), after, limit).await?;
            tx.commit().await?;
            Ok(rooms)
        })
        .await
    }

    async fn patch_room(
        &self,
        id: &RoomId,
        patch: &RoomPatch,
    ) -> Result<Option<RoomRow>, StoreError> {
        bounded(async {
            let mut write = self.begin(&self.front).await?;
            let room = rooms::patch(write.db(), id, patch).await?;
            write.commit().await?;
            Ok(room)
        })
        .await
    }

    async fn touch_room(&self, id: &RoomId) -> Result<Option<RoomRow>, StoreError> {
        bounded(async {
            let mut write = self.begin(&self.front).await?;
            let now = write.now;
            let room = rooms::touch(write.db(), now, id).await?;
            write.commit().await?;
            Ok(room)
        })
        .await
    }

    async fn delete_room(&self, id: &RoomId) -> Result<Option<RoomRow>, StoreError> {
        bounded(async {
            let mut write = self.begin(&self.front).await?;
            let now = write.now;
            let room = rooms::close(write.db(), now, id).await?;
            write.commit().await?;
            Ok(room)
        })
        .await
    }

    async fn participants(
        &self,
        room: RoomKey,
        after: ParticipantKey,
        limit: u32,
    ) -> Result<Vec<ParticipantRow>, StoreError> {
        bounded(async {
            let mut tx = self.read().await?;
            let people = participants::list(tx.db(), room, after, limit).await?;
            tx.commit().await?;
            Ok(people)
        })
        .await
    }

    async fn participant(
        &self,
        room: RoomKey,
        id: ParticipantId,
    ) -> Result<Option<ParticipantRow>, StoreError> {
        bounded(async {
            let mut tx = self.read().await?;
            let found = participants::find(tx.db(), room, id).await?;
            tx.commit().await?;
            Ok(found)
        })
        .await
    }

    async fn remove_participant(
        &self,
        room: RoomKey,
        id: ParticipantId,
        bar: bool,
        revoke_invite: bool,
    ) -> Result<Option<ParticipantRow>, StoreError> {
        bounded(async {
            let mut write = self.begin(&self.front).await?;
            let now = write.now;
            let left_at = self.precision.lock().round(now);
            // A join of the same participant comes wholly before or wholly after.
            rooms::lock_by_key(write.db(), room).await?;
            let removed = participants::remove(write.db(), now, left_at, room, id, bar).await?;
            let invite = removed.as_ref().and_then(|row| row.invite_key);
            if let (true, Some(invite)) = (revoke_invite, invite) {
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
            let mut write = self.begin(&self.front).await?;
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
            let mut write = self.begin(&self.front).await?;
            let now = write.now;
            let invite = match rooms::lock(write.db(), room).await? {
                Some(room) => Some(invites::create(write.db(), now, &room, invite).await?),
                None => None,
            };
            write.commit().await?;
            Ok(invite)
        })
        .await
    }

    async fn invites(
        &self,
        room: RoomKey,
        after: InviteKey,
        limit: u32,
    ) -> Result<Vec<InviteRow>, StoreError> {
        bounded(async {
            let mut tx = self.read().await?;
            let invites = invites::list(tx.db(), room, after, limit).await?;
            tx.commit().await?;
            Ok(invites)
        })
        .await
    }

    async fn revoke_invite(&self, id: InviteId) -> Result<Option<InviteRow>, StoreError> {
        bounded(async {
            let mut write = self.begin(&self.front).await?;
            let now = write.now;
            let invite = invites::revoke(write.db(), now, id).await?;
            write.commit().await?;
            Ok(invite)
        })
        .await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        bounded(async {
            let mut tx = self.read().await?;
            let counts = rooms::counts(tx.db()).await?;
            tx.commit().await?;
            Ok(counts)
        })
        .await
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

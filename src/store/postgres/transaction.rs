//! One transaction on a pooled connection, and the line that opens it.
//!
//! The line carries every setting, each `LOCAL` to the transaction: a transaction-mode pooler gives the session to somebody
//! else afterwards, so nothing may rest on what it was told before. For the same reason statements have no names on the
//! server (`statement`).

use sqlx::{
    AssertSqlSafe, PgConnection, PgPool, Postgres, SqlSafeStr, SqlStr,
    pool::PoolConnection,
    postgres::PgArguments,
    query::{Query, QueryScalar},
};
use tokio::time::timeout;

use super::{Timestamp, open::PING_LIMIT, rows::failed};
use crate::store::StoreError;

/// Reads to the server, before the client gives up after its own limit: then the connection is still good.
const STATEMENT_LIMIT_MS: u32 = 4_000;
/// For what may read or write every row once.
const LONG_STATEMENT_LIMIT_MS: u32 = 60_000;
/// Less than a join may wait for its answer.
const LOCK_LIMIT_MS: u32 = 1_000;
/// A process that was stopped in the middle of a transaction must not keep rooms locked.
const IDLE_LIMIT_MS: u32 = 10_000;

/// The lines that open transactions, for one schema.
#[derive(Debug)]
pub(super) struct Openings {
    /// Looks only.
    pub(super) read: SqlStr,
    /// Writes as the server, which the trigger for other writers passes over, and holds off a take-over.
    pub(super) write: SqlStr,
    /// Writes many rows by their keys. In the order of the keys, one lookup each: a join that reads the whole index or table
    /// instead takes twice the time for 100,000 of 1,000,000 rows, and locks rows in an order of its own.
    pub(super) flush: SqlStr,
    /// Deletes rooms, and does not wait for the disk with their locks.
    pub(super) reap: SqlStr,
    /// Takes the database over: once per start, and everything is looked at.
    pub(super) take_over: SqlStr,
    /// Makes the schema's tables; waits for whoever is doing so.
    pub(super) migrate: SqlStr,
}

impl Openings {
    /// `schema` is a plain name: lower case, digits, underscores.
    pub(super) fn new(schema: &str) -> Self {
        // Compiling a statement takes longer than any of these run, which the planner cannot see from a batch's size.
        let line = |mode: &str, statement_ms: u32, lock_ms: u32, more: &str| {
            let line = format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED {mode}; SET LOCAL search_path TO \"{schema}\", pg_temp; \
                 SET LOCAL jit = off; \
                 SET LOCAL statement_timeout = {statement_ms}; SET LOCAL lock_timeout = {lock_ms}; \
                 SET LOCAL idle_in_transaction_session_timeout = {IDLE_LIMIT_MS}{more}"
            );
            AssertSqlSafe(line).into_sql_str()
        };
        let server = "; SET LOCAL rollcall.writer = 'server'";
        let fence = format!("{server}; LOCK TABLE nodes IN ROW SHARE MODE");
        let by_key =
            format!("{fence}; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off");
        Self {
            flush: line("READ WRITE", STATEMENT_LIMIT_MS, LOCK_LIMIT_MS, &by_key),
            read: line("READ ONLY", STATEMENT_LIMIT_MS, LOCK_LIMIT_MS, ""),
            write: line("READ WRITE", STATEMENT_LIMIT_MS, LOCK_LIMIT_MS, &fence),
            reap: line(
                "READ WRITE",
                STATEMENT_LIMIT_MS,
                LOCK_LIMIT_MS,
                &format!("{fence}; SET LOCAL synchronous_commit = off"),
            ),
            take_over: line("READ WRITE", LONG_STATEMENT_LIMIT_MS, LOCK_LIMIT_MS, server),
            migrate: line(
                "READ WRITE",
                LONG_STATEMENT_LIMIT_MS,
                LONG_STATEMENT_LIMIT_MS,
                server,
            ),
        }
    }
}

/// An open transaction. Dropped before its end, it takes the connection with it: what was going on there is not known,
/// and a server that hangs would hold the pool's place for as long.
pub(super) struct Transaction {
    connection: PoolConnection<Postgres>,
    is_open: bool,
}

impl Transaction {
    /// Takes a connection and opens a transaction on it.
    pub(super) async fn begin(pool: &PgPool, opening: &SqlStr) -> Result<Self, StoreError> {
        let connection = pool.acquire().await.map_err(failed)?;
        let mut transaction = Self {
            connection,
            is_open: true,
        };
        transaction.run(opening.clone()).await?;
        Ok(transaction)
    }

    /// The connection, inside the transaction.
    pub(super) fn db(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Makes it last.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        self.end(SqlStr::from_static("COMMIT")).await
    }

    /// Makes it last and opens the next one on the same connection, in one round trip.
    pub(super) async fn commit_and_begin(mut self, opening: &SqlStr) -> Result<Self, StoreError> {
        let line = format!("COMMIT; {}", opening.as_str());
        self.run(AssertSqlSafe(line).into_sql_str()).await?;
        Ok(self)
    }

    /// Takes it back.
    pub(super) async fn rollback(self) -> Result<(), StoreError> {
        self.end(SqlStr::from_static("ROLLBACK")).await
    }

    async fn end(mut self, how: SqlStr) -> Result<(), StoreError> {
        self.run(how).await?;
        self.is_open = false;
        Ok(())
    }

    async fn run(&mut self, line: SqlStr) -> Result<(), StoreError> {
        sqlx::raw_sql(line)
            .execute(&mut *self.connection)
            .await
            .map(drop)
            .map_err(failed)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.is_open {
            self.connection.close_on_drop();
            return;
        }
        // sqlx would do the same without the limit: on its way back the connection is pinged, and where the network drops
        // what is sent its place in the pool would be lost.
        let back = timeout(PING_LIMIT, self.connection.return_to_pool());
        #[expect(
            clippy::disallowed_methods,
            reason = "bounded, and sqlx's own spawn otherwise"
        )]
        tokio::spawn(back);
    }
}

/// A write transaction of a node that is in charge, and the store's now in it.
pub(super) struct Write {
    pub(super) transaction: Transaction,
    pub(super) now: Timestamp,
}

impl Write {
    pub(super) fn db(&mut self) -> &mut PgConnection {
        self.transaction.db()
    }

    pub(super) async fn commit(self) -> Result<(), StoreError> {
        self.transaction.commit().await
    }
}

/// A statement without a name on the server, parsed anew each time.
pub(super) fn statement<'q>(sql: &'static str) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(sql).persistent(false)
}

/// The same for one value.
pub(super) fn scalar<'q, T>(sql: &'static str) -> QueryScalar<'q, Postgres, T, PgArguments>
where
    (T,): for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow>,
{
    sqlx::query_scalar(sql).persistent(false)
}

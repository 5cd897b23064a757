//! Opening the file: its URL, its settings, its pools and its schema.

use std::{path::PathBuf, str::FromStr, time::Duration};

use sqlx::{
    SqliteConnection, SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
    query_scalar,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::rows::{failed, migration_failed};
use crate::store::{StoreError, columns::broken};

/// The schema this binary is for.
pub(super) const VERSION: i64 = 2;

/// Readers do not wait for the writer in WAL mode; a few are enough for pages and single rows.
const READERS: u32 = 4;
/// How long to wait for a connection: less than a guest waits for the answer.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(2);
/// How long to wait for another process's lock: `verify`, a backup, or a psql-like shell.
const BUSY_LIMIT: Duration = Duration::from_secs(2);

/// Reads the URL.
pub(super) fn options(url: &str) -> Result<SqliteConnectOptions, StoreError> {
    if !url.starts_with("sqlite:") {
        return Err(broken(
            "the database URL is none of SQLite; use for instance sqlite://rollcall.db",
        ));
    }
    let options = SqliteConnectOptions::from_str(url).map_err(failed)?;
    let path = options.get_filename();
    if path.as_os_str().is_empty() || url.contains(":memory:") || url.contains("mode=memory") {
        return Err(broken(format!(
            "the database URL ({url}) names no file: a database in memory is lost with its last connection; use for instance \
             sqlite://rollcall.db"
        )));
    }
    // NORMAL never corrupts in WAL mode; a power cut may cost the last commits, a killed process none.
    Ok(options
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .foreign_keys(true)
        .busy_timeout(BUSY_LIMIT))
}

/// Beside the database, as its log is.
pub(super) fn lock_path(options: &SqliteConnectOptions) -> PathBuf {
    let mut path = options.get_filename().as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// Opens the writer's pool of one and the readers', and migrates in between.
pub(super) async fn pools(
    options: SqliteConnectOptions,
) -> Result<(SqlitePool, SqlitePool), StoreError> {
    // Connections to a file do not go stale: neither lifetimes nor a test before each use.
    let pool = SqlitePoolOptions::new()
        .acquire_timeout(ACQUIRE_LIMIT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false);
    let writer = pool
        .clone()
        .max_connections(1)
        .connect_with(options.clone().create_if_missing(true))
        .await
        .map_err(failed)?;
    migrate(&writer).await?;
    let readers = pool
        .max_connections(READERS)
        .connect_with(options.read_only(true).create_if_missing(false))
        .await
        .map_err(failed)?;
    Ok((writer, readers))
}

/// Checks that the schema is the one this binary wants.
pub(super) async fn check_version(db: &mut SqliteConnection) -> Result<(), StoreError> {
    let version: Option<i64> =
        query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
            .fetch_one(db)
            .await
            .map_err(failed)?;
    match version {
        Some(VERSION) => Ok(()),
        Some(other) => Err(broken(format!(
            "the schema is of version {other}, this binary's is {VERSION}"
        ))),
        None => Err(broken(
            "the database has no schema yet; `rollcall migrate` makes it",
        )),
    }
}

/// Applies what is missing. All in one transaction that begins as a writer: of two processes that start together one
/// waits, and finds it done.
async fn migrate(writer: &SqlitePool) -> Result<(), StoreError> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    migrator()
        .run_direct(None, &mut *tx, false)
        .await
        .map_err(migration_failed)?;
    tx.commit().await.map_err(failed)
}

fn migrator() -> Migrator {
    let migration = |version, name: &'static str, sql: &'static str| {
        let sql = sqlx::SqlSafeStr::into_sql_str(sql);
        Migration::new(version, name.into(), MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations(vec![
        migration(
            1,
            "initial",
            include_str!("../../../migrations/sqlite/0001_initial.sql"),
        ),
        migration(
            VERSION,
            "privacy",
            include_str!("../../../migrations/sqlite/0002_privacy.sql"),
        ),
    ])
}

//! Getting at the database: its address, its settings, its pools and its schema.

use std::{str::FromStr, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool, SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{
    rows::{failed, migration_failed},
    transaction::{Openings, scalar, statement},
};
use crate::{
    backoff::Backoff,
    config::Database,
    store::{StoreError, columns::broken},
    telemetry::chain,
};

/// The schema this binary is for.
pub(super) const VERSION: i64 = 2;

/// How long to wait for a connection: less than a guest waits for the answer. sqlx's 30 s would hang everybody for a whole
/// outage and longer (TARGETS.md, "Outages").
const ACQUIRE_LIMIT: Duration = Duration::from_secs(2);
/// How long a pooled connection may take to show that it is alive. sqlx's own test waits for ever where the network drops
/// what is sent, and each try would cost a guest the whole wait.
pub(super) const PING_LIMIT: Duration = Duration::from_secs(1);
/// Flush and reaper do not queue behind joins, nor joins behind them; one connection each.
const BACKGROUND_CONNECTIONS: u32 = 2;
/// They ask again by themselves, and whoever does that gives up sooner: a try that began just before a silent network came
/// back, and the wait after it, are to be over within 2 s (TARGETS.md, "Outages").
const BACKGROUND_ACQUIRE_LIMIT: Duration = Duration::from_millis(1_250);
const BACKGROUND_PING_LIMIT: Duration = Duration::from_millis(500);
/// Connections beyond what the quiet hours need go back to the database.
const IDLE_LIMIT: Duration = Duration::from_secs(10 * 60);
/// A server process grows with age, and a pooler or a balancer wants to see connections move.
const LIFETIME: Duration = Duration::from_secs(30 * 60);
/// Between tries to reach a database that is not there yet.
const TRY_FIRST: Duration = Duration::from_millis(250);
const TRY_CAP: Duration = Duration::from_secs(5);

/// Reads the address, the password and what is fixed for every connection.
///
/// # Errors
/// [`StoreError::Broken`], without the address in it, for it may hold a password.
pub(super) fn options(database: &Database) -> Result<PgConnectOptions, StoreError> {
    let url = database.url.expose();
    let mut options = PgConnectOptions::from_str(url)
        .map_err(|_| broken("the database URL is no PostgreSQL address"))?;
    if let Some(password) = &database.password {
        options = options.password(password.expose());
    }
    if options.get_application_name().is_none() {
        options = options.application_name("rollcall");
    }
    // No statement stays behind on a session that the pooler gives to somebody else, and no setting that poolers refuse.
    Ok(options
        .statement_cache_capacity(0)
        .extra_float_digits(None)
        .disable_statement_logging())
}

/// Where that is, for people: no password.
pub(super) fn place(options: &PgConnectOptions) -> String {
    let database = options
        .get_database()
        .unwrap_or_else(|| options.get_username());
    match options.get_socket() {
        Some(socket) => format!("{database} at {}", socket.display()),
        None => format!(
            "{database} at {}:{}",
            options.get_host(),
            options.get_port()
        ),
    }
}

/// The pools: one for joins and requests, one for flush and reaper.
pub(super) fn pools(options: &PgConnectOptions, connections: u32) -> (PgPool, PgPool) {
    let pool = |connections, acquire_limit, ping_limit| {
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(acquire_limit)
            .idle_timeout(IDLE_LIMIT)
            .max_lifetime(LIFETIME)
            .test_before_acquire(false)
            .before_acquire(move |connection, _| Box::pin(is_alive(connection, ping_limit)))
            .connect_lazy_with(options.clone())
    };
    let front = pool(connections, ACQUIRE_LIMIT, PING_LIMIT);
    let background = pool(
        BACKGROUND_CONNECTIONS,
        BACKGROUND_ACQUIRE_LIMIT,
        BACKGROUND_PING_LIMIT,
    );
    (front, background)
}

/// Whether a connection may be used again. Dead ones are closed without a word: the log says once that the database is away.
async fn is_alive(connection: &mut PgConnection, limit: Duration) -> Result<bool, sqlx::Error> {
    let pinged = tokio::time::timeout(limit, connection.ping()).await;
    Ok(matches!(pinged, Ok(Ok(()))))
}

/// Connects, waiting for a database that is not there yet, for as long as the operator said, and saying what for.
pub(super) async fn connect(
    options: &PgConnectOptions,
    wait: Duration,
) -> Result<PgConnection, StoreError> {
    let deadline = tokio::time::Instant::now() + wait;
    let mut backoff = Backoff::new(TRY_FIRST, TRY_CAP);
    let mut said = false;
    loop {
        let tried = tokio::time::timeout(super::CALL_LIMIT, options.connect());
        let error = match tried.await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => failed(error),
            Err(elapsed) => StoreError::Unavailable(elapsed.into()),
        };
        let pause = backoff.next_wait();
        if matches!(error, StoreError::Broken(_)) || tokio::time::Instant::now() + pause > deadline
        {
            return Err(error);
        }
        if !said {
            tracing::warn!(
                error = %chain(&error),
                "waiting for the database {}, for {} s at most",
                place(options),
                wait.as_secs()
            );
            said = true;
        }
        tokio::time::sleep(pause).await;
    }
}

/// Applies what is missing, all in one transaction under a lock: of several nodes that start together one does it, the
/// others wait and find it done.
pub(super) async fn migrate(
    connection: &mut PgConnection,
    schema: &str,
    openings: &Openings,
) -> Result<(), StoreError> {
    let mut tx = connection
        .begin_with(openings.migrate.clone())
        .await
        .map_err(failed)?;
    statement("SELECT pg_advisory_xact_lock(hashtext('rollcall migrate'), hashtext($1))")
        .bind(schema)
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
    // Asked first: who may use the schema but not make one must be able to start.
    let exists: bool =
        scalar("SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)")
            .bind(schema)
            .fetch_one(&mut *tx)
            .await
            .map_err(failed)?;
    if !exists {
        run(&mut tx, format!("CREATE SCHEMA \"{schema}\"")).await?;
    }
    let migrator = migrator();
    if !is_applied(&mut tx, &migrator).await? {
        // The migrator gives its statements names: none may be there already, nor stay behind.
        run(&mut tx, "DEALLOCATE ALL".to_owned()).await?;
        migrator
            .run_direct(None, &mut *tx, false)
            .await
            .map_err(migration_failed)?;
        run(&mut tx, "DEALLOCATE ALL".to_owned()).await?;
    }
    tx.commit().await.map_err(failed)
}

async fn run(db: &mut PgConnection, line: String) -> Result<(), StoreError> {
    let done = sqlx::raw_sql(AssertSqlSafe(line)).execute(db).await;
    done.map(drop).map_err(failed)
}

/// Whether there is nothing to apply. The migrator is not asked then: it begins with a CREATE TABLE IF NOT EXISTS, which
/// whoever may only use the schema must not say.
async fn is_applied(db: &mut PgConnection, migrator: &Migrator) -> Result<bool, StoreError> {
    if !has_migrations(db).await? {
        return Ok(false);
    }
    let applied: Vec<Vec<u8>> =
        scalar("SELECT checksum FROM _sqlx_migrations WHERE success ORDER BY version")
            .fetch_all(db)
            .await
            .map_err(failed)?;
    let wanted = migrator.iter().map(|migration| &*migration.checksum);
    Ok(wanted.eq(applied.iter().map(Vec::as_slice)))
}

async fn has_migrations(db: &mut PgConnection) -> Result<bool, StoreError> {
    scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(db)
        .await
        .map_err(failed)
}

/// Checks that the schema is the one this binary wants.
pub(super) async fn check_version(db: &mut PgConnection) -> Result<(), StoreError> {
    let version: Option<i64> = match has_migrations(db).await? {
        true => scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
            .fetch_one(db)
            .await
            .map_err(failed)?,
        false => None,
    };
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

fn migrator() -> Migrator {
    let migration = |version, name: &'static str, sql: &'static str| {
        let sql = sql.into_sql_str();
        Migration::new(version, name.into(), MigrationType::Simple, sql, false)
    };
    let mut migrator = Migrator::with_migrations(vec![
        migration(
            1,
            "initial",
            include_str!("../../../migrations/postgres/0001_initial.sql"),
        ),
        migration(
            VERSION,
            "privacy",
            include_str!("../../../migrations/postgres/0002_privacy.sql"),
        ),
    ]);
    // Its own lock is a session's, which does not work behind a pooler; `migrate` has a transaction's.
    migrator.set_locking(false);
    migrator
}

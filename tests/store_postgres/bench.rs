//! A schema of its own, stores on it, and a connection as other software has one.

use rollcall::{clock::Clock, config::Database, store::postgres::PostgresStore};
use rollcall_test_cluster::Shared;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row, ValueRef,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgDatabaseError, PgRow},
};
use uuid::Uuid;

/// A schema that nobody else knows.
pub struct Bench {
    pub database: Database,
    pub cluster: Shared,
}

impl Bench {
    /// In the database of the run.
    pub fn new() -> Self {
        let cluster = rollcall_test_cluster::shared();
        let mut database = Database::at(cluster.url());
        database.schema = unique("test");
        Self { database, cluster }
    }

    /// In a database of its own, for what does not stay within a schema.
    pub async fn with_database() -> Self {
        Self::with_database_as("").await
    }

    /// The same with options of `CREATE DATABASE`.
    pub async fn with_database_as(options: &str) -> Self {
        let mut bench = Self::new();
        let name = unique("base");
        bench
            .db()
            .await
            .run(format!("CREATE DATABASE {name} {options}"))
            .await;
        let (server, _) = bench.database.url.expose().rsplit_once('/').unwrap();
        let url = format!("{server}/{name}");
        let schema = bench.database.schema;
        bench.database = Database::at(url);
        bench.database.schema = schema;
        bench
    }

    pub fn schema(&self) -> &str {
        &self.database.schema
    }

    pub async fn open(&self) -> PostgresStore {
        self.open_at(&Clock::system()).await
    }

    pub async fn open_at(&self, clock: &Clock) -> PostgresStore {
        PostgresStore::open(&self.database, clock.clone())
            .await
            .unwrap()
    }

    /// Other software, which finds our tables first.
    pub async fn db(&self) -> Db {
        let mut db = Db::connect(self.database.url.expose()).await;
        db.run(format!("SET search_path = {}, public", self.schema()))
            .await;
        db
    }
}

/// A name for something that is everybody's in the cluster.
pub fn unique(what: &str) -> String {
    format!("{what}_{}", Uuid::now_v7().simple())
}

/// A connection that speaks as psql does: text, several statements at once, nothing prepared.
pub struct Db(PgConnection);

/// Why a statement was refused.
#[derive(Debug)]
pub struct Refusal {
    pub code: String,
    pub constraint: String,
    pub message: String,
    pub hint: String,
}

impl Db {
    pub async fn connect(url: &str) -> Self {
        // As poolers want it.
        let options = url.parse::<PgConnectOptions>().unwrap();
        Self(options.extra_float_digits(None).connect().await.unwrap())
    }

    pub async fn run(&mut self, sql: impl Into<String>) -> u64 {
        let sql = sql.into();
        self.try_run(&sql)
            .await
            .unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"))
    }

    pub async fn try_run(&mut self, sql: &str) -> Result<u64, Refusal> {
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut self.0)
            .await;
        done.map(|done| done.rows_affected())
            .map_err(|error| refusal(&error))
    }

    pub async fn refused(&mut self, sql: &str) -> Refusal {
        match self.try_run(sql).await {
            Ok(rows) => panic!("not refused, {rows} rows: {sql}"),
            Err(refusal) => refusal,
        }
    }

    /// What a query finds, a line a row, `|` between columns, nothing for NULL.
    pub async fn table(&mut self, sql: impl Into<String>) -> Vec<String> {
        let sql = sql.into();
        self.try_table(&sql)
            .await
            .unwrap_or_else(|refusal| panic!("{sql}: {refusal:?}"))
    }

    pub async fn try_table(&mut self, sql: &str) -> Result<Vec<String>, Refusal> {
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut self.0)
            .await;
        rows.map(|rows| rows.iter().map(line).collect())
            .map_err(|error| refusal(&error))
    }

    /// The one row that a query finds.
    pub async fn one(&mut self, sql: impl Into<String>) -> String {
        let sql = sql.into();
        let mut table = self.table(sql.clone()).await;
        assert_eq!(table.len(), 1, "{sql}: {table:?}");
        table.remove(0)
    }

    /// Applies what a binary of another version would.
    pub async fn migrate(&mut self, migrator: &Migrator) {
        migrator.run_direct(None, &mut self.0, false).await.unwrap();
    }

    pub async fn close(self) {
        self.0.close().await.unwrap();
    }
}

fn line(row: &PgRow) -> String {
    let text = |at| {
        let value = row.try_get_raw(at).unwrap();
        match value.is_null() {
            true => String::new(),
            false => value.as_str().unwrap().to_owned(),
        }
    };
    (0..row.len()).map(text).collect::<Vec<_>>().join("|")
}

fn refusal(error: &sqlx::Error) -> Refusal {
    let database = error
        .as_database_error()
        .unwrap_or_else(|| panic!("not the database's: {error}"))
        .downcast_ref::<PgDatabaseError>();
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    Refusal {
        code: database.code().to_owned(),
        constraint: text(database.constraint()),
        message: database.message().to_owned(),
        hint: text(database.hint()),
    }
}

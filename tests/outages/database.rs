//! Where the tests keep their rooms, and somebody else's sessions there: an administrator's, a forgotten psql's.

use rollcall::config::Database;
use rollcall_test_cluster::Shared;
use sqlx::{Connection, PgConnection, Row};
use uuid::Uuid;

use crate::harness::SOON;

/// A schema of its own on the server that the run shares, which is not to be stopped.
pub struct Corner {
    pub database: Database,
    // Ends the server with the last handle, where the run has none.
    _shared: Shared,
}

impl Corner {
    pub fn new() -> Self {
        let shared = rollcall_test_cluster::shared();
        let mut database = Database::at(shared.url());
        database.schema = format!("outage_{}", Uuid::now_v7().simple());
        // Names the connections for `pg_stat_activity`: others are at work on the same server.
        let name = &database.schema;
        let named = format!("{}?application_name={name}", shared.url());
        let database = Database {
            url: rollcall::config::Secret::new(named),
            ..database
        };
        Self {
            database,
            _shared: shared,
        }
    }

    /// The same schema by way of somewhere else.
    pub fn by_way_of(&self, port: u16) -> Database {
        Database {
            url: rollcall::config::Secret::new(format!(
                "postgres://rollcall@127.0.0.1:{port}/rollcall"
            )),
            ..self.database.clone()
        }
    }
}

/// A session of somebody else.
pub struct Psql(PgConnection);

impl Psql {
    pub async fn open(database: &Database) -> Self {
        let connecting = PgConnection::connect(database.url.expose());
        let connection = tokio::time::timeout(SOON, connecting).await.unwrap();
        let mut psql = Self(connection.unwrap());
        psql.run(&format!(
            "SET search_path TO {}; SET application_name TO 'somebody else'",
            database.schema
        ))
        .await;
        psql
    }

    /// Runs SQL and answers its rows as text.
    pub async fn run(&mut self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.try_run(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub async fn try_run(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, sqlx::Error> {
        let asked = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).fetch_all(&mut self.0);
        let rows = tokio::time::timeout(SOON, asked)
            .await
            .unwrap_or_else(|_| panic!("no answer to {sql}"))?;
        let text = |row: &sqlx::postgres::PgRow, at| row.try_get_unchecked(at).unwrap();
        Ok(rows
            .iter()
            .map(|row| (0..row.len()).map(|at| text(row, at)).collect())
            .collect())
    }

    /// The one value that a query finds.
    pub async fn one(&mut self, sql: &str) -> String {
        let rows = self.run(sql).await;
        assert_eq!((rows.len(), rows[0].len()), (1, 1), "{sql}: {rows:?}");
        rows[0][0].clone().unwrap_or_default()
    }
}

//! A PostgreSQL server of the benchmark's own, and what is in it before anything is measured.

use std::{fs, ops::Range};

use anyhow::Context;
use rollcall::{clock::Clock, config::Database, store::postgres::PostgresStore};
use rollcall_test_cluster::Cluster;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqlSafeStr};

use crate::{options::Options, table};

/// Two users and three guests.
pub(crate) const PEOPLE_PER_ROOM: usize = 5;
const USERS_PER_ROOM: usize = 2;
/// The server's default.
pub(crate) const IDLE_TIMEOUT_MS: i64 = 3_600_000;

/// A running server.
#[derive(Debug)]
pub(crate) struct Bed {
    /// For whatever is done and looked at outside of the measurements.
    pub(crate) admin: PgConnection,
    pub(crate) database: Database,
    /// The first of the server's processes.
    postmaster: u32,
    _cluster: Cluster,
}

impl Bed {
    /// A new server with Rollcall's empty schema.
    pub(crate) async fn start(options: &Options) -> anyhow::Result<Self> {
        let cluster = Cluster::start_with(&options.settings());
        let mut database = Database::at(cluster.url());
        database.connections = options.connections;
        PostgresStore::migrate(&database).await?;
        let mut admin = PgConnection::connect(&cluster.url()).await?;
        let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(&mut admin)
            .await?;
        let mut bed = Self {
            admin,
            database,
            postmaster: parent(backend)?,
            _cluster: cluster,
        };
        bed.run("SET search_path TO rollcall; SET rollcall.writer = 'server'; SET jit = off")
            .await?;
        Ok(bed)
    }

    /// A store on it.
    pub(crate) async fn store(&self) -> anyhow::Result<PostgresStore> {
        Ok(PostgresStore::open(&self.database, Clock::system()).await?)
    }

    /// A connection to be measured, with nothing set.
    pub(crate) async fn connect(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(self.database.url.expose()).await?)
    }

    /// Runs statements that answer nothing.
    pub(crate) async fn run(&mut self, sql: impl Into<String>) -> anyhow::Result<()> {
        let sql = AssertSqlSafe(sql.into()).into_sql_str();
        sqlx::raw_sql(sql).execute(&mut self.admin).await?;
        Ok(())
    }

    /// The one number that a statement answers.
    pub(crate) async fn number(&mut self, sql: impl Into<String>) -> anyhow::Result<i64> {
        let sql = AssertSqlSafe(sql.into()).into_sql_str();
        Ok(sqlx::query_scalar(sql).fetch_one(&mut self.admin).await?)
    }

    /// The server's processes, the first and its children, which have no children.
    pub(crate) fn processes(&self) -> anyhow::Result<Vec<u32>> {
        let pid = self.postmaster;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let children: Result<Vec<u32>, _> = children.split_whitespace().map(str::parse).collect();
        Ok([vec![pid], children?].concat())
    }

    /// Makes rooms `room-N` for the numbers of a range, with one invite `invite-N` and five people each, all of whom were
    /// seen now. Keys are these numbers too: nothing else may have made rooms.
    pub(crate) async fn seed(&mut self, rooms: Range<usize>) -> anyhow::Result<()> {
        table::progress(&format!("making {} rooms", rooms.len()));
        let (first, last) = (rooms.start, rooms.end - 1);
        // Foreign keys are right by construction; asking for each would take twice the time.
        self.run("SET session_replication_role = replica").await?;
        self.run(format!(
            "INSERT INTO rooms (id, idle_timeout_ms) SELECT 'room-' || n, {IDLE_TIMEOUT_MS} FROM generate_series({first}, {last}) AS n;
             INSERT INTO invites (room_key, room_id, token_hash)
             SELECT n, 'room-' || n, sha256(('invite-' || n)::bytea) FROM generate_series({first}, {last}) AS n;
             INSERT INTO participants (room_key, access_method, user_id, name, invite_key, client_hash)
             SELECT n, CASE WHEN is_user THEN 'token' ELSE 'invite' END, CASE WHEN is_user THEN 'user-' || seat END,
                    'Somebody ' || n, CASE WHEN NOT is_user THEN n END,
                    CASE WHEN NOT is_user THEN sha256(('client-' || n || '-' || seat)::bytea) END
             FROM generate_series({first}, {last}) AS n, generate_series(1, {PEOPLE_PER_ROOM}) AS seat,
                  LATERAL (SELECT seat <= {USERS_PER_ROOM} AS is_user) AS kind
             ORDER BY n, seat"
        ))
        .await?;
        self.run("RESET session_replication_role").await?;
        let newest = self.number("SELECT max(key) FROM rooms").await?;
        anyhow::ensure!(
            newest == i64::try_from(last)?,
            "room-{last} has the key {newest}"
        );
        self.settle().await
    }

    /// Leaves nothing to be done by whatever is measured next: neither a vacuum nor a checkpoint.
    pub(crate) async fn settle(&mut self) -> anyhow::Result<()> {
        self.run("VACUUM (ANALYZE)").await?;
        self.run("CHECKPOINT").await
    }
}

fn parent(pid: i32) -> anyhow::Result<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // After the name, which may have anything in it: the state, then the parent.
    let (_, rest) = stat.rsplit_once(')').context("stat names no command")?;
    let parent = rest
        .split_whitespace()
        .nth(1)
        .context("stat names no parent")?;
    Ok(parent.parse()?)
}

/// The machine, in a few words.
pub(crate) fn machine() -> anyhow::Result<String> {
    let field = |file: &str, name: &str| -> anyhow::Result<String> {
        let text = fs::read_to_string(file)?;
        let line = text.lines().find(|line| line.starts_with(name));
        let (_, value) = line
            .and_then(|line| line.split_once(':'))
            .context("the kernel does not say")?;
        Ok(value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism()?;
    let model =
        field("/proc/cpuinfo", "model name").unwrap_or_else(|_| "processor unknown".to_owned());
    Ok(format!(
        "{cores} cores of {model}, {} of memory",
        field("/proc/meminfo", "MemTotal")?
    ))
}

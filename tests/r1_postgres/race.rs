//! One process of a race: joiners, a reaper, and in one of the two a cleaner.

use std::{
    env,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rollcall::{
    clock::Clock,
    config::Database,
    store::{ReapCriteria, RoomKey, Store, StoreError, postgres::PostgresStore},
};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;

use crate::{joiner::Joiner, ledger::Ledger};

/// Of one process.
const JOINERS: usize = 8;
/// Its joiners share that many stores, each with connections of its own.
const STORES: usize = 2;

/// Between two sweeps.
const PAUSE: Duration = Duration::from_millis(10);

/// What a process is told by its environment.
pub(crate) struct Race {
    database: Database,
    runner: usize,
    joins: usize,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Joins committed.
    pub(crate) joins: u64,
    /// Of those, joins that came upon somebody else's lock or upon an idle room not yet deleted.
    pub(crate) raced: u64,
    /// Rooms made by joins.
    pub(crate) made: u64,
    /// Joins into a room that another process was making.
    pub(crate) made_twice: u64,
    /// Refusals, all because the room was idle or gone.
    pub(crate) refused: u64,
    /// Refusals of a room that was not idle.
    pub(crate) refused_wrongly: u64,
    /// Looks that were in time to tell something.
    pub(crate) looked: u64,
    /// Looks that did not find what had been committed.
    pub(crate) not_found: u64,
    /// Heartbeats flushed.
    pub(crate) flushed: u64,
    pub(crate) deadlocks: u64,
    /// Waits for a lock that were given up; a busy machine may have some.
    pub(crate) given_up: u64,
}

impl Race {
    /// Whether this process is one of a race's.
    pub(crate) fn is_runner() -> bool {
        env::var_os("ROLLCALL_RACE_RUNNER").is_some()
    }

    pub(crate) fn describe(
        command: &mut Command,
        ledger: &Ledger,
        report: &Path,
        runner: usize,
        joins: usize,
    ) {
        command
            .env("ROLLCALL_RACE_RUNNER", runner.to_string())
            .env("ROLLCALL_RACE_URL", ledger.database.url.expose())
            .env("ROLLCALL_RACE_SCHEMA", &ledger.database.schema)
            .env("ROLLCALL_RACE_REPORT", report)
            .env("ROLLCALL_RACE_SHARE", joins.to_string());
    }

    /// Takes part, and writes the report.
    pub(crate) fn run() {
        let variable = |name: &str| env::var(format!("ROLLCALL_RACE_{name}")).unwrap();
        let mut database = Database::at(variable("URL"));
        database.schema = variable("SCHEMA");
        database.connections = 5;
        let race = Self {
            database,
            runner: variable("RUNNER").parse().unwrap(),
            joins: variable("SHARE").parse().unwrap(),
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let mut tally = runtime.block_on(race.race());
        std::fs::write(variable("REPORT"), tally.report().to_string()).unwrap();
    }

    async fn race(&self) -> Tally {
        let left = Arc::new(AtomicUsize::new(self.joins));
        let mut joiners = JoinSet::new();
        for _ in 0..STORES {
            let store = Arc::new(self.open().await);
            for _ in 0..JOINERS / STORES {
                let looks = PgConnection::connect(self.database.url.expose()).await;
                let joiner = Joiner::new(Arc::clone(&store), looks.unwrap(), &self.database.schema);
                joiners.spawn(joiner.run(Arc::clone(&left)));
            }
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let mut reapers = JoinSet::new();
        reapers.spawn(reap(self.open().await, Arc::clone(&is_over)));
        if self.runner == 1 {
            reapers.spawn(clean_up(self.database.clone(), Arc::clone(&is_over)));
        }
        let tally = joiners.join_all().await.into_iter().sum();
        is_over.store(true, Ordering::Relaxed);
        reapers.join_all().await.into_iter().chain([tally]).sum()
    }

    async fn open(&self) -> PostgresStore {
        PostgresStore::open(&self.database, Clock::system())
            .await
            .unwrap()
    }
}

/// As the server's reaper does it.
async fn reap(store: PostgresStore, is_over: Arc<AtomicBool>) -> Tally {
    let criteria = ReapCriteria::default();
    let mut tally = Tally::default();
    while !is_over.load(Ordering::Relaxed) {
        let keys = store
            .reap_candidates(criteria, RoomKey(0), 100)
            .await
            .unwrap();
        if let Err(error) = store.reap(&keys, criteria, false).await {
            tally.locked(&error);
        }
        // A join's worth: two reapers without a pause would have both cores of a small machine to themselves.
        tokio::time::sleep(PAUSE).await;
    }
    tally
}

/// As an operator's cron job does it.
async fn clean_up(database: Database, is_over: Arc<AtomicBool>) -> Tally {
    let mut db = PgConnection::connect(database.url.expose()).await.unwrap();
    let clean = format!(
        "SELECT FROM {}.cleanup_inactive_rooms(max_rooms => 10)",
        database.schema
    );
    let mut tally = Tally::default();
    while !is_over.load(Ordering::Relaxed) {
        let cleaning = sqlx::raw_sql(sqlx::AssertSqlSafe(clean.clone())).execute(&mut db);
        if let Err(error) = cleaning.await {
            tally.locked(&StoreError::Locked(error.into()));
        }
        tokio::time::sleep(PAUSE).await;
    }
    tally
}

impl Tally {
    /// Counts a call that failed over somebody else's locks; any other failure fails the race.
    pub(crate) fn locked(&mut self, error: &StoreError) {
        let StoreError::Locked(source) = error else {
            panic!("{error:?}")
        };
        match sqlstate(&**source).as_deref() {
            Some("40P01") => self.deadlocks += 1,
            Some("55P03") => self.given_up += 1,
            _ => panic!("{source:?}"),
        }
    }

    fn fields(&mut self) -> [(&'static str, &mut u64); 11] {
        [
            ("joins", &mut self.joins),
            ("raced", &mut self.raced),
            ("made", &mut self.made),
            ("made_twice", &mut self.made_twice),
            ("refused", &mut self.refused),
            ("refused_wrongly", &mut self.refused_wrongly),
            ("looked", &mut self.looked),
            ("not_found", &mut self.not_found),
            ("flushed", &mut self.flushed),
            ("deadlocks", &mut self.deadlocks),
            ("given_up", &mut self.given_up),
        ]
    }

    fn report(&mut self) -> Value {
        let fields = self.fields();
        fields
            .into_iter()
            .map(|(name, count)| (name.to_owned(), json!(*count)))
            .collect()
    }

    pub(crate) fn read(report: &Path) -> Self {
        let text = std::fs::read_to_string(report).unwrap();
        let report: Value = serde_json::from_str(&text).unwrap();
        let mut tally = Self::default();
        for (name, count) in tally.fields() {
            *count = report[name].as_u64().unwrap();
        }
        tally
    }
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        let mut sum = Self::default();
        for mut tally in tallies {
            for ((_, sum), (_, count)) in sum.fields().into_iter().zip(tally.fields()) {
                *sum += *count;
            }
        }
        sum
    }
}

/// The database's code for what went wrong.
pub(crate) fn sqlstate(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let error = error.downcast_ref::<sqlx::Error>()?;
    Some(error.as_database_error()?.code()?.into_owned())
}

//! The schema of a race, which notes by itself what was deleted before its time.

use std::path::PathBuf;

use rollcall::{clock::Clock, config::Database, store::postgres::PostgresStore};
use rollcall_test_cluster::{Shared, shared};
use tempfile::TempDir;
use uuid::Uuid;

use crate::race::Tally;

/// A schema of its own, with triggers.
pub(crate) struct Ledger {
    pub(crate) database: Database,
    shared: Shared,
    reports: TempDir,
}

/// What the triggers noted.
#[derive(Debug)]
pub(crate) struct Lost {
    /// Rooms deleted before they were idle by their own row.
    pub(crate) rooms: u64,
    /// Participants deleted before their room was idle by theirs.
    pub(crate) participants: u64,
    /// All rooms that were deleted.
    pub(crate) reaped: u64,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        let shared = shared();
        let mut database = Database::at(shared.url());
        database.schema = format!("race_{}", Uuid::now_v7().simple());
        // Sixteen joiners, two reapers and a cleaner want some; so do the tests that run beside this one.
        database.connections = 5;
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let opened = runtime.block_on(PostgresStore::open(&database, Clock::system()));
        drop(opened.unwrap());
        let ledger = Self {
            database,
            shared,
            reports: TempDir::new().unwrap(),
        };
        ledger.psql(TRIGGERS);
        ledger
    }

    /// What must not be: the rooms are locked while they are deleted, and looked at as of before the wait for that.
    pub(crate) fn reap_in_one_statement(&self) {
        self.psql(ONE_STATEMENT);
    }

    pub(crate) fn lost(&self) -> Lost {
        let counts = self.psql(
            "SELECT (SELECT count(*) FROM graves WHERE early AND is_room),
                    (SELECT count(*) FROM graves WHERE early AND NOT is_room),
                    (SELECT count(*) FROM graves WHERE is_room)",
        );
        let mut counts = counts.split('|').map(|count| count.parse().unwrap());
        let mut next = || counts.next().unwrap();
        Lost {
            rooms: next(),
            participants: next(),
            reaped: next(),
        }
    }

    /// Where a process of the race writes its figures.
    pub(crate) fn report_file(&self, runner: usize) -> PathBuf {
        self.reports.path().join(runner.to_string())
    }

    #[expect(
        clippy::print_stderr,
        reason = "the figures are what a long run is for"
    )]
    pub(crate) fn report(&self, tally: &Tally, lost: &Lost) {
        eprintln!("{tally:?} {lost:?}");
    }

    fn psql(&self, sql: &str) -> String {
        let schema = &self.database.schema;
        self.shared
            .psql(&format!("SET search_path TO {schema}; {sql}"))
    }
}

/// A participant's name is its room's timeout: the room's row is gone when the participant goes.
const TRIGGERS: &str = "
CREATE TABLE graves (is_room boolean, early boolean);
CREATE FUNCTION bury_room() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO graves VALUES (true, clock_timestamp() < OLD.last_active_at + OLD.idle_timeout_ms * interval '1 ms');
    RETURN NULL;
END $$;
CREATE TRIGGER bury AFTER DELETE ON rooms FOR EACH ROW EXECUTE FUNCTION bury_room();
CREATE FUNCTION bury_participant() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO graves VALUES (false, clock_timestamp() < OLD.last_seen_at + OLD.name::int * interval '1 ms');
    RETURN NULL;
END $$;
CREATE TRIGGER bury AFTER DELETE ON participants FOR EACH ROW EXECUTE FUNCTION bury_participant();";

const ONE_STATEMENT: &str = "
CREATE OR REPLACE FUNCTION reap_rooms(
    keys bigint[], at_time timestamptz, min_age interval, below_participants bigint, seat_silence interval, max_rows bigint,
    dry_run boolean)
RETURNS TABLE (room_key bigint, room_id text, participants bigint, postponed boolean)
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    DELETE FROM rooms AS r
    WHERE r.key = ANY (keys)
      AND NOT EXISTS (SELECT FROM participants AS p
                      WHERE p.room_key = r.key AND p.last_seen_at + r.idle_timeout_ms * interval '1 ms' > clock_timestamp())
    RETURNING r.key, r.id::text, 0::bigint, false;
END
$$;";

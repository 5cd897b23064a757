//! Looking a database over while a server may be using it; nothing stays behind.

use std::time::Duration;

use rollcall_protocol::Timestamp;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{
    flush, open, reap, rooms,
    rows::{failed, get, moment},
    transaction::{Openings, scalar, statement},
    within,
};
use crate::{
    config::Database,
    store::{
        Departed, ParticipantKey, ReapCriteria, RoomKey, Seen, StoreError,
        columns::broken,
        verify::{Check, demand},
    },
};

/// Everything looked at here is in the catalogue or of one row.
const CHECK_LIMIT: Duration = Duration::from_secs(30);
/// The first version with everything that the schema uses.
const OLDEST: i32 = 130_000;
const INDEXES: [&str; 4] = [
    "participants_room_key",
    "participants_room_user",
    "participants_invite_client",
    "invites_room_key",
];
/// What other software is held to: without the first its updates do not count as seen, without the others rows are left that
/// refer to nothing.
const TRIGGERS: [&str; 12] = [
    "participants_see",
    "invites_room",
    "participant_states_owner",
    "rooms_end",
    "rooms_end_all",
    "room_ends_forget",
    "room_ends_forget_all",
    "participants_forget",
    "participants_forget_all",
    "rooms_keep_key",
    "room_ends_keep_key",
    "participants_keep_key",
];
const FUNCTIONS: [&str; 12] = [
    "reap_rooms",
    "cleanup_inactive_rooms",
    "check_room_expiry",
    "why_not_reap",
    "seat_silence",
    "see_participant",
    "check_invite",
    "check_state",
    "end_rooms",
    "forget_invites",
    "forget_states",
    "keep_key",
];
/// Fewer updates than this say nothing about their share.
const ENOUGH_UPDATES: i64 = 1_000;
/// A healthy table has more than 99 of 100 (TARGETS.md, "Database"); long transactions of others cost some for a while.
const LEAST_HOT_PERCENT: i64 = 90;

/// Looks the database over; stops at the first thing without which the rest makes no sense.
pub(super) async fn verify(database: &Database) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut db = match connect(database).await {
        Ok((place, db)) => {
            checks.push(Check::new("connect", Ok(place)));
            db
        }
        Err(error) => {
            checks.push(Check::new("connect", Err(error)));
            return checks;
        }
    };
    let openings = Openings::new(&database.schema);
    let outcome = within(CHECK_LIMIT, version(&mut db, &openings)).await;
    let has_schema = outcome.is_ok();
    checks.push(Check::new("schema version", outcome));
    if has_schema {
        let looked = within(CHECK_LIMIT, look(&mut db, &openings, &mut checks)).await;
        if let Err(error) = looked {
            checks.push(Check::new("catalogue", Err(error)));
        }
        let tried = within(CHECK_LIMIT, rolled_back_trial(&mut db, &openings)).await;
        checks.push(Check::new("flush, expiry and clean-up", tried));
    }
    // Its answers are in; an error here would say nothing about the database.
    let _ = db.close().await;
    checks
}

async fn connect(database: &Database) -> Result<(String, PgConnection), StoreError> {
    let options = open::options(database)?;
    let mut db = open::connect(&options, Duration::ZERO).await?;
    let version: i32 = scalar("SELECT current_setting('server_version_num')::int")
        .fetch_one(&mut db)
        .await
        .map_err(failed)?;
    if version < OLDEST {
        return Err(broken(
            "this PostgreSQL is too old; 13 is the first that will do",
        ));
    }
    let place = open::place(&options);
    Ok((format!("{place}, PostgreSQL {}", version / 10_000), db))
}

async fn version(db: &mut PgConnection, openings: &Openings) -> Result<String, StoreError> {
    let mut tx = begin(db, &openings.read).await?;
    open::check_version(&mut tx).await?;
    tx.rollback().await.map_err(failed)?;
    Ok(format!("version {}, as this binary wants", open::VERSION))
}

/// What the catalogue says.
async fn look(
    db: &mut PgConnection,
    openings: &Openings,
    checks: &mut Vec<Check>,
) -> Result<(), StoreError> {
    let mut tx = begin(db, &openings.read).await?;
    checks.push(Check::new("functions", functions(&mut tx).await));
    checks.push(Check::new("triggers", triggers(&mut tx).await));
    checks.push(Check::new("indexes", indexes(&mut tx).await));
    let none = no_index_on_last_seen(&mut tx).await;
    checks.push(Check::new("no index on last_seen_at", none));
    checks.push(Check::new("heap-only updates", heap_only(&mut tx).await));
    tx.rollback().await.map_err(failed)
}

async fn begin<'c>(
    db: &'c mut PgConnection,
    opening: &sqlx::SqlStr,
) -> Result<sqlx::Transaction<'c, sqlx::Postgres>, StoreError> {
    db.begin_with(opening.clone()).await.map_err(failed)
}

async fn functions(db: &mut PgConnection) -> Result<String, StoreError> {
    let found: Vec<String> = scalar(
        "SELECT proname::text FROM pg_catalog.pg_proc
         WHERE pronamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = current_schema())",
    )
    .fetch_all(db)
    .await
    .map_err(failed)?;
    all_of(&FUNCTIONS, &found)
}

async fn triggers(db: &mut PgConnection) -> Result<String, StoreError> {
    let enabled: Vec<String> = scalar(
        "SELECT tgname::text FROM pg_catalog.pg_trigger
         WHERE tgrelid IN ('participants'::regclass, 'participant_states'::regclass, 'rooms'::regclass, 'invites'::regclass,
                           'room_ends'::regclass)
           AND tgenabled IN ('O', 'A')",
    )
    .fetch_all(db)
    .await
    .map_err(failed)?;
    all_of(&TRIGGERS, &enabled)
}

async fn indexes(db: &mut PgConnection) -> Result<String, StoreError> {
    let found: Vec<String> = scalar(
        "SELECT c.relname::text FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
         WHERE i.indrelid IN ('participants'::regclass, 'invites'::regclass) AND i.indisvalid",
    )
    .fetch_all(db)
    .await
    .map_err(failed)?;
    all_of(&INDEXES, &found)
}

fn all_of(wanted: &[&str], found: &[String]) -> Result<String, StoreError> {
    let is_missing = |name: &&&str| !found.iter().any(|found| found == **name);
    let missing: Vec<&str> = wanted.iter().filter(is_missing).copied().collect();
    if missing.is_empty() {
        Ok(format!("{0} of {0}", wanted.len()))
    } else {
        Err(broken(format!(
            "missing or disabled: {}; migrations/postgres has their definitions",
            missing.join(", ")
        )))
    }
}

async fn no_index_on_last_seen(db: &mut PgConnection) -> Result<String, StoreError> {
    let found: Vec<String> = scalar(
        // As a column, in an expression or in a condition: each keeps updates from being heap-only.
        "SELECT DISTINCT i.indexrelid::regclass::text FROM pg_catalog.pg_index AS i
         JOIN pg_catalog.pg_depend AS d ON d.objid = i.indexrelid AND d.classid = 'pg_catalog.pg_class'::regclass
         JOIN pg_catalog.pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
         WHERE i.indrelid = 'participants'::regclass AND d.refobjid = i.indrelid AND a.attname = 'last_seen_at'",
    )
    .fetch_all(db)
    .await
    .map_err(failed)?;
    if found.is_empty() {
        Ok("none, so that a flush stays cheap".to_owned())
    } else {
        Err(broken(format!(
            "{} makes every flush slower; drop it",
            found.join(", ")
        )))
    }
}

/// The share of updates that touched no index, since the statistics were reset.
async fn heap_only(db: &mut PgConnection) -> Result<String, StoreError> {
    let row = statement(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_catalog.pg_stat_user_tables WHERE relid = 'participants'::regclass",
    )
    .fetch_one(db)
    .await
    .map_err(failed)?;
    let (updates, hot): (i64, i64) = (get(&row, 0)?, get(&row, 1)?);
    if updates < ENOUGH_UPDATES {
        return Ok(format!("too early to tell: {updates} updates so far"));
    }
    let percent = hot * 100 / updates;
    if percent >= LEAST_HOT_PERCENT {
        Ok(format!("{percent} % of {updates}"))
    } else {
        Err(broken(format!(
            "{percent} % of {updates} only: an index on a flushed column, a fillfactor of 100, or transactions that stay open \
             for long"
        )))
    }
}

/// Does on rows of its own what the server does all day, and takes it back.
async fn rolled_back_trial(
    db: &mut PgConnection,
    openings: &Openings,
) -> Result<String, StoreError> {
    let mut tx = begin(db, &openings.write).await?;
    let mark = Uuid::new_v4();
    let tried = trial(&mut tx, mark).await;
    tx.rollback().await.map_err(failed)?;
    tried?;
    let mut tx = begin(db, &openings.read).await?;
    let left: i64 = scalar("SELECT count(*) FROM rooms WHERE id = 'rollcall-verify-' || $1")
        .bind(mark.to_string())
        .fetch_one(&mut *tx)
        .await
        .map_err(failed)?;
    demand(
        left == 0,
        "rows of a trial are left behind; delete the rooms named rollcall-verify-…",
    )?;
    let counts = rooms::counts(&mut tx).await?;
    tx.rollback().await.map_err(failed)?;
    Ok(format!(
        "done and rolled back: {} rooms, {} participants, {} invites",
        counts.rooms, counts.participants, counts.invites
    ))
}

async fn trial(db: &mut PgConnection, mark: Uuid) -> Result<(), StoreError> {
    let second = |second: i64| Timestamp::from_millis(946_684_800_000 + second * 1_000);
    let (room, participant) = insert(db, mark, second(0)).await?;
    let departed = Some(Departed {
        left_at: second(30),
        generation: 1,
    });
    let seen = Seen {
        key: participant,
        last_seen_at: second(30),
        departed,
    };
    let missing = flush::participants(db, &[seen]).await?;
    let flushed = rooms::last_activity(db, room).await?;
    demand(
        missing.is_empty() && flushed == Some(second(30)),
        "a flush did not move last_seen_at",
    )?;
    // Exactly: a millisecond early it stays, and its coarse time is corrected by the way.
    let early = Timestamp::from_millis(second(90).as_millis() - 1);
    let criteria = ReapCriteria::default();
    let (reaped, _) = reap::reap_rooms(db, Some(early), None, &[room], criteria, false).await?;
    demand(reaped.is_empty(), "a room was reaped before it was idle")?;
    let found = reap::candidates(db, second(90), criteria, RoomKey(room.0 - 1), 1).await?;
    demand(found.first() == Some(&room), "an idle room was not found")?;
    let (expired, seen) = expiry_and_other_writer(db, mark, participant).await?;
    demand(expired, "an idle room was not called expired")?;
    demand(seen, "the trigger passed over another writer")?;
    let late = Timestamp::from_millis(i64::MAX);
    let (reaped, _) = reap::reap_rooms(db, Some(late), None, &[room], criteria, false).await?;
    demand(
        reaped.len() == 1 && rooms::find_by_key(db, room).await?.is_none(),
        "an idle room was not reaped",
    )
}

async fn insert(
    db: &mut PgConnection,
    mark: Uuid,
    at: Timestamp,
) -> Result<(RoomKey, ParticipantKey), StoreError> {
    let row = statement(
        "WITH room AS (
             INSERT INTO rooms (id, created_at, last_active_at, idle_timeout_ms)
             VALUES ('rollcall-verify-' || $1, $3, $3, 60000) RETURNING key
         )
         INSERT INTO participants (id, room_key, name, access_method, joined_at, last_seen_at)
         SELECT $2, room.key, 'verify', 'token', $3, $3 FROM room RETURNING room_key, key",
    )
    .bind(mark.to_string())
    .bind(mark)
    .bind(moment(at))
    .fetch_one(db)
    .await
    .map_err(failed)?;
    Ok((RoomKey(get(&row, 0)?), ParticipantKey(get(&row, 1)?)))
}

/// Whether the room is expired now, and whether an update as another program makes it then counts as seen.
async fn expiry_and_other_writer(
    db: &mut PgConnection,
    mark: Uuid,
    participant: ParticipantKey,
) -> Result<(bool, bool), StoreError> {
    let expired: bool = scalar("SELECT expired FROM check_room_expiry('rollcall-verify-' || $1)")
        .bind(mark.to_string())
        .fetch_one(&mut *db)
        .await
        .map_err(failed)?;
    statement("SELECT set_config('rollcall.writer', '', true)")
        .execute(&mut *db)
        .await
        .map_err(failed)?;
    statement("UPDATE participants SET name = 'somebody else' WHERE key = $1")
        .bind(participant.0)
        .execute(&mut *db)
        .await
        .map_err(failed)?;
    let seen: bool = scalar(
        "SELECT last_seen_at > clock_timestamp() - interval '1 minute' FROM participants WHERE key = $1",
    )
    .bind(participant.0)
    .fetch_one(db)
    .await
    .map_err(failed)?;
    Ok((expired, seen))
}

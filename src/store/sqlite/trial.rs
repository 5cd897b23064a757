//! Looking a database over while a server may be using it; nothing stays behind.

use std::time::Duration;

use rollcall_protocol::Timestamp;
use sqlx::{ConnectOptions, Connection, SqliteConnection, query, query_scalar};
use uuid::Uuid;

use super::{flush, open, reap, rooms, rows::failed, within};
use crate::store::{
    Counts, Departed, ParticipantKey, ReapCriteria, RoomEndCause, RoomKey, Seen, StoreError,
    columns::broken,
    verify::{Check, demand},
};

/// Reading a whole database for damage takes longer than a join may.
const CHECK_LIMIT: Duration = Duration::from_secs(600);
const INDEXES: [&str; 4] = [
    "participants_room_key",
    "participants_room_user",
    "participants_invite_client",
    "invites_room_key",
];

/// Looks the database over; stops at the first thing without which the rest makes no sense.
pub(super) async fn verify(url: &str) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut db = match connect(url).await {
        Ok(db) => db,
        Err(error) => {
            checks.push(Check::new("open", Err(error)));
            return checks;
        }
    };
    checks.push(Check::new("open", Ok("the file opens".to_owned())));
    check(&mut checks, "schema version", version(&mut db)).await;
    check(&mut checks, "integrity", integrity(&mut db)).await;
    check(&mut checks, "indexes", indexes(&mut db)).await;
    check(
        &mut checks,
        "no index on last_seen_at",
        no_index_on_last_seen(&mut db),
    )
    .await;
    check(&mut checks, "foreign keys", foreign_keys(&mut db)).await;
    check(&mut checks, "journal mode", journal_mode(&mut db)).await;
    check(
        &mut checks,
        "flush, expiry and clean-up",
        rolled_back_trial(&mut db),
    )
    .await;
    // Its answers are in; an error here would say nothing about the database.
    let _ = db.close().await;
    checks
}

async fn connect(url: &str) -> Result<SqliteConnection, StoreError> {
    let options = open::options(url)?.create_if_missing(false);
    if !options.get_filename().is_file() {
        return Err(broken(format!(
            "{} is no file",
            options.get_filename().display()
        )));
    }
    within(CHECK_LIMIT, async {
        // Without settings that write: a file that is not ours stays as it is.
        let plain = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(options.get_filename())
            .create_if_missing(false)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
        plain.connect().await.map_err(failed)
    })
    .await
}

async fn check(
    checks: &mut Vec<Check>,
    name: &'static str,
    work: impl Future<Output = Result<String, StoreError>>,
) {
    checks.push(Check::new(name, within(CHECK_LIMIT, work).await));
}

async fn version(db: &mut SqliteConnection) -> Result<String, StoreError> {
    open::check_version(db).await?;
    Ok(format!("version {}, as this binary wants", open::VERSION))
}

async fn integrity(db: &mut SqliteConnection) -> Result<String, StoreError> {
    let answer: String = query_scalar("PRAGMA quick_check(1)")
        .fetch_one(&mut *db)
        .await
        .map_err(failed)?;
    if answer != "ok" {
        return Err(broken(format!(
            "the file is damaged ({answer}); restore a backup"
        )));
    }
    let orphan = query("PRAGMA foreign_key_check")
        .fetch_optional(db)
        .await
        .map_err(failed)?;
    if orphan.is_some() {
        return Err(broken(
            "rows refer to rows that are gone; something wrote with foreign keys off",
        ));
    }
    Ok("no damage, no orphans".to_owned())
}

async fn indexes(db: &mut SqliteConnection) -> Result<String, StoreError> {
    let found: Vec<String> = query_scalar("SELECT name FROM sqlite_schema WHERE type = 'index'")
        .fetch_all(db)
        .await
        .map_err(failed)?;
    let missing: Vec<_> = INDEXES
        .into_iter()
        .filter(|index| !found.iter().any(|found| found == index))
        .collect();
    if missing.is_empty() {
        Ok(format!("{} of {}", INDEXES.len(), INDEXES.len()))
    } else {
        Err(broken(format!(
            "missing: {}; migrations/sqlite has their definitions",
            missing.join(", ")
        )))
    }
}

async fn no_index_on_last_seen(db: &mut SqliteConnection) -> Result<String, StoreError> {
    let found: Vec<String> = query_scalar(
        "SELECT DISTINCT list.name FROM pragma_index_list('participants') AS list, pragma_index_xinfo(list.name) AS info
         WHERE info.name = 'last_seen_at'",
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

async fn foreign_keys(db: &mut SqliteConnection) -> Result<String, StoreError> {
    let on: i64 = query_scalar("PRAGMA foreign_keys")
        .fetch_one(db)
        .await
        .map_err(failed)?;
    if on == 1 {
        Ok("on".to_owned())
    } else {
        Err(broken("off: this SQLite was built without them"))
    }
}

async fn journal_mode(db: &mut SqliteConnection) -> Result<String, StoreError> {
    let mode: String = query_scalar("PRAGMA journal_mode")
        .fetch_one(db)
        .await
        .map_err(failed)?;
    if mode == "wal" {
        Ok(mode)
    } else {
        Err(broken(format!(
            "{mode} instead of wal; the server sets it at its start"
        )))
    }
}

/// Does on rows of its own what the server does all day, and takes it back.
async fn rolled_back_trial(db: &mut SqliteConnection) -> Result<String, StoreError> {
    let before = total(db).await?;
    let mut tx = db.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let inside = total(&mut tx).await?;
    let mark = Uuid::new_v4().to_string();
    let tried = trial(&mut tx, &mark).await;
    tx.rollback().await.map_err(failed)?;
    tried?;
    let after = total(db).await?;
    // A server at work may have changed the counts meanwhile; what is ours would be there by its name.
    let left: i64 = query_scalar("SELECT count(*) FROM rooms WHERE id = 'rollcall-verify-' || ?1")
        .bind(&mark)
        .fetch_one(db)
        .await
        .map_err(failed)?;
    if left != 0 {
        return Err(broken(
            "rows of a trial are left behind; delete the rooms named rollcall-verify-…",
        ));
    }
    let kept = if before == inside && before == after {
        ", counts as before"
    } else {
        ""
    };
    let Counts {
        rooms,
        participants,
        invites,
    } = after;
    Ok(format!(
        "done and rolled back{kept}: {rooms} rooms, {participants} participants, {invites} invites"
    ))
}

async fn trial(db: &mut SqliteConnection, mark: &str) -> Result<(), StoreError> {
    let second = |second: i64| Timestamp::from_millis(946_684_800_000 + second * 1_000);
    let room = RoomKey(
        query_scalar(
            "INSERT INTO rooms (id, created_at, last_active_at, idle_timeout_ms, on_idle)
             VALUES ('rollcall-verify-' || ?1, ?2, ?2, 60000, 'delete') RETURNING key",
        )
        .bind(mark)
        .bind(second(0).to_string())
        .fetch_one(&mut *db)
        .await
        .map_err(failed)?,
    );
    let participant = ParticipantKey(
        query_scalar(
            "INSERT INTO participants (id, room_key, name, access_method, is_active, joined_at, last_seen_at)
             VALUES (?1, ?2, 'verify', 'token', 1, ?3, ?3) RETURNING key",
        )
        .bind(mark)
        .bind(room.0)
        .bind(second(0).to_string())
        .fetch_one(&mut *db)
        .await
        .map_err(failed)?,
    );
    let departed = Some(Departed {
        left_at: second(30),
        generation: 1,
    });
    let missing = flush::participants(
        db,
        &[Seen {
            key: participant,
            last_seen_at: second(30),
            departed,
        }],
    )
    .await?;
    let seen = rooms::last_activity(db, room).await?;
    demand(
        missing.is_empty() && seen == Some(second(30)),
        "a flush did not move last_seen_at",
    )?;
    // Exactly: a millisecond early it stays, and its coarse time is corrected by the way.
    let (reaped, _) = reap::chunk(
        db,
        Timestamp::from_millis(second(90).as_millis() - 1),
        &[room],
        ReapCriteria::default(),
    )
    .await?;
    demand(reaped.is_empty(), "a room was reaped before it was idle")?;
    let now = second(90);
    let found = reap::candidates(db, now, ReapCriteria::default(), RoomKey(room.0 - 1), 1).await?;
    demand(found.first() == Some(&room), "an idle room was not found")?;
    let verdict = rooms::find_by_key(db, room).await?.and_then(|row| {
        ReapCriteria::default().cause(&row, seen.unwrap_or(row.last_active_at), 1, now)
    });
    demand(
        verdict == Some(RoomEndCause::Idle(Duration::from_secs(60))),
        "an idle room was not judged idle",
    )?;
    let (reaped, _) = reap::chunk(db, now, &[room], ReapCriteria::default()).await?;
    demand(
        reaped.len() == 1 && rooms::find_by_key(db, room).await?.is_none(),
        "an idle room was not reaped",
    )
}

async fn total(db: &mut SqliteConnection) -> Result<Counts, StoreError> {
    rooms::counts(db).await
}

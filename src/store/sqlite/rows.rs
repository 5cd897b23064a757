//! Rows to values and values to columns, and which errors are the database's fault. No statements.
//!
//! Rows are read by position: the column lists below and the functions that read them keep one order.

use std::{error::Error, str::FromStr, time::Duration};

use rollcall_protocol::{InviteId, OnIdle, ParticipantId, Timestamp};
use serde_json::{Map, Value};
use sqlx::{Decode, Row, Sqlite, Type, migrate::MigrateError, sqlite::SqliteRow};

use crate::store::{
    AccessMethod, InviteKey, InviteRow, ParticipantKey, ParticipantRow, RoomEnd, RoomEndCause,
    RoomKey, RoomRow, RoomSettings, StoreError,
};

/// The columns that [`room`] reads; the argument goes before each name.
macro_rules! room_columns {
    ($p:literal) => {
        concat!(
            $p,
            "key, ",
            $p,
            "id, ",
            $p,
            "created_at, ",
            $p,
            "last_active_at, ",
            $p,
            "idle_timeout_ms, ",
            $p,
            "on_idle, ",
            $p,
            "max_participants, ",
            $p,
            "max_age_ms, ",
            $p,
            "metadata"
        )
    };
}

/// The columns that [`participant`] reads.
macro_rules! participant_columns {
    ($p:literal) => {
        concat!(
            $p,
            "key, ",
            $p,
            "room_key, ",
            $p,
            "id, ",
            $p,
            "user_id, ",
            $p,
            "name, ",
            $p,
            "access_method, ",
            $p,
            "invite_key, ",
            $p,
            "is_active, ",
            $p,
            "joined_at, ",
            $p,
            "last_seen_at, ",
            $p,
            "left_at, ",
            $p,
            "generation, ",
            $p,
            "removals, ",
            $p,
            "barred_at"
        )
    };
}

/// The columns that [`invite`] reads.
macro_rules! invite_columns {
    ($p:literal) => {
        concat!(
            $p,
            "key, ",
            $p,
            "id, ",
            $p,
            "room_key, ",
            $p,
            "room_id, ",
            $p,
            "created_at, ",
            $p,
            "expires_at, ",
            $p,
            "max_uses, ",
            $p,
            "uses, ",
            $p,
            "revoked_at, ",
            $p,
            "room_ended_at, ",
            $p,
            "room_end_cause, ",
            $p,
            "room_idle_timeout_ms"
        )
    };
}

pub(super) use {invite_columns, participant_columns, room_columns};

/// How many columns [`room`] reads.
pub(super) const ROOM_WIDTH: usize = 9;
/// How many columns [`participant`] reads.
pub(super) const PARTICIPANT_WIDTH: usize = 14;
/// How many columns [`invite`] reads.
pub(super) const INVITE_WIDTH: usize = 12;

/// Reads `room_columns!` beginning at `at`.
pub(super) fn room(row: &SqliteRow, at: usize) -> Result<RoomRow, StoreError> {
    Ok(RoomRow {
        key: RoomKey(get(row, at)?),
        id: parsed(row, at + 1)?,
        created_at: parsed(row, at + 2)?,
        last_active_at: parsed(row, at + 3)?,
        settings: RoomSettings {
            idle_timeout: duration(row, at + 4)?,
            on_idle: on_idle(row, at + 5)?,
            max_participants: count(row, at + 6)?,
            max_age: duration(row, at + 7)?,
            metadata: serde_json::from_str(get(row, at + 8)?).map_err(broken)?,
        },
    })
}

/// Reads `participant_columns!` beginning at `at`.
pub(super) fn participant(row: &SqliteRow, at: usize) -> Result<ParticipantRow, StoreError> {
    Ok(ParticipantRow {
        key: ParticipantKey(get(row, at)?),
        room_key: RoomKey(get(row, at + 1)?),
        id: ParticipantId(parsed(row, at + 2)?),
        user_id: parsed_if_any(row, at + 3)?,
        name: parsed(row, at + 4)?,
        access_method: access_method(row, at + 5)?,
        invite_key: get::<Option<i64>>(row, at + 6)?.map(InviteKey),
        is_active: get(row, at + 7)?,
        joined_at: parsed(row, at + 8)?,
        last_seen_at: parsed(row, at + 9)?,
        left_at: parsed_if_any(row, at + 10)?,
        generation: get(row, at + 11)?,
        removals: get(row, at + 12)?,
        is_barred: get::<Option<&str>>(row, at + 13)?.is_some(),
    })
}

/// Reads `invite_columns!` beginning at `at`.
pub(super) fn invite(row: &SqliteRow, at: usize) -> Result<InviteRow, StoreError> {
    Ok(InviteRow {
        key: InviteKey(get(row, at)?),
        id: InviteId(parsed(row, at + 1)?),
        room_key: get::<Option<i64>>(row, at + 2)?.map(RoomKey),
        room_id: parsed(row, at + 3)?,
        created_at: parsed(row, at + 4)?,
        expires_at: parsed_if_any(row, at + 5)?,
        max_uses: count(row, at + 6)?,
        uses: get(row, at + 7)?,
        revoked_at: parsed_if_any(row, at + 8)?,
        room_end: room_end(row, at + 9)?,
    })
}

/// Whether a joined table has no row here: its key, the first of its columns, is NULL.
pub(super) fn is_absent(row: &SqliteRow, at: usize) -> Result<bool, StoreError> {
    Ok(get::<Option<i64>>(row, at)?.is_none())
}

/// Reads a column.
pub(super) fn get<'r, T>(row: &'r SqliteRow, at: usize) -> Result<T, StoreError>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
{
    row.try_get(at).map_err(failed)
}

/// Reads a text column as what it stands for.
pub(super) fn parsed<T>(row: &SqliteRow, at: usize) -> Result<T, StoreError>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    get::<&str>(row, at)?.parse().map_err(broken)
}

/// Like [`parsed`], for a column that may be NULL.
pub(super) fn parsed_if_any<T>(row: &SqliteRow, at: usize) -> Result<Option<T>, StoreError>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    get::<Option<&str>>(row, at)?
        .map(str::parse)
        .transpose()
        .map_err(broken)
}

/// A length of time as its column; what no column holds is as good as for ever.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The moment `duration` before `now`.
pub(super) fn before(now: Timestamp, duration: Duration) -> Timestamp {
    // Earlier than this the text would no longer sort.
    const EARLIEST: i64 = -62_167_219_200_000;
    Timestamp::from_millis(
        now.as_millis()
            .saturating_sub(millis(duration))
            .max(EARLIEST),
    )
}

/// Metadata as its column.
pub(super) fn json(metadata: &Map<String, Value>) -> Result<String, StoreError> {
    serde_json::to_string(metadata).map_err(broken)
}

/// The word for it in SQL.
pub(super) fn on_idle_word(on_idle: OnIdle) -> &'static str {
    match on_idle {
        OnIdle::Delete => "delete",
        OnIdle::Keep => "keep",
    }
}

/// What went wrong is the database's answer or this crate's statement.
pub(super) fn broken(source: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
    StoreError::Broken(source.into())
}

/// What went wrong may pass.
pub(super) fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
    StoreError::Unavailable(source.into())
}

/// Judges an error of sqlx.
pub(super) fn failed(error: sqlx::Error) -> StoreError {
    if may_pass(&error) {
        unavailable(error)
    } else {
        broken(error)
    }
}

/// Judges an error of a migration.
pub(super) fn migration_failed(error: MigrateError) -> StoreError {
    match &error {
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _)
            if may_pass(cause) =>
        {
            unavailable(error)
        }
        _ => broken(error),
    }
}

fn may_pass(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => {
            // Extended codes carry the primary one in their low byte: PERM, BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, FULL,
            // CANTOPEN, PROTOCOL.
            let code = error
                .code()
                .and_then(|code| code.parse::<i32>().ok())
                .unwrap_or_default();
            matches!(code & 0xff, 3 | 5 | 6 | 7 | 8 | 9 | 10 | 13 | 14 | 15)
        }
        _ => false,
    }
}

fn duration(row: &SqliteRow, at: usize) -> Result<Option<Duration>, StoreError> {
    let millis: Option<i64> = get(row, at)?;
    millis
        .map(u64::try_from)
        .transpose()
        .map(|millis| millis.map(Duration::from_millis))
        .map_err(broken)
}

fn count(row: &SqliteRow, at: usize) -> Result<Option<u32>, StoreError> {
    get(row, at)
}

fn on_idle(row: &SqliteRow, at: usize) -> Result<OnIdle, StoreError> {
    match get(row, at)? {
        "delete" => Ok(OnIdle::Delete),
        "keep" => Ok(OnIdle::Keep),
        other => Err(broken(format!("rooms.on_idle is {other:?}"))),
    }
}

fn access_method(row: &SqliteRow, at: usize) -> Result<AccessMethod, StoreError> {
    match get(row, at)? {
        "invite" => Ok(AccessMethod::Invite),
        "token" => Ok(AccessMethod::Token),
        other => Err(broken(format!("participants.access_method is {other:?}"))),
    }
}

fn room_end(row: &SqliteRow, at: usize) -> Result<Option<RoomEnd>, StoreError> {
    let Some(ended_at) = parsed_if_any(row, at)? else {
        return Ok(None);
    };
    let cause = match (get::<Option<&str>>(row, at + 1)?, duration(row, at + 2)?) {
        (Some("idle"), Some(timeout)) => RoomEndCause::Idle(timeout),
        (Some("max_age"), None) => RoomEndCause::MaxAge,
        (Some("closed"), None) => RoomEndCause::Closed,
        other => return Err(broken(format!("invites.room_end_cause is {other:?}"))),
    };
    Ok(Some(RoomEnd { ended_at, cause }))
}

//! Rows to values and values to columns, and which errors are the database's fault. No statements.
//!
//! Rows are read by position: the column lists of `store::columns` and the functions that read them keep one order.

use std::{error::Error, str::FromStr, time::Duration};

use rollcall_protocol::{InviteId, ParticipantId, Timestamp};
use sqlx::{Decode, Row, Sqlite, Type, migrate::MigrateError, sqlite::SqliteRow};

use crate::store::{
    InviteKey, InviteRow, ParticipantKey, ParticipantRow, RoomKey, RoomRow, RoomSettings,
    StoreError,
    columns::{access_method, broken, duration, millis, on_idle, room_end, unavailable},
};

/// Reads `room_columns!` beginning at `at`.
pub(super) fn room(row: &SqliteRow, at: usize) -> Result<RoomRow, StoreError> {
    Ok(RoomRow {
        key: RoomKey(get(row, at)?),
        id: parsed(row, at + 1)?,
        created_at: parsed(row, at + 2)?,
        last_active_at: parsed(row, at + 3)?,
        settings: RoomSettings {
            idle_timeout: duration(get(row, at + 4)?)?,
            on_idle: on_idle(get(row, at + 5)?)?,
            max_participants: get(row, at + 6)?,
            max_age: duration(get(row, at + 7)?)?,
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
        access_method: access_method(get(row, at + 5)?)?,
        invite_key: get::<Option<i64>>(row, at + 6)?.map(InviteKey),
        is_active: get(row, at + 7)?,
        joined_at: parsed(row, at + 8)?,
        last_seen_at: parsed(row, at + 9)?,
        left_at: parsed_if_any(row, at + 10)?,
        generation: get(row, at + 11)?,
        removals: get(row, at + 12)?,
        is_barred: get::<Option<&str>>(row, at + 13)?.is_some(),
        keeps_last_seen: get(row, at + 14)?,
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
        max_uses: get(row, at + 6)?,
        uses: get(row, at + 7)?,
        revoked_at: parsed_if_any(row, at + 8)?,
        room_end: room_end(
            parsed_if_any(row, at + 9)?,
            get(row, at + 10)?,
            duration(get(row, at + 11)?)?,
        )?,
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

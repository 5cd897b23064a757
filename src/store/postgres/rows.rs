//! Rows to values and values to columns, and which errors are the database's fault. No statements.
//!
//! Rows are read by position: the column lists of `store::columns` and the functions that read them keep one order.

use std::{error::Error, str::FromStr, time::Duration};

use chrono::{DateTime, Utc};
use rollcall_protocol::{InviteId, ParticipantId, Timestamp};
use serde_json::{Map, Value};
use sqlx::{Decode, Postgres, Row, Type, migrate::MigrateError, postgres::PgRow};

use crate::store::{
    InviteKey, InviteRow, ParticipantKey, ParticipantRow, RoomKey, RoomRow, RoomSettings,
    StoreError,
    columns::{self, access_method, broken, duration, on_idle, room_end, unavailable},
};

/// The longest that a column of the domain `length_ms` holds.
const LONGEST_MS: i64 = 315_360_000_000_000;

/// Reads `room_columns!` beginning at `at`.
pub(super) fn room(row: &PgRow, at: usize) -> Result<RoomRow, StoreError> {
    let key = RoomKey(get(row, at)?);
    Ok(RoomRow {
        key,
        id: parsed(row, at + 1)?,
        created_at: timestamp(row, at + 2)?,
        last_active_at: timestamp(row, at + 3)?,
        settings: RoomSettings {
            idle_timeout: duration(get(row, at + 4)?)?,
            on_idle: on_idle(get(row, at + 5)?)?,
            max_participants: quantity(row, at + 6)?,
            max_age: duration(get(row, at + 7)?)?,
            metadata: metadata(row, at + 8, key)?,
        },
    })
}

/// Reads metadata; empty where other software wrote what is JSON to PostgreSQL and not to this server: numbers beyond an
/// `f64`, half a surrogate pair, hundreds of levels. One such room must not keep a server from starting.
fn metadata(row: &PgRow, at: usize, room: RoomKey) -> Result<Map<String, Value>, StoreError> {
    // json travels as its text, under a type of its own.
    let text: &str = row.try_get_unchecked(at).map_err(failed)?;
    Ok(serde_json::from_str(text).unwrap_or_else(|error| {
        tracing::warn!(room.key = room.0, %error, "the metadata of a room cannot be read and is shown as empty");
        Map::new()
    }))
}

/// Reads `participant_columns!` beginning at `at`.
pub(super) fn participant(row: &PgRow, at: usize) -> Result<ParticipantRow, StoreError> {
    Ok(ParticipantRow {
        key: ParticipantKey(get(row, at)?),
        room_key: RoomKey(get(row, at + 1)?),
        id: ParticipantId(get(row, at + 2)?),
        user_id: parsed_if_any(row, at + 3)?,
        name: parsed(row, at + 4)?,
        access_method: access_method(get(row, at + 5)?)?,
        invite_key: get::<Option<i64>>(row, at + 6)?.map(InviteKey),
        is_active: get(row, at + 7)?,
        joined_at: timestamp(row, at + 8)?,
        last_seen_at: timestamp(row, at + 9)?,
        left_at: timestamp_if_any(row, at + 10)?,
        generation: get(row, at + 11)?,
        removals: get(row, at + 12)?,
        is_barred: timestamp_if_any(row, at + 13)?.is_some(),
        keeps_last_seen: get(row, at + 14)?,
    })
}

/// Reads `invite_columns!` beginning at `at`.
pub(super) fn invite(row: &PgRow, at: usize) -> Result<InviteRow, StoreError> {
    Ok(InviteRow {
        key: InviteKey(get(row, at)?),
        id: InviteId(get(row, at + 1)?),
        room_key: get::<Option<i64>>(row, at + 2)?.map(RoomKey),
        room_id: parsed(row, at + 3)?,
        created_at: timestamp(row, at + 4)?,
        expires_at: timestamp_if_any(row, at + 5)?,
        max_uses: quantity(row, at + 6)?,
        uses: quantity(row, at + 7)?.unwrap_or_default(),
        revoked_at: timestamp_if_any(row, at + 8)?,
        room_end: room_end(
            timestamp_if_any(row, at + 9)?,
            get(row, at + 10)?,
            duration(get(row, at + 11)?)?,
        )?,
    })
}

/// Whether a joined table has no row here: its key, the first of its columns, is NULL.
pub(super) fn is_absent(row: &PgRow, at: usize) -> Result<bool, StoreError> {
    Ok(get::<Option<i64>>(row, at)?.is_none())
}

/// Reads a column.
pub(super) fn get<'r, T>(row: &'r PgRow, at: usize) -> Result<T, StoreError>
where
    T: Decode<'r, Postgres> + Type<Postgres>,
{
    row.try_get(at).map_err(failed)
}

/// Reads a moment, to the millisecond below.
pub(super) fn timestamp(row: &PgRow, at: usize) -> Result<Timestamp, StoreError> {
    get::<DateTime<Utc>>(row, at).map(Timestamp::from)
}

/// Like [`timestamp`], for a column that may be NULL.
pub(super) fn timestamp_if_any(row: &PgRow, at: usize) -> Result<Option<Timestamp>, StoreError> {
    Ok(get::<Option<DateTime<Utc>>>(row, at)?.map(Timestamp::from))
}

/// A moment as its column.
pub(super) fn moment(time: Timestamp) -> DateTime<Utc> {
    time.to_datetime()
}

/// A length of time as its column; what no column holds is as good as for ever.
pub(super) fn millis(duration: Duration) -> i64 {
    columns::millis(duration).min(LONGEST_MS)
}

/// Judges an error of sqlx.
pub(super) fn failed(error: sqlx::Error) -> StoreError {
    if is_locked(&error) {
        StoreError::Locked(error.into())
    } else if may_pass(&error) {
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

/// Whether it waited for a lock for too long, or would have waited for ever.
fn is_locked(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}

/// Whether the same may work later, by SQLSTATE class (PostgreSQL documentation, appendix A).
fn may_pass(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        // What came was cut off, or belongs to what was cut off before.
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::BeginFailed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            // Connection, transaction rollback (deadlock), resources (disk full), prerequisite state (lock timeout),
            // operator (shut down, cancelled), system (I/O); and a primary that has become a standby: what it says to a
            // write, and to BEGIN READ WRITE.
            let class = code.get(..2).unwrap_or_default();
            matches!(class, "08" | "40" | "53" | "55" | "57" | "58") || matches!(&*code, "25006" | "0A000")
        }
        _ => false,
    }
}

fn quantity(row: &PgRow, at: usize) -> Result<Option<u32>, StoreError> {
    get::<Option<i64>>(row, at)?
        .map(u32::try_from)
        .transpose()
        .map_err(broken)
}

/// Reads a text column as what it stands for.
pub(super) fn parsed<T>(row: &PgRow, at: usize) -> Result<T, StoreError>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    get::<&str>(row, at)?.parse().map_err(broken)
}

fn parsed_if_any<T>(row: &PgRow, at: usize) -> Result<Option<T>, StoreError>
where
    T: FromStr<Err: Error + Send + Sync + 'static>,
{
    get::<Option<&str>>(row, at)?
        .map(str::parse)
        .transpose()
        .map_err(broken)
}

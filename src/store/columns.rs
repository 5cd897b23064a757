//! What both databases have in common: which columns make a row, in which order, and how values stand in them.
//!
//! Statements list the columns and `rows` reads them by position: the lists here and its functions keep one order.

use std::{error::Error, time::Duration};

use rollcall_protocol::{OnIdle, Timestamp};
use serde_json::{Map, Value};

use super::{AccessMethod, RoomEnd, RoomEndCause, StoreError};

/// A list of columns, the first argument before each name.
macro_rules! columns {
    ($p:literal: $first:literal $(, $rest:literal)*) => { concat!($p, $first $(, ", ", $p, $rest)*) };
}

/// The columns of a `RoomRow`.
macro_rules! room_columns {
    ($p:literal) => {
        $crate::store::columns::columns!($p: "key", "id", "created_at", "last_active_at", "idle_timeout_ms", "on_idle",
            "max_participants", "max_age_ms", "metadata")
    };
}

/// The columns of a `ParticipantRow`.
macro_rules! participant_columns {
    ($p:literal) => {
        $crate::store::columns::columns!($p: "key", "room_key", "id", "user_id", "name", "access_method", "invite_key",
            "is_active", "joined_at", "last_seen_at", "left_at", "generation", "removals", "barred_at", "keeps_last_seen")
    };
}

/// The columns of an `InviteRow`.
macro_rules! invite_columns {
    ($p:literal) => {
        $crate::store::columns::columns!($p: "key", "id", "room_key", "room_id", "created_at", "expires_at", "max_uses",
            "uses", "revoked_at", "room_ended_at", "room_end_cause", "room_idle_timeout_ms")
    };
}

pub(super) use {columns, invite_columns, participant_columns, room_columns};

/// How many columns `room_columns!` lists.
pub(super) const ROOM_WIDTH: usize = 9;
/// How many columns `participant_columns!` lists.
pub(super) const PARTICIPANT_WIDTH: usize = 15;
/// How many columns `invite_columns!` lists.
pub(super) const INVITE_WIDTH: usize = 12;

/// A length of time as its column; what no column holds is as good as for ever.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A column as a length of time.
pub(super) fn duration(millis: Option<i64>) -> Result<Option<Duration>, StoreError> {
    let millis = millis.map(u64::try_from).transpose().map_err(broken)?;
    Ok(millis.map(Duration::from_millis))
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

/// What the word in SQL stands for.
pub(super) fn on_idle(word: &str) -> Result<OnIdle, StoreError> {
    match word {
        "delete" => Ok(OnIdle::Delete),
        "keep" => Ok(OnIdle::Keep),
        other => Err(broken(format!("rooms.on_idle is {other:?}"))),
    }
}

/// What the word in SQL stands for.
pub(super) fn access_method(word: &str) -> Result<AccessMethod, StoreError> {
    match word {
        "invite" => Ok(AccessMethod::Invite),
        "token" => Ok(AccessMethod::Token),
        other => Err(broken(format!("participants.access_method is {other:?}"))),
    }
}

/// The three columns that say how an invite's room ended, if it did.
pub(super) fn room_end(
    ended_at: Option<Timestamp>,
    cause: Option<&str>,
    idle_timeout: Option<Duration>,
) -> Result<Option<RoomEnd>, StoreError> {
    let Some(ended_at) = ended_at else {
        return Ok(None);
    };
    let cause = match (cause, idle_timeout) {
        (Some("idle"), Some(timeout)) => RoomEndCause::Idle(timeout),
        (Some("max_age"), None) => RoomEndCause::MaxAge,
        (Some("closed"), None) => RoomEndCause::Closed,
        other => return Err(broken(format!("invites.room_end_cause is {other:?}"))),
    };
    Ok(Some(RoomEnd { ended_at, cause }))
}

/// What went wrong is the database's answer or this crate's statement.
pub(super) fn broken(source: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
    StoreError::Broken(source.into())
}

/// What went wrong may pass.
pub(super) fn unavailable(source: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
    StoreError::Unavailable(source.into())
}

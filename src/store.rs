//! What the rest may ask of a database.
//!
//! [`Store`] is the contract; `sqlite`, `postgres` and `memory` keep it, and one suite (`tests/store_contract.rs`) holds all
//! to it. Nothing here knows sockets or rosters: who is live is told to the store, never asked by it.
//!
//! Times are the store's own ([`StoreClock`]). A room or participant has an internal `key`, which is never used
//! twice, and a public `id`; a room born again under its old id has a new key, which is what "incarnation" means.

mod chunks;
mod clock;
mod columns;
pub mod memory;
pub mod postgres;
mod precision;
pub mod sqlite;
pub mod verify;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use rollcall_protocol::{
    DisplayName, InviteId, OnIdle, ParticipantId, RoomId, RoomView, Timestamp, UserId,
};
use serde_json::{Map, Value};

pub use self::{clock::StoreClock, precision::Precision};
use self::{postgres::PostgresStore, sqlite::SqliteStore, verify::Check};
use crate::{
    clock::Clock,
    config::{Database, DatabaseKind},
};

macro_rules! key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

key!(
    /// One incarnation of a room. Never used twice in one database.
    RoomKey
);
key!(
    /// One participant's row. Never used twice in one database.
    ParticipantKey
);
key!(
    /// One invite's row.
    InviteKey
);

/// Why the store could not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is away, locked for too long, or refuses work. Trying again later may help; whether a commit
    /// took place is unknown.
    #[error("the database is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database answered something that the schema forbids, or a statement is wrong. Trying again will not help.
    #[error("the database answered unexpectedly")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Somebody else had what the call needs locked for too long, or waited for this call in turn. Nothing was written;
    /// other rows are not affected.
    #[error("somebody else keeps rows of the database locked")]
    Locked(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Another node has taken the database over while this one was silent. This one must not serve it any more.
    #[error("another node has taken the database over; this one was silent for too long")]
    Superseded,
}

/// What `rooms` holds of one room.
#[derive(Debug, Clone, PartialEq)]
pub struct RoomRow {
    /// The incarnation.
    pub key: RoomKey,
    /// The application's id.
    pub id: RoomId,
    /// When the room was made.
    pub created_at: Timestamp,
    /// A lower bound of the last activity: creation, touch and admission exactly, heartbeats coarsely.
    pub last_active_at: Timestamp,
    /// What a room may set about itself.
    pub settings: RoomSettings,
}

impl RoomRow {
    /// When the room is past its maximum age; `None` if it has none.
    pub fn ends_at(&self) -> Option<Timestamp> {
        self.settings.max_age.map(|age| self.created_at + age)
    }

    /// When the room is idle if nobody is heard after `last_activity`; `None` if never.
    pub fn idle_at(&self, last_activity: Timestamp) -> Option<Timestamp> {
        self.settings
            .idle_timeout
            .map(|timeout| last_activity + timeout)
    }

    /// The room as clients and the management API see it.
    pub fn view(&self) -> RoomView {
        RoomView {
            id: self.id.clone(),
            created_at: self.created_at,
            // Options may set a default with a fraction; a reader is better told a little too much than too little.
            idle_timeout_seconds: self
                .settings
                .idle_timeout
                .map(|timeout| timeout.as_millis().div_ceil(1000) as u64),
            expires_at: self.ends_at(),
            metadata: self.settings.metadata.clone().into(),
        }
    }
}

/// The settings of a room, defaults already filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct RoomSettings {
    /// `None`: never idle. Whole milliseconds.
    pub idle_timeout: Option<Duration>,
    /// Whether the reaper deletes the room when it is idle.
    pub on_idle: OnIdle,
    /// The most seats, grace included; `None`: no limit.
    pub max_participants: Option<u32>,
    /// `None`: no maximum age. Whole milliseconds.
    pub max_age: Option<Duration>,
    /// The application's own data, shown to members.
    pub metadata: Map<String, Value>,
}

/// How a participant came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessMethod {
    /// By an invite link.
    Invite,
    /// By an access token (JWT).
    Token,
}

impl AccessMethod {
    /// The word in SQL and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invite => "invite",
            Self::Token => "token",
        }
    }
}

/// What `participants` holds of one participant.
#[derive(Debug, Clone, PartialEq)]
pub struct ParticipantRow {
    /// The internal key.
    pub key: ParticipantKey,
    /// The room's incarnation.
    pub room_key: RoomKey,
    /// The public id.
    pub id: ParticipantId,
    /// The access token's `sub`.
    pub user_id: Option<UserId>,
    /// The display name.
    pub name: DisplayName,
    /// How the participant came in.
    pub access_method: AccessMethod,
    /// The invite it came by, if that still exists.
    pub invite_key: Option<InviteKey>,
    /// Has not left.
    pub is_active: bool,
    /// When the participant first joined.
    pub joined_at: Timestamp,
    /// Never goes back while it is kept.
    pub last_seen_at: Timestamp,
    /// Whether it is kept when the participant was there; if not, `last_seen_at` is `joined_at`, and `left_at` likewise.
    pub keeps_last_seen: bool,
    /// Set exactly when `is_active` is false.
    pub left_at: Option<Timestamp>,
    /// Counts admissions. A departure names the one it ends, so that a late flush of it cannot undo a newer join.
    pub generation: i64,
    /// Counts removals. A resume token names the one it was issued under and is void after the next.
    pub removals: i64,
    /// Barred from coming back.
    pub is_barred: bool,
}

/// What `invites` holds of one invite.
#[derive(Debug, Clone, PartialEq)]
pub struct InviteRow {
    /// The internal key.
    pub key: InviteKey,
    /// The public id; the token is stored as its hash only.
    pub id: InviteId,
    /// `None` once the room is gone.
    pub room_key: Option<RoomKey>,
    /// The room's id, kept when the room is gone.
    pub room_id: RoomId,
    /// When it was made.
    pub created_at: Timestamp,
    /// A fixed end, if it has one.
    pub expires_at: Option<Timestamp>,
    /// How many participants may come by it.
    pub max_uses: Option<u32>,
    /// How many did.
    pub uses: u32,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When its room went away, and how.
    pub room_end: Option<RoomEnd>,
}

/// How an invite's room went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomEnd {
    /// When; the invite is purged 30 days later.
    pub ended_at: Timestamp,
    /// What ended it.
    pub cause: RoomEndCause,
}

/// What ended a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomEndCause {
    /// It was reaped as idle, after this long without anybody.
    Idle(Duration),
    /// It was past its maximum age.
    MaxAge,
    /// The application closed it.
    Closed,
}

/// Who asks to join, identified but not yet judged.
#[derive(Debug, Clone, PartialEq)]
pub enum Identity {
    /// A guest with an invite.
    Invite {
        /// SHA-256 of the invite token.
        token_hash: [u8; 32],
        /// SHA-256 of the browser's `client` value, if it sent one.
        client_hash: Option<[u8; 32]>,
    },
    /// A user that the application vouches for.
    User {
        /// The room, by the application's id.
        room_id: RoomId,
        /// The token's `sub`.
        user_id: UserId,
    },
    /// A participant coming back after its seat was given up.
    Resume {
        /// The incarnation the token names.
        room_key: RoomKey,
        /// The participant it names.
        participant_id: ParticipantId,
    },
}

/// What the store knows that decides one join. For [`JoinBatch`] the rows are locked until the batch ends.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// The invite asked by, if there is one.
    pub invite: Option<InviteRow>,
    /// The room: the invite's, the named one, or the incarnation of a resume token.
    pub room: Option<RoomRow>,
    /// The latest of the room's `last_active_at` and its participants' `last_seen_at`. Exact where it decides: the
    /// participants are looked at only when `last_active_at` alone would make the room idle.
    pub last_activity: Option<Timestamp>,
    /// The participant this identity already is in this room.
    pub participant: Option<ParticipantRow>,
}

/// What to write for one admitted join.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinWrite {
    /// Which identity of the batch, by its index in what `begin_joins` was given.
    pub index: usize,
    /// Where to.
    pub room: JoinRoom,
    /// As whom.
    pub participant: JoinParticipant,
    /// Whether it is kept from now on when the participant was there; `None`: as before, and of somebody new it is.
    pub keeps_last_seen: Option<bool>,
}

/// The room of an admitted join.
#[derive(Debug, Clone, PartialEq)]
pub enum JoinRoom {
    /// The one in the facts; its `last_active_at` becomes now.
    Existing(RoomKey),
    /// Make it. An idle predecessor is not replaced by this: that one is revived as `Existing`.
    Create {
        /// Its id.
        id: RoomId,
        /// Its settings.
        settings: RoomSettings,
    },
}

/// The participant of an admitted join.
#[derive(Debug, Clone, PartialEq)]
pub enum JoinParticipant {
    /// The one in the facts: active again, seen now, one generation on.
    Returning {
        /// Which.
        key: ParticipantKey,
        /// A new display name, if it brought one.
        name: Option<DisplayName>,
    },
    /// Somebody new.
    New {
        /// The public id, made by the caller (uuid v7).
        id: ParticipantId,
        /// The access token's `sub`.
        user_id: Option<UserId>,
        /// The display name.
        name: DisplayName,
        /// How it came in.
        access_method: AccessMethod,
        /// The invite, one more use of which is counted, and the browser's `client` hash.
        invite: Option<(InviteKey, Option<[u8; 32]>)>,
    },
}

/// What was committed for one admitted join.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    /// The room as it is now.
    pub room: RoomRow,
    /// The participant as it is now.
    pub participant: ParticipantRow,
}

/// What to do about rows that somebody else has locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockWait {
    /// Leave their joins out ([`JoinBatch::is_contended`]), so that the others of the batch do not wait with them.
    Skip,
    /// Wait, as long as the store lets any call wait for a lock.
    Wait,
}

/// One admission transaction: facts read and locked, nothing written yet. Dropping it changes nothing.
#[async_trait]
pub trait JoinBatch: Send {
    /// The store's now for every verdict of this batch.
    fn now(&self) -> Timestamp;

    /// One for each identity, in the order asked.
    fn facts(&self) -> &[Facts];

    /// Whether somebody else has locked what decides this identity's join: its facts say nothing then. Only with
    /// [`LockWait::Skip`], and only where a store locks less than everything.
    fn is_contended(&self, _index: usize) -> bool {
        false
    }

    /// Ends the transaction and changes nothing, as dropping it does, which may cost a store its connection.
    async fn release(self: Box<Self>) {}

    /// Writes the admitted joins and commits. The caller sees to it that no two writes make the same room or the same
    /// participant. Answers in the order of `writes`.
    ///
    /// # Errors
    /// On `Unavailable` the commit may or may not have happened; repeating the join of the same participant is
    /// harmless.
    async fn commit(self: Box<Self>, writes: Vec<JoinWrite>) -> Result<Vec<Joined>, StoreError>;
}

/// One batch of what the flusher knows and the store does not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FlushBatch {
    /// Rooms whose coarse `last_active_at` advances, sorted by key. Written and committed before the participants.
    pub rooms: Vec<(RoomKey, Timestamp)>,
    /// Participants seen or departed, sorted by key.
    pub participants: Vec<Seen>,
    /// States changed since they were last written, sorted by key; `None`: it ended with the seat.
    pub states: Vec<(ParticipantKey, Option<String>)>,
}

/// One participant's row of a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Who.
    pub key: ParticipantKey,
    /// When last; an older value than the stored one changes nothing.
    pub last_seen_at: Timestamp,
    /// Set when the participant left, with the generation that ended. A newer generation in the row wins.
    pub departed: Option<Departed>,
}

/// The end of one generation of a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departed {
    /// When it left.
    pub left_at: Timestamp,
    /// The admission it ends.
    pub generation: i64,
}

/// What a flush found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Participants that have no row any more.
    pub missing: Vec<ParticipantKey>,
    /// Participants whose rows somebody else keeps locked. Nothing of them was written; they are still owed.
    pub locked: Vec<ParticipantKey>,
    /// Rooms that were not advanced for the same reason.
    pub locked_rooms: Vec<RoomKey>,
}

/// Which idle rooms a sweep may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReapCriteria {
    /// Only rooms at least this old.
    pub min_age: Option<Duration>,
    /// Only rooms with fewer participant rows than this.
    pub below_participants: Option<u32>,
}

impl ReapCriteria {
    /// Why this room goes, if it does; `last_activity` and `participants` are exact. Both moments are inclusive: a room
    /// that refuses joins as idle is one that is reaped.
    pub(crate) fn cause(
        &self,
        room: &RoomRow,
        last_activity: Timestamp,
        participants: u64,
        now: Timestamp,
    ) -> Option<RoomEndCause> {
        let is_spared = room.settings.on_idle == OnIdle::Keep
            || self.min_age.is_some_and(|age| room.created_at + age > now)
            || self
                .below_participants
                .is_some_and(|below| participants >= u64::from(below));
        if is_spared {
            None
        } else if room.ends_at().is_some_and(|end| end <= now) {
            Some(RoomEndCause::MaxAge)
        } else {
            let is_idle = room.idle_at(last_activity).is_some_and(|idle| idle <= now);
            room.settings
                .idle_timeout
                .filter(|_| is_idle)
                .map(RoomEndCause::Idle)
        }
    }
}

/// A room that is, or would be, reaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReapedRoom {
    /// The incarnation.
    pub key: RoomKey,
    /// The application's id.
    pub id: RoomId,
    /// How many participant rows go with it.
    pub participants: u64,
}

/// What a node says of itself, so that others can tell who may be live whom the store does not show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeTerms {
    /// How often clients are heard.
    pub heartbeat_interval: Duration,
    /// How long a connection may be silent.
    pub heartbeat_timeout: Duration,
    /// How long a seat outlives an unclean disconnect.
    pub reconnect_grace: Duration,
    /// How long restored seats are held.
    pub restart_grace: Duration,
    /// How far the stored `last_seen_at` may be behind.
    pub flush_interval: Duration,
    /// How exactly it is kept.
    pub last_seen_precision: Precision,
}

impl NodeTerms {
    /// How long a node may go without a flush before it counts as silent: one missed, and one that took all its time.
    pub fn stale_after(&self) -> Duration {
        self.flush_interval * 2 + FLUSH_LIMIT
    }

    /// How long after its start the people of its predecessor may still be on their way back.
    pub fn settle(&self) -> Duration {
        self.restart_grace
            .max(self.heartbeat_interval + self.flush_interval)
    }

    /// How old the stored sign of life of somebody who has a seat may be.
    pub fn seat_silence(&self) -> Duration {
        self.heartbeat_timeout
            + self.reconnect_grace
            + self.stale_after()
            + self.last_seen_precision.step()
    }
}

/// The limit of one step of a flush; see the stores' own limits.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// A seat to hold after a restart.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedSeat {
    /// The participant.
    pub participant: ParticipantRow,
    /// Its state as JSON text, if it had one.
    pub state: Option<String>,
}

/// What the previous node left behind.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Restored {
    /// The rooms of the seats.
    pub rooms: Vec<RoomRow>,
    /// Seats to hold through the restart grace.
    pub seats: Vec<SavedSeat>,
}

/// A change of a room's settings; `None` leaves as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RoomPatch {
    /// `Some(None)`: never idle.
    pub idle_timeout: Option<Option<Duration>>,
    /// What happens to the idle room.
    pub on_idle: Option<OnIdle>,
    /// `Some(None)`: no limit.
    pub max_participants: Option<Option<u32>>,
    /// `Some(None)`: no maximum age.
    pub max_age: Option<Option<Duration>>,
    /// The whole new metadata.
    pub metadata: Option<Map<String, Value>>,
}

impl RoomPatch {
    /// Changes what it names.
    pub(crate) fn apply(&self, settings: &mut RoomSettings) {
        settings.idle_timeout = self.idle_timeout.unwrap_or(settings.idle_timeout);
        settings.on_idle = self.on_idle.unwrap_or(settings.on_idle);
        settings.max_participants = self.max_participants.unwrap_or(settings.max_participants);
        settings.max_age = self.max_age.unwrap_or(settings.max_age);
        if let Some(metadata) = &self.metadata {
            settings.metadata.clone_from(metadata);
        }
    }
}

/// A made or found room.
#[derive(Debug, Clone, PartialEq)]
pub enum Created {
    /// It was made.
    New(RoomRow),
    /// The id was taken; nothing changed.
    Exists(RoomRow),
}

/// An invite to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewInvite {
    /// The public id (uuid v7).
    pub id: InviteId,
    /// SHA-256 of its token.
    pub token_hash: [u8; 32],
    /// A fixed lifetime, from the store's now.
    pub expires_in: Option<Duration>,
    /// How many participants may come by it.
    pub max_uses: Option<u32>,
}

/// Row counts, for `stats` and `verify`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows of `rooms`.
    pub rooms: u64,
    /// Rows of `participants`.
    pub participants: u64,
    /// Rows of `invites`.
    pub invites: u64,
}

/// A database that keeps rooms, participants and invites.
///
/// Every call is bounded in time by the implementation and fails with [`StoreError::Unavailable`] past its limit.
/// Every call samples the store's clock. Dropping a call's future rolls back what it had not committed.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The clock that stored and shown times are on.
    fn clock(&self) -> &StoreClock;

    /// Takes the database for this process and says what the previous node left. Seats are restored for participants
    /// active and seen later than the previous node's last flush less the heartbeat timeout and that node's precision, or
    /// active without that being kept; other active rows get `left_at = last_seen_at`. From then on what this handle itself
    /// writes of when somebody was seen or left is of the precision of `terms`. `None`: another node still serves this
    /// database.
    async fn take_over(&self, terms: NodeTerms) -> Result<Option<Restored>, StoreError>;

    /// Marks this node as stopped, after its last flush, and lets the next one take over at once.
    async fn stop(&self) -> Result<(), StoreError>;

    /// Closes the pool. Nothing may be asked afterwards.
    async fn close(&self);

    /// Whether the database answers and its schema is the one this binary wants.
    async fn ping(&self) -> Result<(), StoreError>;

    /// The key that signs resume tokens, made at the first call ever.
    async fn signing_key(&self) -> Result<[u8; 32], StoreError>;

    /// Opens an admission transaction over these identities.
    async fn begin_joins(
        &self,
        identities: &[Identity],
        wait: LockWait,
    ) -> Result<Box<dyn JoinBatch>, StoreError>;

    /// The same facts without a lock, for the verdict that changes nothing; with the store's now.
    async fn facts(&self, identity: &Identity) -> Result<(Timestamp, Facts), StoreError>;

    /// Writes a batch: rooms first and committed, then participants, in bounded chunks, then the node's
    /// `flushed_at`. An empty batch still moves `flushed_at`. Repeating a batch is harmless.
    async fn flush(&self, batch: &FlushBatch) -> Result<Flushed, StoreError>;

    /// At most `limit` rooms after `after` (by key) that look reapable by the coarse column: idle and `on_idle: delete`, or
    /// past their maximum age (`on_idle: delete` too), and meeting `criteria`. Takes no lock.
    async fn reap_candidates(
        &self,
        criteria: ReapCriteria,
        after: RoomKey,
        limit: u32,
    ) -> Result<Vec<RoomKey>, StoreError>;

    /// Deletes those of `keys` that still are reapable when looked at exactly, under a lock; their invites remember how
    /// the room ended. The others' `last_active_at` advances to what was found. Answers what was deleted, or with
    /// `dry_run` what would have been, changing nothing.
    async fn reap(
        &self,
        keys: &[RoomKey],
        criteria: ReapCriteria,
        dry_run: bool,
    ) -> Result<Vec<ReapedRoom>, StoreError>;

    /// Deletes invites whose room went away longer than `keep` ago; at most `limit`. Answers how many.
    async fn purge_invites(&self, keep: Duration, limit: u32) -> Result<u64, StoreError>;

    /// Deletes at most `limit` participants who left longer than `keep` ago, as far as is known, and are not barred. No
    /// room's activity goes back by it, and no use of an invite is given back. Answers how many; fewer where somebody else
    /// has rooms locked.
    async fn purge_departed(&self, keep: Duration, limit: u32) -> Result<u64, StoreError>;

    /// Makes a room.
    async fn create_room(
        &self,
        id: &RoomId,
        settings: &RoomSettings,
    ) -> Result<Created, StoreError>;

    /// Finds a room by the application's id.
    async fn room(&self, id: &RoomId) -> Result<Option<RoomRow>, StoreError>;

    /// Finds an incarnation.
    async fn room_by_key(&self, key: RoomKey) -> Result<Option<RoomRow>, StoreError>;

    /// The exact last activity of a room (see [`Facts::last_activity`], participants always looked at).
    async fn last_activity(&self, key: RoomKey) -> Result<Option<Timestamp>, StoreError>;

    /// At most `limit` rooms by key, after `after`.
    async fn rooms(&self, after: RoomKey, limit: u32) -> Result<Vec<RoomRow>, StoreError>;

    /// Changes a room's settings.
    async fn patch_room(
        &self,
        id: &RoomId,
        patch: &RoomPatch,
    ) -> Result<Option<RoomRow>, StoreError>;

    /// Sets the room's `last_active_at` to now.
    async fn touch_room(&self, id: &RoomId) -> Result<Option<RoomRow>, StoreError>;

    /// Deletes a room with its participants; its invites remember that it was closed.
    async fn delete_room(&self, id: &RoomId) -> Result<Option<RoomRow>, StoreError>;

    /// At most `limit` participants of a room by key, after `after`.
    async fn participants(
        &self,
        room: RoomKey,
        after: ParticipantKey,
        limit: u32,
    ) -> Result<Vec<ParticipantRow>, StoreError>;

    /// Finds a participant of a room.
    async fn participant(
        &self,
        room: RoomKey,
        id: ParticipantId,
    ) -> Result<Option<ParticipantRow>, StoreError>;

    /// Removes a participant: inactive, left now, one removal on, barred if asked, and its invite revoked if asked.
    async fn remove_participant(
        &self,
        room: RoomKey,
        id: ParticipantId,
        bar: bool,
        revoke_invite: bool,
    ) -> Result<Option<ParticipantRow>, StoreError>;

    /// Lifts the bar.
    async fn restore_participant(
        &self,
        room: RoomKey,
        id: ParticipantId,
    ) -> Result<Option<ParticipantRow>, StoreError>;

    /// Makes an invite; `None` if the room is not there.
    async fn create_invite(
        &self,
        room: &RoomId,
        invite: &NewInvite,
    ) -> Result<Option<InviteRow>, StoreError>;

    /// At most `limit` invites of a room by key, after `after`.
    async fn invites(
        &self,
        room: RoomKey,
        after: InviteKey,
        limit: u32,
    ) -> Result<Vec<InviteRow>, StoreError>;

    /// Revokes an invite; revoking again changes nothing.
    async fn revoke_invite(&self, id: InviteId) -> Result<Option<InviteRow>, StoreError>;

    /// Row counts.
    async fn counts(&self) -> Result<Counts, StoreError>;
}

/// Opens the database, of whichever kind, and brings its schema up to this version.
///
/// # Errors
/// [`StoreError::Broken`] if it is not ours, or of a newer version; [`StoreError::Unavailable`] if it cannot be reached.
pub async fn open(database: &Database, clock: Clock) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match database.kind() {
        DatabaseKind::Sqlite => Arc::new(SqliteStore::open(database.url.expose(), clock).await?),
        DatabaseKind::Postgres => Arc::new(PostgresStore::open(database, clock).await?),
    })
}

/// Brings the schema up to this version.
///
/// # Errors
/// As [`open`].
pub async fn migrate(database: &Database) -> Result<(), StoreError> {
    match database.kind() {
        DatabaseKind::Sqlite => SqliteStore::migrate(database.url.expose()).await,
        DatabaseKind::Postgres => PostgresStore::migrate(database).await,
    }
}

/// Looks the database over and changes nothing.
pub async fn verify(database: &Database) -> Vec<Check> {
    match database.kind() {
        DatabaseKind::Sqlite => SqliteStore::verify(database.url.expose()).await,
        DatabaseKind::Postgres => PostgresStore::verify(database).await,
    }
}

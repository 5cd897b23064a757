//! What the server says. Each message is written once, in `server_messages!`; from there come the enum, and the bare
//! structs it is read through.

use std::io;

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::RawValue;

use crate::{
    ConnectionId, DisplayName, LeaveReason, Member, ParticipantId, Ref, RoomView, RosterMode,
    StateText, Status, Timestamp,
};

macro_rules! server_messages {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        /// A message to a client.
        #[derive(Debug, Clone, Serialize)]
        #[serde(tag = "type", rename_all = "snake_case")]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub enum ServerMessage {
            $($(#[$doc])* $name { $($(#[$field_doc])* $field: $type,)* },)*
        }

        /// The same without the tag: raw JSON inside a tagged enum cannot be read by serde in one go.
        mod bare {
            use super::*;
            $(#[derive(Deserialize)] #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))] pub(super) struct $name { $($(#[$field_doc])* pub(super) $field: $type,)* })*
        }

        impl ServerMessage {
            fn read(kind: &str, text: &str) -> Result<Option<Self>, serde_json::Error> {
                $(if kind == snake(stringify!($name)) {
                    let bare::$name { $($field,)* } = serde_json::from_str(text)?;
                    return Ok(Some(Self::$name { $($field,)* }));
                })*
                Ok(None)
            }
        }
    };
}

server_messages! {
    /// The first message: the room, oneself, and the roster as of `seq`.
    Welcome {
        /// The protocol's version.
        protocol: u32,
        /// The seat was still held: nobody saw a change, and the state is as it was.
        resumed: bool,
        /// The room.
        room: RoomView,
        /// Oneself.
        #[serde(rename = "self")]
        self_: SelfView,
        /// How often to send a heartbeat.
        heartbeat_interval_ms: u64,
        /// The server's time.
        server_time: Timestamp,
        /// The number of the last presence frame.
        seq: u64,
        /// Whether members are listed.
        roster: RosterMode,
        /// How many are here.
        occupancy: u64,
        /// Everybody, oneself included; absent when only counted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "Vec<Member>"))]
        members: Option<Vec<Member>>,
    }
    /// What changed; `seq` is one more than that of the frame before.
    Presence {
        /// This frame's number.
        seq: u64,
        /// How many are here now.
        occupancy: u64,
        /// New members.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        joined: Vec<Member>,
        /// Changed members.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        updated: Vec<Update>,
        /// Members that left.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        left: Vec<Departure>,
    }
    /// Replaces the roster.
    Sync {
        /// The number of the last presence frame it includes.
        seq: u64,
        /// Whether members are listed.
        roster: RosterMode,
        /// How many are here.
        occupancy: u64,
        /// Everybody; absent when only counted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "Vec<Member>"))]
        members: Option<Vec<Member>>,
    }
    /// Answers a heartbeat.
    HeartbeatAck {
        /// The server's time.
        server_time: Timestamp,
    }
    /// Something a member, or the application, said to the room.
    Broadcast {
        /// Who; null: the application.
        from: Option<ParticipantId>,
        /// What it is about.
        event: String,
        /// Any JSON.
        #[cfg_attr(feature = "schema", schemars(with = "serde_json::Value"))]
        payload: Box<RawValue>,
    }
    /// The room's settings or metadata changed.
    Room {
        /// The room as it is now.
        room: RoomView,
    }
    /// The room is about to end.
    RoomExpiring {
        /// When.
        expires_at: Timestamp,
        /// Why.
        reason: ExpiryReason,
    }
    /// The access token is about to end; send a fresh one before.
    TokenExpiring {
        /// When.
        expires_at: Timestamp,
    }
    /// The server is going away; the close follows at once.
    Reconnect {
        /// How long to wait before coming back.
        after_ms: u64,
    }
    /// A message was not carried out; the connection lives.
    Error {
        /// For programs.
        code: ErrorCode,
        /// For people.
        detail: String,
        /// The `ref` of the message it is about.
        #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schemars(with = "Ref"))]
        reference: Option<Ref>,
    }
}

impl ServerMessage {
    /// The JSON text, which is what goes on the wire.
    ///
    /// ```
    /// # use rollcall_protocol::ServerMessage;
    /// let texts = [
    ///     r#"{"type":"welcome","protocol":1,"resumed":false,"room":{"id":"lobby","created_at":"2026-11-24T10:00:00.000Z","idle_timeout_seconds":3600,"expires_at":null,"metadata":{}},"self":{"participant_id":"0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3","connection_id":"00000000000000ff","resume_token":"r1"},"heartbeat_interval_ms":30000,"server_time":"2026-11-24T10:00:00.000Z","seq":41,"roster":"full","occupancy":0,"members":[]}"#,
    ///     r#"{"type":"presence","seq":42,"occupancy":1,"updated":[{"id":"0192f0c1-2d3e-7a4b-8c5d-6e7f8091a2b3","status":"idle"}]}"#,
    ///     r#"{"type":"sync","seq":57,"roster":"count","occupancy":1204}"#,
    ///     r#"{"type":"heartbeat_ack","server_time":"2026-11-24T10:00:00.000Z"}"#,
    ///     r#"{"type":"broadcast","from":null,"event":"cursor","payload":{"x":1.50}}"#,
    ///     r#"{"type":"room","room":{"id":"lobby","created_at":"2026-11-24T10:00:00.000Z","idle_timeout_seconds":null,"expires_at":null,"metadata":{}}}"#,
    ///     r#"{"type":"room_expiring","expires_at":"2026-11-24T11:00:00.000Z","reason":"max_age"}"#,
    ///     r#"{"type":"room_expiring","expires_at":"2026-11-24T11:00:00.000Z","reason":"idle"}"#,
    ///     r#"{"type":"token_expiring","expires_at":"2026-11-24T11:00:00.000Z"}"#,
    ///     r#"{"type":"reconnect","after_ms":1200}"#,
    ///     r#"{"type":"error","code":"bad_field","detail":"\"event\" is missing","ref":7}"#,
    /// ];
    /// for text in texts {
    ///     let message: ServerMessage = serde_json::from_str(text)?;
    ///     assert_eq!(message.to_text(), text);
    /// }
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn to_text(&self) -> String {
        // Every field is JSON by construction.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Appends the JSON text to `buffer`.
    pub fn append_to(&self, buffer: &mut Vec<u8>) {
        let written = self.write_to(buffer);
        // Every field is JSON by construction, and a vector takes what it is given.
        debug_assert!(written.is_ok(), "{written:?}");
    }

    /// Writes the JSON text.
    ///
    /// # Errors
    /// The writer's: every field is JSON by construction.
    pub fn write_to(&self, writer: impl io::Write) -> io::Result<()> {
        Ok(serde_json::to_writer(writer, self)?)
    }
}

/// By text, as a payload is.
impl PartialEq for ServerMessage {
    fn eq(&self, other: &Self) -> bool {
        self.to_text() == other.to_text()
    }
}

impl<'de> Deserialize<'de> for ServerMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Tag {
            r#type: String,
        }
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let Tag { r#type: kind } = serde_json::from_str(raw.get()).map_err(de::Error::custom)?;
        let message = Self::read(&kind, raw.get()).map_err(de::Error::custom)?;
        message.ok_or_else(|| de::Error::custom(format_args!("unknown message type {kind:?}")))
    }
}

fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 2);
    for (at, character) in name.chars().enumerate() {
        if character.is_ascii_uppercase() && at > 0 {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}

/// Oneself in a `welcome`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SelfView {
    /// The participant; null for observers.
    pub participant_id: Option<ParticipantId>,
    /// This connection.
    pub connection_id: ConnectionId,
    /// What brings the same participant back; null for observers.
    pub resume_token: Option<String>,
}

/// What changed of a member; what is absent did not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Update {
    /// Who.
    pub id: ParticipantId,
    /// The whole new state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "StateText"))]
    pub state: Option<StateText>,
    /// The new status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Status"))]
    pub status: Option<Status>,
    /// The new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "DisplayName"))]
    pub name: Option<DisplayName>,
}

/// Somebody who left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Departure {
    /// Who.
    pub id: ParticipantId,
    /// Why.
    pub reason: LeaveReason,
    /// When last seen; the same as in the database.
    pub last_seen_at: Timestamp,
}

/// Why a room is about to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ExpiryReason {
    /// It reaches its maximum age.
    MaxAge,
    /// Nobody is there, and it becomes idle. Only observers are told: nobody else is there.
    Idle,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        /// Why a message was not carried out.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $code)] $name,)*
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code as text.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }
        }
    };
}

error_codes! {
    /// Not JSON, not an object, without a `type`, or binary.
    BadMessage = "bad_message";
    /// A `type` that the server does not know.
    UnknownType = "unknown_type";
    /// A field that is not as it should be.
    BadField = "bad_field";
    /// The state would be too large after the merge.
    StateTooLarge = "state_too_large";
    /// Somebody named in `to` is not here.
    UnknownParticipant = "unknown_participant";
    /// Too much, from this connection or in this room.
    RateLimited = "rate_limited";
    /// The fresh access token is not valid.
    CredentialInvalid = "credential_invalid";
    /// Only who has a seat may say this, and an observer has none.
    NoSeat = "no_seat";
}

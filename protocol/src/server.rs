//! What the server says.

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
        reference: Option<Ref>,
    }
}

impl ServerMessage {
    /// The JSON text.
    pub fn to_text(&self) -> String {
        // Every field is JSON by construction.
        serde_json::to_string(self).unwrap_or_default()
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
    /// What brings the same participant back.
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
    pub state: Option<StateText>,
    /// The new status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    /// Nobody is there.
    Idle,
}

/// Why a message was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ErrorCode {
    /// Not JSON, not an object, without a `type`, or binary.
    BadMessage,
    /// A `type` that the server does not know.
    UnknownType,
    /// A field that is not as it should be.
    BadField,
    /// The state would be too large after the merge.
    StateTooLarge,
    /// Somebody named in `to` is not here.
    UnknownParticipant,
    /// Too much, from this connection or in this room.
    RateLimited,
    /// The fresh access token is not valid.
    CredentialInvalid,
}

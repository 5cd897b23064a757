//! Rooms and members as everybody sees them: what messages and the management API have in common.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value, value::RawValue};

use crate::{DisplayName, ParticipantId, RoomId, Timestamp, UserId};

/// A room; `Room` on the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Room")
)]
pub struct RoomView {
    /// Its id.
    pub id: RoomId,
    /// When it was made.
    pub created_at: Timestamp,
    /// Seconds without anybody after which it refuses joins; null: never.
    pub idle_timeout_seconds: Option<u64>,
    /// When its maximum age ends it; null: never.
    pub expires_at: Option<Timestamp>,
    /// The application's own data.
    pub metadata: Arc<Map<String, Value>>,
}

/// What happens to a room that is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum OnIdle {
    /// The reaper deletes it.
    #[default]
    Delete,
    /// It refuses joins, and its rows stay.
    Keep,
}

/// Somebody on the roster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Member {
    /// The participant.
    pub id: ParticipantId,
    /// The access token's `sub`; null for guests.
    pub user_id: Option<UserId>,
    /// The display name.
    pub name: DisplayName,
    /// Active if any of its connections is.
    pub status: Status,
    /// The participant's own state.
    pub state: StateText,
    /// When it first joined.
    pub joined_at: Timestamp,
    /// When it was last heard of, as of this message.
    pub last_seen_at: Timestamp,
}

/// What somebody says of their attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Status {
    /// Here.
    #[default]
    Active,
    /// Connected, looking elsewhere.
    Idle,
}

/// Why somebody left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum LeaveReason {
    /// They said so.
    Left,
    /// They dropped off and did not come back within the grace.
    Timeout,
    /// They were removed.
    Removed,
}

/// Whether a roster lists its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum RosterMode {
    /// Everybody is listed.
    Full,
    /// The room is beyond its roster limit: only counted.
    Count,
}

/// A participant's state: a JSON object, kept as the text it is sent as.
#[derive(Clone)]
pub struct StateText(Arc<RawValue>);

impl StateText {
    /// `{}`, shared: most participants never set a state.
    pub fn empty() -> Self {
        static EMPTY: LazyLock<StateText> = LazyLock::new(|| StateText::from(&Map::new()));
        EMPTY.clone()
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl From<&Map<String, Value>> for StateText {
    fn from(state: &Map<String, Value>) -> Self {
        // A map of values always is JSON.
        Self(
            serde_json::value::to_raw_value(state)
                .unwrap_or_default()
                .into(),
        )
    }
}

impl Default for StateText {
    fn default() -> Self {
        Self::empty()
    }
}

impl PartialEq for StateText {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Debug for StateText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for StateText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StateText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        if raw.get().starts_with('{') {
            Ok(Self(raw.into()))
        } else {
            Err(de::Error::custom("a state is an object"))
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for StateText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "State".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "object"})
    }
}

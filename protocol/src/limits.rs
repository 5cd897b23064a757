//! Limits and names of the protocol. The limits are defaults; the server's options change them.

/// The version in `welcome.protocol`.
pub const PROTOCOL_VERSION: u32 = 1;
/// The WebSocket subprotocol.
pub const SUBPROTOCOL: &str = "rollcall.v1";
/// An offered subprotocol that carries an access token.
pub const BEARER_PREFIX: &str = "rollcall.bearer.";
/// An offered subprotocol that carries a resume token.
pub const RESUME_PREFIX: &str = "rollcall.resume.";
/// Members beyond which a room is only counted.
pub const ROSTER_LIMIT: usize = 1_000;
/// Bytes of a room's metadata as JSON.
pub const METADATA_BYTES: usize = 4 * 1024;
/// Characters of a display name.
pub const NAME_CHARS: usize = 64;
/// Messages a second from one connection.
pub const MESSAGES_PER_SECOND: u32 = 30;
/// Messages at once from one connection.
pub const MESSAGE_BURST: u32 = 60;
/// `bad_message` errors in a minute that end a connection with 4400.
pub const BAD_MESSAGES_PER_MINUTE: u32 = 20;
/// Frames a second a room may fan out.
pub const FANOUT_FRAMES_PER_SECOND: u32 = 20_000;
/// Bytes a second a room may fan out.
pub const FANOUT_BYTES_PER_SECOND: u64 = 16 * 1024 * 1024;
/// Connections of one participant to one room.
pub const CONNECTIONS_PER_PARTICIPANT: usize = 10;
/// Levels of nesting in `state` and `payload`; more would break other members' parsers.
pub const NESTING: usize = 64;

/// What a client's message may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageLimits {
    /// Bytes of a message.
    pub message_bytes: usize,
    /// Bytes of a participant's state as JSON, after the merge.
    pub state_bytes: usize,
    /// Characters of a broadcast's event.
    pub event_chars: usize,
    /// Participants a broadcast may name.
    pub to: usize,
}

impl Default for MessageLimits {
    fn default() -> Self {
        Self {
            message_bytes: 16 * 1024,
            state_bytes: 4 * 1024,
            event_chars: 64,
            to: 100,
        }
    }
}

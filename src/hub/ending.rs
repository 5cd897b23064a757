//! Why a connection ended: the close code, the log field and the metric label are all this one value.

use std::fmt;

use rollcall_protocol::CloseCode;

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The client said `leave`, or closed with 1000 or an empty close frame.
    Left,
    /// The socket broke, or the client closed otherwise.
    Hangup,
    /// Nothing was heard within the heartbeat timeout.
    Silent,
    /// A newer connection took over and this one did not answer its ping.
    Superseded,
    /// The client could not take a frame within the write deadline.
    TooSlow,
    /// The server is going away.
    Stopping,
    /// The room was closed.
    RoomClosed,
    /// The room reached its maximum age.
    RoomExpired,
    /// The participant was removed.
    Removed,
    /// The access token expired and no fresh one came.
    TokenExpired,
    /// Twenty bad messages in a minute.
    BadMessages,
    /// Went on sending far beyond its limit.
    RateLimited,
    /// A message larger than allowed.
    TooLarge,
    /// Not WebSocket framing.
    Framing,
    /// Text that is not UTF-8.
    NotUtf8,
}

impl Ending {
    /// The close frame to send; `None` where nobody is there to read it.
    pub fn close_code(self) -> Option<CloseCode> {
        Some(match self {
            Self::Left => CloseCode::Left,
            Self::Hangup | Self::Superseded => return None,
            Self::Silent => CloseCode::HeartbeatTimeout,
            Self::TooSlow => CloseCode::TooSlow,
            Self::Stopping => CloseCode::Restarting,
            Self::RoomClosed => CloseCode::RoomClosed,
            Self::RoomExpired => CloseCode::RoomExpired,
            Self::Removed => CloseCode::Removed,
            Self::TokenExpired => CloseCode::TokenExpired,
            Self::BadMessages => CloseCode::BadMessages,
            Self::RateLimited => CloseCode::RateLimited,
            Self::TooLarge => CloseCode::TooLarge,
            Self::Framing => CloseCode::Framing,
            Self::NotUtf8 => CloseCode::NotUtf8,
        })
    }

    /// The word in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Hangup => "hangup",
            Self::Silent => "silent",
            Self::Superseded => "superseded",
            Self::TooSlow => "too_slow",
            Self::Stopping => "stopping",
            Self::RoomClosed => "room_closed",
            Self::RoomExpired => "room_expired",
            Self::Removed => "removed",
            Self::TokenExpired => "token_expired",
            Self::BadMessages => "bad_messages",
            Self::RateLimited => "rate_limited",
            Self::TooLarge => "too_large",
            Self::Framing => "framing",
            Self::NotUtf8 => "not_utf8",
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

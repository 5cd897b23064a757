//! Close codes, and who comes back after which.

/// Why the server closes a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// 1000: the client left.
    Left,
    /// 1002: not WebSocket framing.
    Framing,
    /// 1007: text that is not UTF-8.
    NotUtf8,
    /// 1009: a message larger than allowed.
    TooLarge,
    /// 1012: the server restarts.
    Restarting,
    /// 1013: the client could not take a frame in time.
    TooSlow,
    /// 4400: too many bad messages.
    BadMessages,
    /// 4401: the access token expired.
    TokenExpired,
    /// 4403: the participant was removed.
    Removed,
    /// 4404: the room was closed.
    RoomClosed,
    /// 4408: nothing was heard within the heartbeat timeout.
    HeartbeatTimeout,
    /// 4410: the room reached its end.
    RoomExpired,
    /// 4429: far too many messages.
    RateLimited,
}

impl CloseCode {
    /// Every code, in order.
    pub const ALL: [Self; 13] = [
        Self::Left,
        Self::Framing,
        Self::NotUtf8,
        Self::TooLarge,
        Self::Restarting,
        Self::TooSlow,
        Self::BadMessages,
        Self::TokenExpired,
        Self::Removed,
        Self::RoomClosed,
        Self::HeartbeatTimeout,
        Self::RoomExpired,
        Self::RateLimited,
    ];

    /// The number.
    pub fn code(self) -> u16 {
        match self {
            Self::Left => 1000,
            Self::Framing => 1002,
            Self::NotUtf8 => 1007,
            Self::TooLarge => 1009,
            Self::Restarting => 1012,
            Self::TooSlow => 1013,
            Self::BadMessages => 4400,
            Self::TokenExpired => 4401,
            Self::Removed => 4403,
            Self::RoomClosed => 4404,
            Self::HeartbeatTimeout => 4408,
            Self::RoomExpired => 4410,
            Self::RateLimited => 4429,
        }
    }

    /// The reason in the close frame; at most 123 bytes (RFC 6455 section 5.5).
    pub fn reason(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Framing => "protocol error",
            Self::NotUtf8 => "not UTF-8",
            Self::TooLarge => "message too large",
            Self::Restarting => "restarting",
            Self::TooSlow => "too slow",
            Self::BadMessages => "too many bad messages",
            Self::TokenExpired => "token expired",
            Self::Removed => "removed",
            Self::RoomClosed => "room closed",
            Self::HeartbeatTimeout => "heartbeat timeout",
            Self::RoomExpired => "room expired",
            Self::RateLimited => "rate limited",
        }
    }
}

/// What a client does after a close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComesBack {
    /// Stays away.
    Never,
    /// Once, with a fresh access token.
    Once,
    /// With full-jitter back-off from 0.5 s to 15 s.
    BackOff,
}

/// What a client does after a close with this code, the server's or the network's.
pub fn comes_back(code: u16) -> ComesBack {
    match code {
        4401 => ComesBack::Once,
        1000 | 1002 | 1007 | 1009 => ComesBack::Never,
        4408 | 4429 => ComesBack::BackOff,
        4400..=4499 => ComesBack::Never,
        _ => ComesBack::BackOff,
    }
}

//! Refusals over HTTP: RFC 9457 problems with a code for programs and a sentence for people.

use std::time::Duration;

use serde::{Deserialize, Serialize};

macro_rules! problem_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal, $title:literal;)*) => {
        /// Why a request was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub enum ProblemCode {
            $($(#[$doc])* #[serde(rename = $code)] $name,)*
        }

        impl ProblemCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code as text.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// The HTTP status it goes with.
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }

            /// The title.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }

            fn urn(self) -> &'static str {
                match self { $(Self::$name => concat!("urn:rollcall:problem:", $code)),* }
            }
        }
    };
}

problem_codes! {
    /// Malformed query, body or address; two credentials; bad name or ids.
    BadRequest = "bad_request", 400, "Bad request";
    /// Subprotocols were offered, `rollcall.v1` not among them.
    UnsupportedProtocol = "unsupported_protocol", 400, "Unsupported protocol";
    /// No credential, or no API key.
    CredentialMissing = "credential_missing", 401, "Credential missing";
    /// Bad signature, claims, resume token or API key.
    CredentialInvalid = "credential_invalid", 401, "Credential not valid";
    /// The token's `exp` has passed.
    CredentialExpired = "credential_expired", 401, "Credential expired";
    /// `Origin` is not allowed.
    OriginForbidden = "origin_forbidden", 403, "Origin not allowed";
    /// `Host` is not this machine, in dev mode.
    HostForbidden = "host_forbidden", 403, "Host not allowed";
    /// The access token does not cover this room.
    RoomForbidden = "room_forbidden", 403, "Room not allowed";
    /// The participant was removed from the room.
    Removed = "removed", 403, "Removed";
    /// No such invite.
    InviteNotFound = "invite_not_found", 404, "Invitation not valid";
    /// No such room.
    RoomNotFound = "room_not_found", 404, "Room not found";
    /// No such participant.
    ParticipantNotFound = "participant_not_found", 404, "Participant not found";
    /// Nothing at this address.
    NotFound = "not_found", 404, "Not found";
    /// The address does not take this method.
    MethodNotAllowed = "method_not_allowed", 405, "Method not allowed";
    /// Seats, grace included, reach `max_participants`.
    RoomFull = "room_full", 409, "Room full";
    /// The participant holds as many connections as it may.
    TooManyConnections = "too_many_connections", 409, "Too many connections";
    /// The room's id is taken.
    RoomExists = "room_exists", 409, "Room exists";
    /// No signing secret is configured.
    TokensNotConfigured = "tokens_not_configured", 409, "Access tokens not configured";
    /// The link has expired, or its room.
    InviteExpired = "invite_expired", 410, "Invitation expired";
    /// The link was revoked.
    InviteRevoked = "invite_revoked", 410, "Invitation revoked";
    /// The link was used as often as it may be.
    InviteUsedUp = "invite_used_up", 410, "Invitation used up";
    /// The room is idle past its timeout, or past its maximum age.
    RoomExpired = "room_expired", 410, "Room expired";
    /// The body did not arrive in time.
    RequestTimeout = "request_timeout", 408, "Request too slow";
    /// The body is too large.
    PayloadTooLarge = "payload_too_large", 413, "Body too large";
    /// The address is too long.
    UriTooLong = "uri_too_long", 414, "Address too long";
    /// The body is not JSON.
    UnsupportedMediaType = "unsupported_media_type", 415, "Body not JSON";
    /// A proxy removed the `Upgrade` header.
    UpgradeMissing = "upgrade_missing", 426, "Upgrade missing";
    /// The headers are too large.
    HeadersTooLarge = "headers_too_large", 431, "Headers too large";
    /// Too many attempts.
    RateLimited = "rate_limited", 429, "Too many attempts";
    /// A fault of the server's.
    Internal = "internal", 500, "Server error";
    /// The server is going away.
    Draining = "draining", 503, "Restarting";
    /// Too many joins wait.
    Overloaded = "overloaded", 503, "Busy";
    /// The database cannot be asked.
    StoreUnavailable = "store_unavailable", 503, "Database unavailable";
    /// The key that an access token names cannot be fetched at the moment.
    KeysUnavailable = "keys_unavailable", 503, "Keys unavailable";
    /// Too early after a start for a sweep.
    ReaperNotReady = "reaper_not_ready", 503, "Too early to sweep";
}

impl ProblemCode {
    /// The close code of `refusal=close`: 4000 and the status.
    pub fn close_code(self) -> u16 {
        4000 + self.status()
    }
}

/// An `application/problem+json` body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    /// `urn:rollcall:problem:CODE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// For programs.
    pub code: ProblemCode,
    /// For people.
    pub detail: String,
    /// When to try again, where that may help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "u64"))]
    pub retry_after_ms: Option<u64>,
}

impl Problem {
    /// A problem with its sentence, which people read.
    ///
    /// ```
    /// use rollcall_protocol::{Problem, ProblemCode};
    /// let problem = Problem::new(ProblemCode::RoomFull, "This room is full.");
    /// assert_eq!(
    ///     serde_json::to_string(&problem)?,
    ///     r#"{"type":"urn:rollcall:problem:room_full","title":"Room full","status":409,"code":"room_full","detail":"This room is full."}"#
    /// );
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self {
            kind: code.urn().to_owned(),
            title: code.title().to_owned(),
            status: code.status(),
            code,
            detail: detail.into(),
            retry_after_ms: None,
        }
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        self
    }
}

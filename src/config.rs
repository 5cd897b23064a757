//! What the operator decided. A [`Config`] is valid or does not exist.
//!
//! [`Options`] are the words as they came, from the command line or the environment; [`Options::resolve`] is the only way
//! from them to a `Config`, and reports every mistake at once. Nothing here opens a socket or a database; files that hold
//! secrets and keys are read, nothing else is.

mod database;
mod limits;
mod mistakes;
mod options;
mod origin;
mod parse;
mod resolve;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use rollcall_protocol::OnIdle;
use serde_json::Map;

use crate::{
    admission::{JwksSource, VerifyingKey},
    doors::ForwardedHeader,
    store::{NodeTerms, Precision, RoomSettings},
    tls::TlsFiles,
};

pub(crate) use self::parse::api_keys_in;
pub use self::{
    database::{Database, DatabaseKind, DatabaseOptions},
    mistakes::{ConfigErrors, Mistake},
    options::{LimitOptions, Options},
};

/// Everything the server is told at its start. The rules that hold between the fields are in `config/resolve.rs`.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen. Not loopback only with an API key.
    pub listen: SocketAddr,
    /// Where the database is.
    pub database: Database,
    /// How often clients send a heartbeat.
    pub heartbeat_interval: Duration,
    /// How long a connection may be silent; at least 1.5 heartbeat intervals.
    pub heartbeat_timeout: Duration,
    /// How far the stored `last_seen_at` may be behind.
    pub flush_interval: Duration,
    /// How long a seat outlives an unclean disconnect; zero: not at all.
    pub reconnect_grace: Duration,
    /// The same after a restart of the server.
    pub restart_grace: Duration,
    /// When a room that does not say otherwise is idle; at least [`Config::min_idle_timeout`].
    pub room_idle_timeout: Duration,
    /// When a room that does not say otherwise ends, however busy; `None`: never.
    pub room_max_age: Option<Duration>,
    /// The most seats of a room that does not say otherwise; `None`: any number.
    pub room_max_participants: Option<u32>,
    /// How often idle rooms are deleted.
    pub reap_interval: Duration,
    /// Only rooms older than this are deleted.
    pub reap_min_age: Option<Duration>,
    /// Only rooms with fewer participants than this are deleted.
    pub reap_below_participants: Option<u32>,
    /// How exactly it is kept and shown when somebody was last seen.
    pub last_seen_precision: Precision,
    /// How long participants who left are kept in rooms that live on; `None`: as long as the room.
    pub departed_retention: Option<Duration>,
    /// How long before its maximum age a room is told; may be longer than that age.
    pub expiry_warning: Duration,
    /// Who may use the management API; none: [dev mode](Config::dev_mode).
    pub api_keys: Vec<Secret>,
    /// Verifies and signs access tokens (HMAC); at least 32 bytes.
    pub jwt_secret: Option<Secret>,
    /// Check access tokens that others sign.
    pub jwt_public_keys: Vec<VerifyingKey>,
    /// Where more such keys are.
    pub jwks: Option<JwksSource>,
    /// How often they are read again.
    pub jwks_refresh_interval: Duration,
    /// How far the clock of who signs access tokens may be off.
    pub jwt_leeway: Duration,
    /// What the `iss` of access tokens must be.
    pub jwt_issuer: Option<String>,
    /// What the `aud` of access tokens must hold.
    pub jwt_audience: Option<String>,
    /// Origins besides our own that browsers may come from, as browsers write them: lower case, no default port. The
    /// host may begin with `*.`, which stands for one or more labels.
    pub allowed_origins: Vec<String>,
    /// Whose word about the client is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Where they say it; `None`: in `X-Forwarded-For`, or where that is missing in `Forwarded`.
    pub forwarded_header: Option<ForwardedHeader>,
    /// What TLS is spoken with; `None`: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// How browsers reach this server; no trailing slash.
    pub public_url: Option<String>,
    /// Where invite links lead; holds `{token}` or `{invite}`.
    pub invite_url: Option<String>,
    /// How long leaving service may take.
    pub drain_timeout: Duration,
    /// Threads that serve connections; `None`: one fewer than cores, and at least one.
    pub connection_threads: Option<usize>,
    /// How logs look; `None`: text on a terminal, JSON otherwise.
    pub log_format: Option<LogFormat>,
    /// Which logs are written, as `tracing_subscriber::EnvFilter` reads it.
    pub log: String,
    /// What one client may cost everybody else.
    pub limits: Limits,
}

/// The numbers of PROTOCOL.md, "Limits", and those of the process. None is zero.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections of this process; `None`: as many as the operating system allows.
    pub max_connections: Option<usize>,
    /// Connections of one address (an IPv6 /64); `None`: no limit.
    pub connections_per_address: Option<usize>,
    /// Connections of one participant.
    pub connections_per_participant: usize,
    /// Size of an assembled message.
    pub message_bytes: usize,
    /// Size of a participant's state after a merge.
    pub state_bytes: usize,
    /// Size of a room's metadata.
    pub metadata_bytes: usize,
    /// Messages per second of one connection.
    pub messages_per_second: u32,
    /// Messages one connection may send at once after being quiet.
    pub message_burst: u32,
    /// Bytes of messages per second of one connection, and twice that after being quiet; `None`: as many as the limits on
    /// messages allow.
    pub bytes_per_second: Option<u64>,
    /// Frames per second that broadcasts may cause in one room.
    pub fanout_frames_per_second: u32,
    /// Bytes per second that broadcasts may cause in one room.
    pub fanout_bytes_per_second: u64,
    /// Seats beyond which clients are sent the occupancy only.
    pub roster_limit: usize,
    /// Rooms with somebody in them; `None`: no limit.
    pub max_rooms: Option<usize>,
    /// Requests to connect per second and address; `None`: no limit.
    pub handshakes_per_second: Option<u32>,
    /// Requests to connect per second from everywhere together; `None`: no limit.
    pub total_handshakes_per_second: Option<u32>,
    /// Credentials that are none, per minute and address, before it has to wait; `None`: any number.
    pub failed_credentials_per_minute: Option<u32>,
    /// How long a request's head, a body or a TLS handshake may take to arrive, and how long a connection may idle between
    /// requests.
    pub handshake_timeout: Duration,
    /// Joins that may wait for a commit; further ones are told to come back.
    pub join_queue: usize,
}

/// How logs look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A value that must not reach a log: its `Debug` hides it, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Config {
    /// What no options at all give: a server in dev mode on loopback.
    pub fn default_dev() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            database: Database::at("sqlite://rollcall.db"),
            heartbeat_interval: Duration::from_secs(30),
            heartbeat_timeout: Duration::from_secs(75),
            flush_interval: Duration::from_secs(5),
            reconnect_grace: Duration::from_secs(10),
            restart_grace: Duration::from_secs(60),
            room_idle_timeout: Duration::from_secs(60 * 60),
            room_max_age: None,
            room_max_participants: None,
            reap_interval: Duration::from_secs(15 * 60),
            reap_min_age: None,
            reap_below_participants: None,
            last_seen_precision: Precision::EXACT,
            departed_retention: None,
            expiry_warning: Duration::from_secs(5 * 60),
            api_keys: Vec::new(),
            jwt_secret: None,
            jwt_public_keys: Vec::new(),
            jwks: None,
            jwks_refresh_interval: Duration::from_secs(5 * 60),
            jwt_leeway: Duration::ZERO,
            jwt_issuer: None,
            jwt_audience: None,
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            forwarded_header: None,
            tls: None,
            public_url: None,
            invite_url: None,
            drain_timeout: Duration::from_secs(10),
            connection_threads: None,
            log_format: None,
            log: "info".to_owned(),
            limits: Limits::default(),
        }
    }

    /// Whether the management API is open to this machine because no API key is set.
    pub fn dev_mode(&self) -> bool {
        self.api_keys.is_empty()
    }

    /// The settings of a room that says nothing about itself.
    pub fn room_defaults(&self) -> RoomSettings {
        RoomSettings {
            idle_timeout: Some(self.room_idle_timeout),
            on_idle: OnIdle::Delete,
            max_participants: self.room_max_participants,
            max_age: self.room_max_age,
            metadata: Map::new(),
        }
    }

    /// What this node says of itself in the database.
    pub fn node_terms(&self) -> NodeTerms {
        NodeTerms {
            heartbeat_interval: self.heartbeat_interval,
            heartbeat_timeout: self.heartbeat_timeout,
            reconnect_grace: self.reconnect_grace,
            restart_grace: self.restart_grace,
            flush_interval: self.flush_interval,
            last_seen_precision: self.last_seen_precision,
        }
    }

    /// The shortest idle timeout a room may have: less, and a room whose members are all well could be called idle from
    /// the stored times between two heartbeats and the flush of the second.
    pub fn min_idle_timeout(&self) -> Duration {
        self.heartbeat_interval * 3 / 2 + self.flush_interval * 2
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: None,
            // More than one machine behind one address ever opens, and less than what a server of any size may hold.
            connections_per_address: Some(20_000),
            connections_per_participant: 10,
            message_bytes: 16 * 1024,
            state_bytes: 4 * 1024,
            metadata_bytes: 4 * 1024,
            messages_per_second: 30,
            message_burst: 60,
            bytes_per_second: None,
            fanout_frames_per_second: 20_000,
            fanout_bytes_per_second: 16 * 1024 * 1024,
            roster_limit: 1_000,
            // One address may be a whole school; this only stops a client that reconnects in a tight loop.
            handshakes_per_second: Some(5_000),
            // Twice what a database commits on a core or two.
            total_handshakes_per_second: Some(10_000),
            // Guessing 128 bits takes rather more.
            failed_credentials_per_minute: Some(60),
            handshake_timeout: Duration::from_secs(10),
            max_rooms: None,
            join_queue: 4_096,
        }
    }
}

impl Secret {
    /// Wraps a value that must not reach a log.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value. Compare it in constant time.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests;

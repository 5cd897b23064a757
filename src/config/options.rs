//! The options of the server as words. What they must be is in `resolve.rs`.

use clap::Args;

use super::DatabaseOptions;

/// The server's options. Every one is also an environment variable: `--room-idle-timeout` is
/// `ROLLCALL_ROOM_IDLE_TIMEOUT`. They are words, so that [`Options::resolve`] can report all mistakes at once.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub struct Options {
    /// Where to listen; anything but loopback needs an API key
    #[arg(
        long,
        env = "ROLLCALL_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080"
    )]
    pub listen: String,
    /// How browsers reach this server [default: the listen address]
    #[arg(long, env = "ROLLCALL_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// Where invite links lead; holds {token} or {invite} [default: the demo's /join/{invite}]
    #[arg(long, env = "ROLLCALL_INVITE_URL", value_name = "URL")]
    pub invite_url: Option<String>,
    /// How long leaving service may take
    #[arg(
        long,
        env = "ROLLCALL_DRAIN_TIMEOUT",
        value_name = "DURATION",
        default_value = "10s"
    )]
    pub drain_timeout: String,
    /// Threads that serve connections [default: one fewer than cores, and at least one]
    #[arg(long, env = "ROLLCALL_CONNECTION_THREADS", value_name = "N")]
    pub connection_threads: Option<String>,
    /// text or json [default: text on a terminal, json otherwise]
    #[arg(long, env = "ROLLCALL_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Which logs are written, such as debug or info,rollcall::hub=trace
    #[arg(
        long,
        env = "ROLLCALL_LOG",
        value_name = "FILTER",
        default_value = "info"
    )]
    pub log: String,

    /// How often clients send a heartbeat
    #[arg(
        long,
        env = "ROLLCALL_HEARTBEAT_INTERVAL",
        value_name = "DURATION",
        default_value = "30s",
        help_heading = "Presence"
    )]
    pub heartbeat_interval: String,
    /// How long a connection may be silent
    #[arg(
        long,
        env = "ROLLCALL_HEARTBEAT_TIMEOUT",
        value_name = "DURATION",
        default_value = "75s",
        help_heading = "Presence"
    )]
    pub heartbeat_timeout: String,
    /// How far the stored last_seen_at may be behind
    #[arg(
        long,
        env = "ROLLCALL_FLUSH_INTERVAL",
        value_name = "DURATION",
        default_value = "5s",
        help_heading = "Presence"
    )]
    pub flush_interval: String,
    /// Keep and show when somebody was last seen only to multiples of this, such as 5m [default: none]
    #[arg(
        long,
        env = "ROLLCALL_LAST_SEEN_PRECISION",
        value_name = "DURATION",
        help_heading = "Presence"
    )]
    pub last_seen_precision: Option<String>,
    /// Forget participants who left longer ago than this, in rooms that live on [default: none]
    #[arg(
        long,
        env = "ROLLCALL_DEPARTED_RETENTION",
        value_name = "DURATION",
        help_heading = "Presence"
    )]
    pub departed_retention: Option<String>,
    /// How long a seat outlives a lost connection
    #[arg(
        long,
        env = "ROLLCALL_RECONNECT_GRACE",
        value_name = "DURATION",
        default_value = "10s",
        help_heading = "Presence"
    )]
    pub reconnect_grace: String,
    /// How long a seat outlives a restart of the server
    #[arg(
        long,
        env = "ROLLCALL_RESTART_GRACE",
        value_name = "DURATION",
        default_value = "60s",
        help_heading = "Presence"
    )]
    pub restart_grace: String,

    /// When a room is idle; a room may set its own
    #[arg(
        long,
        env = "ROLLCALL_ROOM_IDLE_TIMEOUT",
        value_name = "DURATION",
        default_value = "1h",
        help_heading = "Rooms"
    )]
    pub room_idle_timeout: String,
    /// When a room ends, however busy; a room may set its own [default: none]
    #[arg(
        long,
        env = "ROLLCALL_ROOM_MAX_AGE",
        value_name = "DURATION",
        help_heading = "Rooms"
    )]
    pub room_max_age: Option<String>,
    /// The most seats of a room; a room may set its own [default: none]
    #[arg(
        long,
        env = "ROLLCALL_ROOM_MAX_PARTICIPANTS",
        value_name = "N",
        help_heading = "Rooms"
    )]
    pub room_max_participants: Option<String>,
    /// How long before its maximum age a room is told [default: 5m]
    #[arg(
        long,
        env = "ROLLCALL_EXPIRY_WARNING",
        value_name = "DURATION",
        help_heading = "Rooms"
    )]
    pub expiry_warning: Option<String>,
    /// How often idle rooms are deleted
    #[arg(
        long,
        env = "ROLLCALL_REAP_INTERVAL",
        value_name = "DURATION",
        default_value = "15m",
        help_heading = "Rooms"
    )]
    pub reap_interval: String,
    /// Delete only rooms older than this [default: none]
    #[arg(
        long,
        env = "ROLLCALL_REAP_MIN_AGE",
        value_name = "DURATION",
        help_heading = "Rooms"
    )]
    pub reap_min_age: Option<String>,
    /// Delete only rooms with fewer participants than this [default: none]
    #[arg(
        long,
        env = "ROLLCALL_REAP_BELOW_PARTICIPANTS",
        value_name = "N",
        help_heading = "Rooms"
    )]
    pub reap_below_participants: Option<String>,

    /// An API key of the management API (repeatable); none: dev mode, on loopback only
    #[arg(
        long = "api-key",
        env = "ROLLCALL_API_KEY",
        value_name = "KEY",
        hide_env_values = true,
        help_heading = "Access"
    )]
    pub api_keys: Vec<String>,
    /// A file of API keys, one a line
    #[arg(
        long,
        env = "ROLLCALL_API_KEY_FILE",
        value_name = "PATH",
        help_heading = "Access"
    )]
    pub api_key_file: Option<String>,
    /// The secret that access tokens are signed with (HS256); without it only invites let people in
    #[arg(
        long,
        env = "ROLLCALL_JWT_SECRET",
        value_name = "SECRET",
        hide_env_values = true,
        help_heading = "Access"
    )]
    pub jwt_secret: Option<String>,
    /// A file with the secret that access tokens are signed with
    #[arg(
        long,
        env = "ROLLCALL_JWT_SECRET_FILE",
        value_name = "PATH",
        help_heading = "Access"
    )]
    pub jwt_secret_file: Option<String>,
    /// A PEM file with a public key that access tokens are signed for: RSA (RS256), EC P-256 (ES256) or Ed25519 (EdDSA)
    /// (repeatable)
    #[arg(
        long = "jwt-public-key",
        env = "ROLLCALL_JWT_PUBLIC_KEY",
        value_name = "PATH",
        help_heading = "Access"
    )]
    pub jwt_public_keys: Vec<String>,
    /// Where the keys of access tokens are as a JWKS: an https address, or a file
    #[arg(
        long,
        env = "ROLLCALL_JWKS",
        value_name = "URL|PATH",
        help_heading = "Access"
    )]
    pub jwks: Option<String>,
    /// How often the JWKS is read again
    #[arg(
        long,
        env = "ROLLCALL_JWKS_REFRESH_INTERVAL",
        value_name = "DURATION",
        default_value = "5m",
        help_heading = "Access"
    )]
    pub jwks_refresh_interval: String,
    /// How far the clock of who signs access tokens may be off
    #[arg(
        long,
        env = "ROLLCALL_JWT_LEEWAY",
        value_name = "DURATION",
        default_value = "0s",
        help_heading = "Access"
    )]
    pub jwt_leeway: String,
    /// What the iss of access tokens must be
    #[arg(
        long,
        env = "ROLLCALL_JWT_ISSUER",
        value_name = "ISSUER",
        help_heading = "Access"
    )]
    pub jwt_issuer: Option<String>,
    /// What the aud of access tokens must hold
    #[arg(
        long,
        env = "ROLLCALL_JWT_AUDIENCE",
        value_name = "AUDIENCE",
        help_heading = "Access"
    )]
    pub jwt_audience: Option<String>,
    /// An origin besides the server's own that browsers may come from (repeatable)
    #[arg(
        long = "allowed-origin",
        env = "ROLLCALL_ALLOWED_ORIGIN",
        value_name = "ORIGIN",
        help_heading = "Access"
    )]
    pub allowed_origins: Vec<String>,
    /// A proxy, or a network of them, whose word about the client is believed (repeatable)
    #[arg(
        long = "trusted-proxy",
        env = "ROLLCALL_TRUSTED_PROXY",
        value_name = "ADDRESS",
        help_heading = "Access"
    )]
    pub trusted_proxies: Vec<String>,
    /// Where trusted proxies name the client: x-forwarded-for or forwarded [default: whichever is there, the former first]
    #[arg(
        long,
        env = "ROLLCALL_FORWARDED_HEADER",
        value_name = "HEADER",
        help_heading = "Access"
    )]
    pub forwarded_header: Option<String>,
    /// A PEM file with the certificate and its chain: speak TLS; read again on SIGHUP
    #[arg(
        long,
        env = "ROLLCALL_TLS_CERT",
        value_name = "PATH",
        help_heading = "Access"
    )]
    pub tls_cert: Option<String>,
    /// A PEM file with the certificate's private key
    #[arg(
        long,
        env = "ROLLCALL_TLS_KEY",
        value_name = "PATH",
        help_heading = "Access"
    )]
    pub tls_key: Option<String>,

    /// Where the database is.
    #[command(flatten)]
    pub database: DatabaseOptions,

    /// The limits.
    #[command(flatten)]
    pub limits: LimitOptions,
}

/// The options that bound what one client may cost everybody else.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitOptions {
    /// Connections of this process, or none [default: as many as there may be open files]
    #[arg(long, env = "ROLLCALL_MAX_CONNECTIONS", value_name = "N")]
    pub max_connections: Option<String>,
    /// Connections of one address (an IPv6 /64), or none
    #[arg(
        long,
        env = "ROLLCALL_CONNECTIONS_PER_ADDRESS",
        value_name = "N",
        default_value = "20000"
    )]
    pub connections_per_address: String,
    /// Connections of one participant
    #[arg(
        long,
        env = "ROLLCALL_CONNECTIONS_PER_PARTICIPANT",
        value_name = "N",
        default_value = "10"
    )]
    pub connections_per_participant: String,
    /// Size of a message
    #[arg(
        long,
        env = "ROLLCALL_MESSAGE_BYTES",
        value_name = "SIZE",
        default_value = "16KiB"
    )]
    pub message_bytes: String,
    /// Size of a participant's state
    #[arg(
        long,
        env = "ROLLCALL_STATE_BYTES",
        value_name = "SIZE",
        default_value = "4KiB"
    )]
    pub state_bytes: String,
    /// Size of a room's metadata
    #[arg(
        long,
        env = "ROLLCALL_METADATA_BYTES",
        value_name = "SIZE",
        default_value = "4KiB"
    )]
    pub metadata_bytes: String,
    /// Messages per second of one connection
    #[arg(
        long,
        env = "ROLLCALL_MESSAGES_PER_SECOND",
        value_name = "N",
        default_value = "30"
    )]
    pub messages_per_second: String,
    /// Messages that one connection may send at once after being quiet
    #[arg(
        long,
        env = "ROLLCALL_MESSAGE_BURST",
        value_name = "N",
        default_value = "60"
    )]
    pub message_burst: String,
    /// Bytes of messages per second of one connection, and twice that after being quiet [default: as the limits on messages
    /// allow]
    #[arg(long, env = "ROLLCALL_BYTES_PER_SECOND", value_name = "SIZE")]
    pub bytes_per_second: Option<String>,
    /// Frames per second that broadcasts may cause in one room
    #[arg(
        long,
        env = "ROLLCALL_FANOUT_FRAMES_PER_SECOND",
        value_name = "N",
        default_value = "20000"
    )]
    pub fanout_frames_per_second: String,
    /// Bytes per second that broadcasts may cause in one room
    #[arg(
        long,
        env = "ROLLCALL_FANOUT_BYTES_PER_SECOND",
        value_name = "SIZE",
        default_value = "16MiB"
    )]
    pub fanout_bytes_per_second: String,
    /// Seats beyond which clients are sent the occupancy only
    #[arg(
        long,
        env = "ROLLCALL_ROSTER_LIMIT",
        value_name = "N",
        default_value = "1000"
    )]
    pub roster_limit: String,
    /// Rooms with somebody in them [default: none]
    #[arg(long, env = "ROLLCALL_MAX_ROOMS", value_name = "N")]
    pub max_rooms: Option<String>,
    /// Requests to connect per second and address, or none
    #[arg(
        long,
        env = "ROLLCALL_HANDSHAKES_PER_SECOND",
        value_name = "N",
        default_value = "5000"
    )]
    pub handshakes_per_second: String,
    /// Requests to connect per second from everywhere together, or none
    #[arg(
        long,
        env = "ROLLCALL_TOTAL_HANDSHAKES_PER_SECOND",
        value_name = "N",
        default_value = "10000"
    )]
    pub total_handshakes_per_second: String,
    /// Credentials that are none, per minute and address, before it has to wait, or none
    #[arg(
        long,
        env = "ROLLCALL_FAILED_CREDENTIALS_PER_MINUTE",
        value_name = "N",
        default_value = "60"
    )]
    pub failed_credentials_per_minute: String,
    /// How long a request or a TLS handshake may take to arrive
    #[arg(
        long,
        env = "ROLLCALL_HANDSHAKE_TIMEOUT",
        value_name = "DURATION",
        default_value = "10s"
    )]
    pub handshake_timeout: String,
    /// Joins that may wait for the database
    #[arg(
        long,
        env = "ROLLCALL_JOIN_QUEUE",
        value_name = "N",
        default_value = "4096"
    )]
    pub join_queue: String,
}

//! The words of the commands that ask the running server. What they ask is in `remote/ask.rs`.

mod ask;

use std::time::Duration;

use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};
use serde_json::{Map, Value};

use super::client::Connection;

/// What the running server can be asked.
#[derive(Debug, Subcommand)]
pub enum Remote {
    /// Delete idle rooms now
    Reap {
        /// Which server.
        #[command(flatten)]
        connection: Connection,
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
    },
    /// Print connections, rooms, flush and reaper figures
    Stats {
        /// Which server.
        #[command(flatten)]
        connection: Connection,
    },
    /// Make, look at and close rooms
    #[command(subcommand)]
    Room(Room),
    /// Make and revoke invite links
    #[command(subcommand)]
    Invite(Invite),
    /// Mint and check access tokens
    #[command(subcommand)]
    Token(Token),
}

/// What can be done with rooms.
#[derive(Debug, Subcommand)]
pub enum Room {
    /// Make a room
    Create(Box<NewRoom>),
    /// List the rooms
    List {
        /// Which server.
        #[command(flatten)]
        connection: Connection,
    },
    /// Show a room and who is in it
    Show(One),
    /// Close a room now, to everybody in it
    Close(One),
}

/// One room.
#[derive(Debug, Args)]
pub struct One {
    /// Which server.
    #[command(flatten)]
    connection: Connection,
    /// The room's id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    room: String,
}

/// A room to be made.
#[derive(Debug, Args)]
pub struct NewRoom {
    /// Which server.
    #[command(flatten)]
    connection: Connection,
    /// The room's id [default: generated]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    room: Option<String>,
    /// When the room is idle: a duration, or never [default: the server's]
    #[arg(long, value_name = "DURATION", value_parser = idle_timeout)]
    idle_timeout: Option<IdleTimeout>,
    /// Keep the rows of the room when it is idle
    #[arg(long)]
    keep: bool,
    /// The most seats
    #[arg(long, value_name = "N")]
    max_participants: Option<u32>,
    /// When the room ends, however busy
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    max_age: Option<u64>,
    /// The application's own data, a JSON object shown to members
    #[arg(long, value_name = "JSON", value_parser = object)]
    metadata: Option<Map<String, Value>>,
}

/// What can be done with invites.
#[derive(Debug, Subcommand)]
pub enum Invite {
    /// Make an invite link; its token is shown this once
    Create {
        /// Which server.
        #[command(flatten)]
        connection: Connection,
        /// The room's id
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        room: String,
        /// A fixed lifetime
        #[arg(long, value_name = "DURATION", value_parser = seconds)]
        expires_in: Option<u64>,
        /// How many participants may come by it
        #[arg(long, value_name = "N")]
        max_uses: Option<u32>,
    },
    /// Revoke an invite by its id, at once
    Revoke {
        /// Which server.
        #[command(flatten)]
        connection: Connection,
        /// The invite's id, not its token
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        invite: String,
    },
}

/// What can be done with access tokens.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Mint an access token for a room
    Mint {
        /// Which server.
        #[command(flatten)]
        connection: Connection,
        /// The room's id
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        room: String,
        /// The user
        #[arg(long)]
        sub: String,
        /// The display name
        #[arg(long)]
        name: Option<String>,
        /// How long it is valid [default: 1h]
        #[arg(long, value_name = "DURATION", value_parser = seconds)]
        ttl: Option<u64>,
    },
    /// Ask whether a token would be let in; exit code 1 if not
    Check {
        /// Which server.
        #[command(flatten)]
        connection: Connection,
        /// The token, or - to read it from the standard input
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        token: String,
        /// The room, where the token covers several
        #[arg(long)]
        room: Option<String>,
    },
}

/// When a room is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IdleTimeout {
    Never,
    Seconds(u64),
}

fn seconds(word: &str) -> Result<u64, String> {
    match humantime::parse_duration(word) {
        Ok(duration) if duration >= Duration::from_secs(1) && duration.subsec_nanos() == 0 => {
            Ok(duration.as_secs())
        }
        Ok(_) => Err("must be whole seconds, at least one".to_owned()),
        Err(_) => Err("must be a duration such as 30s, 5m or 1h30m".to_owned()),
    }
}

fn idle_timeout(word: &str) -> Result<IdleTimeout, String> {
    if word == "never" {
        Ok(IdleTimeout::Never)
    } else {
        seconds(word).map(IdleTimeout::Seconds)
    }
}

fn object(word: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(word).map_err(|error| format!("must be a JSON object: {error}"))
}

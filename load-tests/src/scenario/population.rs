//! A population: people who are alike, and everything that they do.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{
    schedule::Arrive,
    words::{self, Mix, Span},
};

/// People who are alike.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Population {
    /// Its name.
    pub name: String,
    /// How many.
    pub clients: usize,
    /// Where they meet.
    pub rooms: Rooms,
    /// What lets them in. Default: `"invite"`.
    #[serde(default = "invite")]
    pub access: Mix<Access>,
    /// What is wrong with their links, if anything; what the server must say to each is known. Default: `"valid"`.
    #[serde(default = "valid")]
    pub links: Mix<Link>,
    /// When they come.
    pub arrive: Arrive,
    /// Default: as often as the welcome asks for.
    pub heartbeat: Option<Heartbeat>,
    /// Changes of their state. Default: none.
    pub update: Option<Update>,
    /// What they say to the others. Default: nothing.
    pub broadcast: Option<Broadcast>,
    /// How long they stay, from when they were due. Default: until the end.
    pub stay: Option<Span>,
    /// How a stay ends. Default: `"leave"`.
    #[serde(default = "leave")]
    pub ends: Mix<End>,
    /// How long they are away after a stay, or after an action dropped them. Default: one second.
    #[serde(default = "a_second")]
    pub away: Span,
    /// What they come back by after a drop; after a leave it is always what they came by. Default: `"resume"`.
    #[serde(default = "resume")]
    pub back_by: Mix<Back>,
    /// How many stays. Default: until the end of the run.
    pub lives: Option<u32>,
    /// Reads slowly. Default: as fast as it can.
    pub read: Option<Read>,
}

/// Rooms: exactly one of `size`, `count` and `of`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rooms {
    /// As many as are needed for so many people each, or evenly from so many to so many: `8`, `[2, 8]`.
    pub size: Option<Size>,
    /// So many, with the people spread over them.
    pub count: Option<usize>,
    /// Those of another population.
    pub of: Option<Spanned<String>>,
    /// How long an empty one is kept. Default: the server's.
    #[serde(default, deserialize_with = "words::maybe_duration")]
    pub idle_timeout: Option<Duration>,
}

/// People in a room.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "a number, or [least, most]")]
pub enum Size {
    /// So many.
    Exactly(usize),
    /// Evenly between these.
    Between([usize; 2]),
}

/// What lets somebody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// An invite link of the room, with a `client` of their own.
    Invite,
    /// An access token that the server mints.
    Token,
}

/// What is wrong with a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// Nothing: admitted.
    Valid,
    /// Its time is over: 410 `invite_expired`; 401 `credential_expired` for a token.
    Expired,
    /// It was revoked: 410 `invite_revoked`.
    Revoked,
    /// It was for one person, who has been: 410 `invite_used_up`.
    UsedUp,
    /// The server never made it: 404 `invite_not_found`; 401 `credential_invalid` for a token.
    Forged,
}

/// How often a heartbeat is sent.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// From one to the next.
    #[serde(deserialize_with = "words::duration")]
    pub every: Duration,
    /// Up to which share earlier or later each may be, from 0 to 1. Default: 0.
    #[serde(default)]
    pub jitter: f64,
}

/// Changes of a participant's state.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// From one to the next.
    pub every: Span,
    /// How large the state is, about. Default: 32.
    #[serde(default = "some_bytes")]
    pub bytes: usize,
}

/// What a participant says to the others.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broadcast {
    /// How often, at an even rate.
    pub per_second: f64,
    /// How large the payload is, about. Default: 32.
    #[serde(default = "some_bytes")]
    pub bytes: usize,
}

/// How a stay ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With a word.
    Leave,
    /// Without one: the connection breaks.
    Drop,
}

/// What somebody comes back by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Back {
    /// The resume token of the last welcome.
    Resume,
    /// What they came by first.
    Again,
}

/// How slowly somebody reads. Their own latencies say nothing about the server, and are left out.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// After each frame.
    #[serde(deserialize_with = "words::duration")]
    pub pause: Duration,
    /// The socket's receive buffer. Default: 4096.
    #[serde(default = "small_buffer")]
    pub bytes: u32,
}

fn invite() -> Mix<Access> {
    Mix::only(Access::Invite)
}

fn valid() -> Mix<Link> {
    Mix::only(Link::Valid)
}

fn leave() -> Mix<End> {
    Mix::only(End::Leave)
}

fn resume() -> Mix<Back> {
    Mix::only(Back::Resume)
}

fn a_second() -> Span {
    Span::Fixed(Duration::from_secs(1))
}

fn some_bytes() -> usize {
    32
}

fn small_buffer() -> u32 {
    4096
}

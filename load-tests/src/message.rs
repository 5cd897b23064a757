//! Wire JSON as a client reads it: borrowed, and no more than a replayer needs.
//!
//! One struct with every field of every message: an internally tagged enum would copy each message before it reads it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// A message of the server; `kind` says which fields mean something.
#[derive(Debug, Deserialize)]
pub struct Message<'a> {
    /// The message's `type`.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// Of the last presence frame.
    pub seq: Option<u64>,
    /// How many are here.
    pub occupancy: Option<u64>,
    /// `full` or `count`.
    pub roster: Option<&'a str>,
    /// Whether the seat was still held.
    pub resumed: Option<bool>,
    /// Oneself.
    #[serde(borrow, rename = "self")]
    pub own: Option<Own<'a>>,
    /// Everybody.
    #[serde(borrow)]
    pub members: Option<Vec<Person<'a>>>,
    /// Who came.
    #[serde(borrow)]
    pub joined: Option<Vec<Person<'a>>>,
    /// Who changed.
    #[serde(borrow)]
    pub updated: Option<Vec<Person<'a>>>,
    /// Who left.
    #[serde(borrow)]
    pub left: Option<Vec<Person<'a>>>,
    /// What a broadcast says.
    #[serde(borrow)]
    pub payload: Option<&'a RawValue>,
    /// Why a message was not carried out.
    #[serde(borrow)]
    pub code: Option<Cow<'a, str>>,
    /// How often a heartbeat is asked for.
    pub heartbeat_interval_ms: Option<u64>,
    /// The server's clock.
    pub server_time: Option<&'a str>,
    /// When to come back.
    pub after_ms: Option<u64>,
}

/// Oneself in a welcome.
#[derive(Debug, Deserialize)]
pub struct Own<'a> {
    /// The participant.
    pub participant_id: &'a str,
    /// What brings the same participant back.
    pub resume_token: &'a str,
}

/// A member, or what changed of one, or who left: what is not said is absent.
#[derive(Debug, Deserialize)]
pub struct Person<'a> {
    /// Who.
    pub id: &'a str,
    /// As JSON text, to be compared only.
    #[serde(borrow)]
    pub name: Option<&'a RawValue>,
    /// As JSON text.
    #[serde(borrow)]
    pub status: Option<&'a RawValue>,
    /// As JSON text.
    #[serde(borrow)]
    pub state: Option<&'a RawValue>,
    /// When last seen; only in a leave is it more than a sample.
    pub last_seen_at: Option<&'a str>,
    /// Why who left did.
    pub reason: Option<&'a str>,
}

impl<'a> Message<'a> {
    /// Reads a text frame.
    ///
    /// # Errors
    /// It is not JSON, or not a message.
    pub fn read(text: &'a [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(text)
    }
}

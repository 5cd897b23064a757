//! What a client makes of what it is sent: it counts its acks, and keeps its roster by number, which the frames must add up
//! to (rule R4).

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use serde::Deserialize;

use crate::wire::Tally;

/// How an ack begins; looked for before anything is parsed, for it is what most frames are while something is measured.
const ACK: &str = "{\"type\":\"heartbeat_ack\",\"server_time\":";

/// What a client keeps. Only the task that writes to it changes it.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// A hash of its own participant id.
    own: AtomicU64,
    seq: AtomicU32,
    members: AtomicU32,
    acks: AtomicU32,
}

/// One frame of the server's.
#[derive(Debug)]
pub(crate) enum Frame<'a> {
    Text(&'a str),
    Ping,
}

/// As much of a message as counts here.
#[derive(Debug, Deserialize)]
struct Message<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(default)]
    seq: u32,
    #[serde(default)]
    occupancy: u32,
    #[serde(default, borrow)]
    members: Vec<Named<'a>>,
    #[serde(default, borrow)]
    joined: Vec<Named<'a>>,
    #[serde(default, borrow)]
    left: Vec<Named<'a>>,
    #[serde(default, borrow, rename = "self")]
    own: Option<Own<'a>>,
}

#[derive(Debug, Deserialize)]
struct Named<'a> {
    id: &'a str,
}

#[derive(Debug, Deserialize)]
struct Own<'a> {
    participant_id: &'a str,
}

impl Client {
    pub(crate) fn members(&self) -> u32 {
        self.members.load(Ordering::Acquire)
    }

    pub(crate) fn acks(&self) -> u32 {
        self.acks.load(Ordering::Acquire)
    }

    /// Takes in one text message.
    pub(crate) fn hear(&self, text: &str, tally: &Tally) {
        if text.starts_with(ACK) {
            self.acks.fetch_add(1, Ordering::Release);
            tally.acks.fetch_add(1, Ordering::Release);
            return;
        }
        tally.frames.fetch_add(1, Ordering::Relaxed);
        let understood = match serde_json::from_str::<Message<'_>>(text) {
            Ok(message) if message.kind == "welcome" => self.enter(&message, tally),
            Ok(message) if message.kind == "presence" => self.apply(&message),
            Ok(message) => Err(format!("an unexpected {}", message.kind)),
            Err(error) => Err(error.to_string()),
        };
        if let Err(complaint) = understood {
            let start: String = text.chars().take(200).collect();
            tally.complain(format!("{complaint}: {start}"));
        }
    }

    fn enter(&self, message: &Message<'_>, tally: &Tally) -> Result<(), String> {
        let own = message.own.as_ref().ok_or("a welcome without self")?;
        if message
            .members
            .iter()
            .all(|one| one.id != own.participant_id)
        {
            return Err("a welcome without its own member".to_owned());
        }
        if message.members.len() != message.occupancy as usize {
            return Err(format!("{} members listed", message.members.len()));
        }
        self.own.store(hash(own.participant_id), Ordering::Relaxed);
        self.seq.store(message.seq, Ordering::Relaxed);
        self.members.store(message.occupancy, Ordering::Release);
        tally.welcomes.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn apply(&self, message: &Message<'_>) -> Result<(), String> {
        let before = self.seq.swap(message.seq, Ordering::Relaxed);
        if message.seq != before + 1 {
            return Err(format!("after frame {before}"));
        }
        let own = self.own.load(Ordering::Relaxed);
        let others = message.joined.iter().filter(|one| hash(one.id) != own);
        let members = self.members() + others.count() as u32 - message.left.len() as u32;
        self.members.store(members, Ordering::Release);
        if members == message.occupancy {
            Ok(())
        } else {
            Err(format!("the frames add up to {members} members"))
        }
    }
}

fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

/// Takes a write apart. The server writes whole frames; one that is not ends it with a complaint.
pub(crate) fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Result<Frame<'_>, String>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let Some((opcode, payload, rest)) = split(bytes) else {
            bytes = &[];
            return Some(Err("a write that is not of whole frames".to_owned()));
        };
        bytes = rest;
        Some(match opcode {
            0x81 => std::str::from_utf8(payload)
                .map(Frame::Text)
                .map_err(|error| error.to_string()),
            0x89 => Ok(Frame::Ping),
            other => Err(format!("a frame that begins with {other:#x}")),
        })
    })
}

/// The first byte, the payload, and what follows (RFC 6455 section 5.2).
fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&opcode, after) = bytes.split_first()?;
    let (&short, after) = after.split_first()?;
    let (length, after) = match short {
        126 => {
            let (length, after) = after.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), after)
        }
        127 => {
            let (length, after) = after.split_first_chunk()?;
            (usize::try_from(u64::from_be_bytes(*length)).ok()?, after)
        }
        short => (usize::from(short), after),
    };
    let (payload, rest) = after.split_at_checked(length)?;
    Some((opcode, payload, rest))
}

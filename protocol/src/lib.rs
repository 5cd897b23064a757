//! The wire protocol of Rollcall, version 1: messages, ids, codes and limits, with the JSON they are.
//!
//! | file | holds |
//! |---|---|
//! | `client` | what clients say, and how it is decoded and refused |
//! | `server` | what the server says |
//! | `reference` | a message's own name, which the error about it repeats |
//! | `room` | rooms and members as everybody sees them |
//! | `problem` | refusals over HTTP (RFC 9457) |
//! | `close` | close codes, and who comes back after which |
//! | `ids`, `time`, `limits` | the small parts |
//!
//! The text of the protocol is `protocol/README.md`; the JSON Schema is in `protocol/schema`, made from these types.

mod client;
mod close;
mod ids;
mod limits;
mod problem;
mod reference;
mod room;
mod server;
mod time;

pub use self::{
    client::{ClientMessage, Inbound, Rejected},
    close::{CloseCode, ComesBack, comes_back},
    ids::{
        ConnectionId, DisplayName, InvalidId, InvalidName, InviteId, ParticipantId, RoomId, UserId,
    },
    limits::*,
    problem::{Problem, ProblemCode},
    reference::{InvalidRef, Ref},
    room::{LeaveReason, Member, OnIdle, RoomView, RosterMode, StateText, Status},
    server::{Departure, ErrorCode, ExpiryReason, SelfView, ServerMessage, Update},
    time::Timestamp,
};

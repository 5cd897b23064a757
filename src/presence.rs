//! The rules of presence, pure: no I/O, no locks, `now` is an argument.
//!
//! A [`Seat`] says whether a participant is in the room and how it looks; a [`Roster`] says what the room's clients have
//! been told, and what to tell them next; [`window`] says when.

mod patch;
mod roster;
mod seat;
pub mod window;

pub use self::{
    patch::merge,
    roster::{Change, Crossing, Leave, Roster, Shown},
    seat::{Look, Seat},
};

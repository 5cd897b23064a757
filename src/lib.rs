//! Rollcall: a real-time presence server.

pub mod clock;
pub mod store;

//! The program as people run it: real processes, a real server, small crowds. One program, so that it links once.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod events;
mod harness;
mod liar;
mod lies;
mod scenarios;

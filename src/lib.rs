//! Rollcall: a self-hosted real-time presence server.
//!
//! Arrows point one way: `presence` ← `hub` ← `connection` ← `node` ← `http` ← `server`, and `store` ← `admission`, `flusher`,
//! `reaper`. `presence` knows neither sockets nor SQL, `store` knows neither sockets nor rosters.
//!
//! | module | holds |
//! |---|---|
//! | [`presence`] | the rules, pure: seats, rosters, diffs, coalescing |
//! | [`hub`] | the live rooms, shared by everybody |
//! | [`doors`] | how many may come, how often, from where |
//! | [`admission`] | may this person enter? |
//! | [`connection`] | one client from 101 to its close frame |
//! | [`http`] | connect, the management API, problems, pages |
//! | [`store`] | what the rest may ask of a database |
//! | [`flusher`], [`reaper`] | what is written later, and what is deleted |
//! | [`node`] | builds the parts; start, drain and stop |
//! | [`server`], [`tls`] | a node with its listener, until a signal |
//! | [`cli`], [`config`], [`telemetry`] | the program around it |
//! | [`clock`], [`chance`] | the only places that ask what time it is, and for luck |

pub mod admission;
mod backoff;
pub mod chance;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connection;
pub mod doors;
pub mod flusher;
pub mod history;
pub mod http;
pub mod hub;
pub mod metrics;
pub mod node;
pub mod presence;
pub mod reaper;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod tls;

//! Crowds of scripted clients that measure a Rollcall server while they check what it tells them.
//!
//! ```text
//! scenario ─▶ engine ───▶ outcome  (a file that says who comes when; thousands of clients; what was found)
//! events  ──▶ population ──▶ holder   (thousands of clients in a process of their own)
//!    │             └───────▶ client   (a script, a replayer, a tally) ──▶ wire
//!    ├──▶ server, api, probe          (the server under test, and who asks it how it does)
//!    └──▶ measure ──▶ report          (latencies, memory, processor time; a table and a JSON file)
//! ```
//!
//! The server is known by `PROTOCOL.md` alone: nothing of its code or its types is used here. Whatever a client is told is
//! replayed, and a run that measured a server which told somebody something wrong has failed (see [`fault`]).

pub mod api;
pub mod besieger;
pub mod chance;
pub mod child;
pub mod client;
pub mod clock;
pub mod crowd;
pub mod departure;
pub mod engine;
pub mod events;
pub mod fault;
pub mod floor;
pub mod holder;
pub mod measure;
pub mod message;
pub mod moment;
pub mod options;
pub mod outcome;
pub mod population;
pub mod probe;
pub mod replay;
pub mod report;
pub mod roster;
pub mod run;
pub mod scenario;
pub mod script;
pub mod server;
pub mod tally;
pub mod wire;

//! What an outage of the database costs: connected people nothing, newcomers a 503 in bounded time, the operator one line
//! of log, and nobody what was acked. A real PostgreSQL, a real server, clients that replay what they are told.
//!
//! What only this program does to a server it does to a cluster of its own; what a schema or a proxy suffices for
//! happens on the one that the whole run shares.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]
#![expect(unreachable_pub, reason = "the parts are this program's own")]

#[expect(dead_code, reason = "shared with tests/server, which uses all of it")]
#[path = "../server/harness.rs"]
mod harness;
#[path = "../server/replay.rs"]
mod replay;

mod backlog;
mod database;
mod disk_full;
mod locks;
mod log;
mod lost_answers;
mod program;
mod proxy;
mod scene;
mod server_gone;
mod startup;
mod two_nodes;

//! What only the PostgreSQL store has: its schema in somebody else's database, a pooler in between, other software that writes
//! too, the functions for psql, and moving in from the hand-made version. One program, so that it links once; a file per
//! behaviour. Every test has a schema of its own in the cluster of the run, or a database where the schema is not enough.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]
#![expect(unreachable_pub, reason = "the bench is this program's own")]

mod bench;
mod cleanup;
mod constraints;
mod expiry;
mod life;
mod move_in;
mod old_version;
mod other_writers;
mod pooler;
mod privacy;
mod room_ends;
mod schema;
mod secrets;
mod take_over;
mod verify;

#[expect(dead_code, reason = "not everything of the harness is needed here")]
#[path = "../server/harness.rs"]
mod harness;
#[expect(dead_code, reason = "not everything of the replayer is needed here")]
#[path = "../server/replay.rs"]
mod replay;

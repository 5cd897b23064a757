//! A real PostgreSQL server for a test or a benchmark: its own data, its own port, its own lifetime.
//!
//! Everything here blocks, and panics with the server's own words where something fails: the callers are tests. Linux
//! only, because it reads `/proc`. Nothing outlives its owner, not even one that is killed with SIGKILL, as nextest does
//! to a test that takes too long: see `guard.sh`.
//!
//! ```no_run
//! let cluster = rollcall_test_cluster::Cluster::start();
//! assert_eq!(cluster.psql("SELECT 1"), "1");
//! cluster.kill();
//! cluster.restart();
//! ```

mod cluster;
mod home;
mod poll;
mod pooler;
mod port;
mod process;
mod programs;
mod psql;
mod shared;

pub use cluster::Cluster;
pub use pooler::Pooler;
pub use shared::{SHARED_URL_VARIABLE, Shared, shared};

//! What Rollcall reads of strangers, fed with anything at all: one module per target, each with a `check` that panics where a
//! promise is broken. libFuzzer drives them through `fuzz_targets/`, `cargo test` through `tests/corpus.rs`.

pub mod access_token;
pub mod connection;
pub mod merge_patch;
pub mod message;
pub mod query;
mod stage;

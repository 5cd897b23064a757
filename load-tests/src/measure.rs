//! How long, how much, how often.

pub mod kernel;
pub mod lag;
pub mod latency;
pub mod process;
pub mod sampler;

//! Rollcall: a self-hosted real-time presence server.

pub mod config;

//! The server through its public face: real sockets, a real database file, an independent replayer. One program, so that it
//! links once; a file per behaviour.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]
#![expect(unreachable_pub, reason = "the harness is this program's own")]

mod access_tokens;
mod binary;
mod crowds;
mod doors;
mod enter;
mod handshakes;
mod harness;
mod history;
mod invites;
mod lifecycle;
mod messages;
mod networks;
mod observe;
mod offline;
mod presence;
mod privacy;
mod properties;
mod replay;
mod restart;
mod rfc6455;
mod secrets;
mod security;
mod slow_client;
mod tls;

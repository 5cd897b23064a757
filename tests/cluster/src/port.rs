//! A port that a server keeps, through its restarts too.

use std::{
    hash::{BuildHasher, RandomState},
    net::{Ipv4Addr, TcpListener},
    ops::Range,
};

/// Starts a server on a free port. `start` answers `None` where somebody else took the port first.
pub(crate) fn on_free_port<T>(mut start: impl FnMut(u16) -> Option<T>) -> (u16, T) {
    (0..ATTEMPTS)
        .map(|_| random_port())
        .filter(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .find_map(|port| Some((port, start(port)?)))
        .unwrap_or_else(|| panic!("{ATTEMPTS} ports from {PORTS:?} were all taken"))
}

fn random_port() -> u16 {
    let offset = RandomState::new().hash_one(()) % PORTS.len() as u64;
    PORTS.start + offset as u16
}

/// Below the range from which Linux takes the port of an outgoing connection. Inside it, a client that keeps dialling a
/// stopped server is sooner or later given the server's own port, connects to itself, and the server cannot come back.
const PORTS: Range<u16> = 10_000..32_768;

const ATTEMPTS: usize = 100;

//! What the kernel holds and drops on the server's behalf; it counts for the whole machine.

use std::fs;

use serde::Serialize;

/// The kernel's own figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Kernel {
    /// Memory of all TCP buffers, bytes.
    pub tcp_bytes: u64,
    /// Connections dropped because a listener had not accepted those before them; each comes again a second later.
    pub listen_overflows: u64,
}

/// Linux counts TCP memory in pages.
const PAGE: u64 = 4096;

impl Kernel {
    /// Reads them; what is not there is zero.
    pub fn read() -> Self {
        Self {
            tcp_bytes: tcp_pages().unwrap_or(0) * PAGE,
            listen_overflows: listen_overflows().unwrap_or(0),
        }
    }
}

fn tcp_pages() -> Option<u64> {
    let text = fs::read_to_string("/proc/net/sockstat").ok()?;
    let line = text.lines().find(|line| line.starts_with("TCP:"))?;
    line.split_once("mem ")?.1.trim().parse().ok()
}

/// Names in one line, values in the next.
fn listen_overflows() -> Option<u64> {
    let text = fs::read_to_string("/proc/net/netstat").ok()?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names
        .split(' ')
        .position(|name| name == "ListenOverflows")?;
    values.split(' ').nth(at)?.parse().ok()
}

//! The server, second by second, from the outside: its process where it may be looked at, and its metrics.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::target::Target;
use crate::{
    api::{Api, Metrics},
    measure::process::{Cost, Process},
};

/// A server that says nothing of itself within a second says nothing in this one.
const PATIENCE: Duration = Duration::from_millis(900);

/// A look at the start of a second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Look {
    /// Whose process, and what it has cost so far.
    pub cost: Option<(u32, Cost)>,
    pub connections: Option<u64>,
    pub seats: Option<u64>,
}

/// Looks, until dropped.
#[derive(Debug)]
pub(super) struct Watch {
    looks: Arc<Mutex<Vec<Look>>>,
    /// 0: none may be looked at.
    pid: Arc<AtomicU32>,
    _task: JoinSet<()>,
}

impl Watch {
    /// Begins with the run.
    pub(super) fn begin(target: &Target, began: Instant) -> Self {
        let looks = Arc::new(Mutex::new(Vec::new()));
        let pid = Arc::new(AtomicU32::new(pid(target)));
        let (kept, whose) = (Arc::clone(&looks), Arc::clone(&pid));
        let (metrics, key) = (target.metrics, target.key.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            for second in 0.. {
                sleep_until(began + Duration::from_secs(second)).await;
                let mut look = look(whose.load(Ordering::Relaxed));
                // Afterwards: answering costs the server something.
                let asked = timeout(PATIENCE, ask(metrics, key.clone())).await;
                if let Ok(Ok(metrics)) = asked {
                    look.connections = metrics.known("rollcall_connections");
                    look.seats = metrics.known("rollcall_seats");
                }
                kept.lock().push(look);
            }
        });
        Self {
            looks,
            pid,
            _task: task,
        }
    }

    /// There is another process now.
    pub(super) fn replaced(&self, target: &Target) {
        self.pid.store(pid(target), Ordering::Relaxed);
    }

    /// All looks so far, one a second from the beginning.
    pub(super) fn looks(&self) -> Vec<Look> {
        self.looks.lock().clone()
    }
}

fn pid(target: &Target) -> u32 {
    target.process().map_or(0, |process| process.0)
}

fn look(pid: u32) -> Look {
    let cost = (pid != 0).then(|| Process(pid).cost().ok()).flatten();
    Look {
        cost: cost.map(|cost| (pid, cost)),
        ..Look::default()
    }
}

async fn ask(addr: SocketAddr, key: Option<String>) -> anyhow::Result<Metrics> {
    // Each time anew: the server may have been replaced.
    Api::with_key(addr, key).await?.metrics().await
}

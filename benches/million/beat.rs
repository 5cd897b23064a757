//! Heartbeats: so many on their way at a time that the server is never idle, and every one answered.

use std::{thread, time::Duration};

use anyhow::ensure;
use tokio::time::Instant;

use crate::{meter, wire::Wires};

/// On their way at a time.
const WINDOW: u64 = 2_048;
const LOOK_EVERY: Duration = Duration::from_micros(50);
/// The run fails when no ack comes for so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What some heartbeats cost.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Beats {
    pub(crate) count: u64,
    /// Of the server's threads, and with them of the clients that read in these.
    pub(crate) cpu: Duration,
    pub(crate) took: Duration,
}

impl Beats {
    pub(crate) fn cpu_micros_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.count as f64
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.count as f64 / self.took.as_secs_f64()
    }
}

/// Lets these clients send one heartbeat each, and waits for all answers.
pub(crate) fn beat(
    wires: &Wires,
    clients: impl IntoIterator<Item = usize>,
) -> anyhow::Result<Beats> {
    let (cpu, started) = (meter::cpu_of_others()?, Instant::now());
    let mut count = 0;
    for index in clients {
        wait(wires, WINDOW)?;
        wires.ask(index);
        count += 1;
    }
    wait(wires, 1)?;
    Ok(Beats {
        count,
        took: started.elapsed(),
        cpu: meter::cpu_of_others()? - cpu,
    })
}

/// Until fewer than `limit` are on their way.
fn wait(wires: &Wires, limit: u64) -> anyhow::Result<()> {
    let (mut last, mut since) = (0, None);
    loop {
        let left = wires.outstanding();
        if left < limit {
            return Ok(());
        }
        if left != last {
            (last, since) = (left, None);
        }
        let waited = since.get_or_insert_with(Instant::now).elapsed();
        ensure!(
            waited < PATIENCE,
            "{left} heartbeats are not answered: {}",
            wires.tally().complaints().join("\n")
        );
        thread::sleep(LOOK_EVERY);
    }
}

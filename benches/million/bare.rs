//! Tasks on the same wires that do nothing but answer: what wires, wake-ups and the runtime cost without the server.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Builder,
};
use tokio_util::task::TaskTracker;

use crate::{
    beat::{Beats, beat},
    wire::{Pipe, Wires},
};

/// As the server answers.
const ACK: &[u8] =
    b"\x81\x41{\"type\":\"heartbeat_ack\",\"server_time\":\"2026-11-24T12:00:00.000Z\"}";
const ROUNDS: usize = 200;

/// What a heartbeat costs them.
pub(crate) fn measure(connections: usize) -> anyhow::Result<Beats> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let (wires, tasks) = (Wires::lay(connections), TaskTracker::new());
    for index in 0..connections {
        tasks.spawn_on(answer(wires.pipe(index)), runtime.handle());
    }
    let mut beats = Beats::default();
    for _ in 0..ROUNDS {
        let heard = beat(wires, 0..connections)?;
        beats.count += heard.count;
        beats.cpu += heard.cpu;
        beats.took += heard.took;
    }
    Ok(beats)
}

async fn answer(mut pipe: Pipe) {
    let mut buffer = [0; 64];
    while pipe.read(&mut buffer).await.is_ok() {
        // The pipe takes everything.
        let _ = pipe.write(ACK).await;
    }
}

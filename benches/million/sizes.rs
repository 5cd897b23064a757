//! The bytes of one connection by what they are for, found by doing what the server does in steps, for thousands at a time.

use std::sync::{Arc, atomic::Ordering};

use rollcall::{
    connection,
    hub::{Encoded, Place},
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Builder;

use crate::{
    beat,
    meter::live,
    options::{ROOM, Run},
    town::{Ground, Town, wait_for},
    wire::Pipe,
};

/// A part and its bytes in each connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Size {
    pub(crate) part: String,
    pub(crate) bytes: f64,
}

/// Steps, and what each adds.
struct Steps {
    each: usize,
    before: usize,
    sizes: Vec<Size>,
}

impl Steps {
    fn new(each: usize) -> Self {
        Self {
            each,
            before: live(),
            sizes: Vec::with_capacity(32),
        }
    }

    /// What has come since the last step belongs to this part.
    fn step(&mut self, part: &str) {
        self.step_of(part, self.each);
    }

    fn step_of(&mut self, part: &str, count: usize) {
        let now = live();
        self.note(part, (now as f64 - self.before as f64) / count as f64);
        self.before = live();
    }

    fn note(&mut self, part: &str, bytes: f64) {
        let part = part.to_owned();
        self.sizes.push(Size { part, bytes });
    }
}

/// Takes a connection apart.
pub(crate) fn measure(run: &Run) -> anyhow::Result<Vec<Size>> {
    let town = Ground::lay(run)?.open()?;
    let all = run.connections;
    // Its tasks do not run before they are to.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut admitted: Vec<_> = (0..all).map(|_| None).collect();
    let mut steps = Steps::new(all);
    let firsts = (0..all).step_by(ROOM);
    for index in firsts.clone() {
        admitted[index] = Some(town.block_on(town.admit(index))?);
    }
    steps.step_of("reserved: the first of a room, with the room", firsts.len());
    for index in (0..all).filter(|index| index % ROOM > 0) {
        admitted[index] = Some(town.block_on(town.admit(index))?);
    }
    steps.step_of("reserved: every other", all - firsts.len());
    let mut sockets: Vec<_> = (0..all).map(|_| None).collect();
    steps.before = live();
    for (index, socket) in sockets.iter_mut().enumerate() {
        *socket = Some(town.block_on(town.upgraded(town.wires.pipe(index))));
    }
    steps.step("tungstenite's heap");
    let mut future_bytes = 0;
    for (socket, admitted) in sockets.iter_mut().zip(&mut admitted) {
        let (Some(socket), Some(admitted)) = (socket.take(), admitted.take()) else {
            continue;
        };
        let connection = connection::run(socket, admitted, Arc::clone(&town.node.deps));
        future_bytes = size_of_val(&connection);
        town.node.connections.spawn_on(connection, runtime.handle());
    }
    steps.step("the task, its future included");
    runtime.block_on(sit(&town))?;
    steps.step("sat down and welcomed, less what was reserved for it");
    town.flush()?;
    steps.step("flushed");
    hear(&town, &runtime)?;
    steps.step("heard twice and not flushed");
    town.flush()?;
    steps.step("flushed again");
    steps.note(
        "of the task: the future of connection::run",
        future_bytes as f64,
    );
    let socket = size_of::<tokio_tungstenite::WebSocketStream<Pipe>>();
    steps.note("of the future: the WebSocketStream", socket as f64);
    steps.note("of the future: the Place", size_of::<Place>() as f64);
    steps.note(
        "of the future: an Admitted, before it sits",
        size_of::<rollcall::admission::Admitted>() as f64,
    );
    steps.note("one frame in a Vec", size_of::<Encoded>() as f64);
    town.check()?;
    Ok(steps.sizes)
}

/// Lets the connections run until everybody sees everybody.
async fn sit(town: &Town) -> anyhow::Result<()> {
    let (wires, all) = (town.wires, town.wires.len());
    for _ in 0..1_000 {
        let welcomes = wires.tally().welcomes.load(Ordering::Acquire);
        if welcomes == all as u64 && wires.seeing(ROOM as u32) == all {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    anyhow::bail!("not everybody was welcomed")
}

/// Twice, with the connections on a thread of their own meanwhile.
fn hear(town: &Town, runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
    let done = tokio_util::sync::CancellationToken::new();
    std::thread::scope(|scope| {
        let (run, until) = (runtime, done.clone());
        scope.spawn(move || run.block_on(until.cancelled()));
        let _done = done.drop_guard();
        for _ in 0..2 {
            beat::beat(town.wires, 0..town.wires.len())?;
        }
        wait_for("all is quiet", std::time::Duration::from_secs(1), || {
            town.wires.outstanding() == 0
        })
    })
}

//! The bytes of one connection by what they are for, found by doing what the server does in steps, for thousands at a time.

use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use rollcall::{admission::Admitted, connection, hub::Place};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::CancellationToken;

use crate::{
    beat::beat,
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
        let bytes = (live() as f64 - self.before as f64) / count as f64;
        let part = part.to_owned();
        self.sizes.push(Size { part, bytes });
        self.start();
    }

    /// What was allocated so far belongs to no part.
    fn start(&mut self) {
        self.before = live();
    }
}

/// Connections on their way through the steps.
struct Stages {
    town: Town,
    steps: Steps,
    /// Its tasks do not run before they are to.
    runtime: Runtime,
    admitted: Vec<Option<Admitted>>,
    sockets: Vec<Option<WebSocketStream<Pipe>>>,
}

/// Takes a connection apart.
pub(crate) fn measure(run: &Run) -> anyhow::Result<Vec<Size>> {
    let all = run.connections;
    let mut stages = Stages {
        town: Ground::lay(run)?.open()?,
        runtime: Builder::new_current_thread().enable_all().build()?,
        admitted: (0..all).map(|_| None).collect(),
        sockets: (0..all).map(|_| None).collect(),
        steps: Steps::new(all),
    };
    stages.reserve()?;
    stages.upgrade();
    let future = stages.spawn();
    stages.live()?;
    let mut sizes = stages.steps.sizes;
    sizes.extend(inside(future));
    stages.town.check()?;
    Ok(sizes)
}

impl Stages {
    fn reserve(&mut self) -> anyhow::Result<()> {
        let all = self.admitted.len();
        let (firsts, others): (Vec<_>, Vec<_>) = (0..all).partition(|index| index % ROOM == 0);
        self.steps.start();
        for index in &firsts {
            self.admitted[*index] = Some(self.town.block_on(self.town.admit(*index))?);
        }
        let part = "reserved: the first of a room, with the room";
        self.steps.step_of(part, firsts.len());
        for index in &others {
            self.admitted[*index] = Some(self.town.block_on(self.town.admit(*index))?);
        }
        self.steps.step_of("reserved: every other", others.len());
        Ok(())
    }

    fn upgrade(&mut self) {
        self.steps.start();
        for (index, socket) in self.sockets.iter_mut().enumerate() {
            let pipe = self.town.wires.pipe(index);
            *socket = Some(self.town.block_on(self.town.upgraded(pipe)));
        }
        self.steps.step("tungstenite's heap");
    }

    /// Answers the size of the future.
    fn spawn(&mut self) -> usize {
        let node = &self.town.node;
        let mut bytes = 0;
        for (socket, admitted) in self.sockets.iter_mut().zip(&mut self.admitted) {
            if let (Some(socket), Some(admitted)) = (socket.take(), admitted.take()) {
                let connection = connection::run(socket, admitted, Arc::clone(&node.deps));
                bytes = size_of_val(&connection);
                node.connections.spawn_on(connection, self.runtime.handle());
            }
        }
        self.steps.step("the task, its future included");
        bytes
    }

    fn live(&mut self) -> anyhow::Result<()> {
        self.runtime.block_on(sit(&self.town))?;
        let part = "sat down and welcomed, less what was reserved for it";
        self.steps.step(part);
        self.town.flush()?;
        self.steps.step("flushed");
        hear(&self.town, &self.runtime)?;
        self.steps.step("heard twice and not flushed");
        self.town.flush()?;
        self.steps.step("flushed again");
        Ok(())
    }
}

/// What is inside the task.
fn inside(future: usize) -> impl Iterator<Item = Size> {
    let parts = [
        ("of the task: the future of connection::run", future),
        (
            "of the future: the WebSocketStream",
            size_of::<WebSocketStream<Pipe>>(),
        ),
        ("of the future: the Place", size_of::<Place>()),
        (
            "of the future: an Admitted, before it sits",
            size_of::<Admitted>(),
        ),
    ];
    parts.into_iter().map(|(part, bytes)| Size {
        part: part.to_owned(),
        bytes: bytes as f64,
    })
}

/// Lets the connections run until everybody sees everybody.
async fn sit(town: &Town) -> anyhow::Result<()> {
    let (wires, all) = (town.wires, town.wires.len());
    for _ in 0..1_000 {
        let welcomes = wires.tally().welcomes.load(Ordering::Acquire);
        if welcomes == all as u64 && wires.seeing(ROOM as u32) == all {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    anyhow::bail!("not everybody was welcomed")
}

/// Twice, with the connections on a thread of their own meanwhile.
fn hear(town: &Town, runtime: &Runtime) -> anyhow::Result<()> {
    let done = CancellationToken::new();
    thread::scope(|scope| {
        let until = done.clone();
        scope.spawn(move || runtime.block_on(until.cancelled()));
        let _done = done.drop_guard();
        for _ in 0..2 {
            beat(town.wires, 0..town.wires.len())?;
        }
        let is_quiet = || town.wires.outstanding() == 0;
        wait_for("all is quiet", Duration::from_secs(1), is_quiet)
    })
}

//! Somebody who is in: says what is due, replays what it is told, and holds that against what is so.

mod hearing;

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use anyhow::Context;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{
    record::Record,
    routine::{Act, Routine},
    stage::{Cue, Stage},
};
use crate::{
    client::View,
    clock,
    fault::Fault,
    message::Message,
    replay::Replay,
    roster::Id,
    wire::{Opcode, Socket},
};

/// Longer than any run.
const FAR: Duration = Duration::from_secs(24 * 3600);
/// How long a close is waited for after `leave`.
const PARTING: Duration = Duration::from_secs(20);

/// Somebody who is in. Dropping it breaks the connection.
#[derive(Debug)]
pub(super) struct Member {
    socket: Socket,
    stage: Arc<Stage>,
    record: Arc<Record>,
    view: View,
    own: Id,
    pub resume_token: String,
    pub resumed: bool,
    /// How often the server asks for a heartbeat.
    pub interval: Duration,
    /// When the heartbeats were due that have not been answered.
    beats: VecDeque<Instant>,
    /// When to come back, if the server said.
    pub hint: Option<Duration>,
    said: u64,
    /// Reads the next frame only so long after the last.
    pause: Option<Duration>,
    reads_at: Instant,
}

/// How a stay ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stay {
    /// The time was over.
    Over,
    /// All connections were to break.
    Dropped,
    /// The server closed with this code.
    Closed(u16),
    /// The connection broke, or what came makes no sense; what was wrong.
    Broken(String),
}

impl Member {
    /// Waits for the welcome.
    pub(super) async fn greet(
        mut socket: Socket,
        stage: &Arc<Stage>,
        record: &Arc<Record>,
        pause: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let frame = socket
            .receive()
            .await?
            .context("closed before the welcome")?;
        if frame.opcode == Opcode::Close {
            anyhow::bail!("closed with {} before the welcome", frame.close_code());
        }
        let welcome = Message::read(&frame.payload).context("what should be a welcome")?;
        anyhow::ensure!(
            welcome.kind == "welcome",
            "{} came before a welcome",
            welcome.kind
        );
        let tally = &stage.books.tally;
        tally.received(welcome.kind, &frame);
        let own = welcome.own.as_ref().context("a welcome without oneself")?;
        let replay = tally.with_faults(|faults| Replay::new(&welcome, faults));
        let replay = replay.context("a welcome without an id")?;
        let interval = welcome
            .heartbeat_interval_ms
            .context("a welcome without an interval")?;
        Ok(Self {
            stage: Arc::clone(stage),
            record: Arc::clone(record),
            own: replay.own(),
            view: Arc::new(Mutex::new(replay)),
            resume_token: own.resume_token.to_owned(),
            resumed: welcome.resumed == Some(true),
            interval: Duration::from_millis(interval),
            beats: VecDeque::new(),
            hint: None,
            said: 0,
            pause,
            reads_at: Instant::now(),
            socket,
        })
    }

    pub(super) fn own(&self) -> Id {
        self.own
    }

    pub(super) fn view(&self) -> View {
        Arc::clone(&self.view)
    }

    /// Does what is due until a time, or until it is told otherwise.
    pub(super) async fn stay(
        &mut self,
        routine: Routine,
        until: Option<Instant>,
        cues: &mut watch::Receiver<Cue>,
    ) -> Stay {
        match self.carry_on(routine, until, cues).await {
            Ok(stay) => stay,
            Err(error) => Stay::Broken(format!("{error:#}")),
        }
    }

    async fn carry_on(
        &mut self,
        mut routine: Routine,
        until: Option<Instant>,
        cues: &mut watch::Receiver<Cue>,
    ) -> anyhow::Result<Stay> {
        let mut until = until.unwrap_or_else(|| Instant::now() + FAR);
        let drops = cues.borrow_and_update().drops;
        let mut wakes_at = routine.next_at().unwrap_or(until).min(until);
        let mut alarm = std::pin::pin!(sleep_until(wakes_at));
        loop {
            let may_read = self.pause.is_none() || self.reads_at <= Instant::now();
            tokio::select! {
                frame = self.socket.receive(), if may_read => {
                    let frame = frame?.context("the server hung up")?;
                    if frame.opcode == Opcode::Close {
                        return Ok(Stay::Closed(frame.close_code()));
                    }
                    self.take(frame).await?;
                    let Some(pause) = self.pause else { continue };
                    self.reads_at = Instant::now() + pause;
                }
                () = alarm.as_mut() => {
                    let now = Instant::now();
                    if now >= until {
                        return Ok(Stay::Over);
                    }
                    while let Some((act, due)) = routine.take(now) {
                        self.act(act, due).await?;
                    }
                }
                changed = cues.changed() => {
                    let cue = *cues.borrow_and_update();
                    // Whoever gave cues is gone: so is the run.
                    if changed.is_err() {
                        return Ok(Stay::Over);
                    }
                    if cue.drops > drops {
                        return Ok(Stay::Dropped);
                    }
                    if cue.is_hushed {
                        routine.hush();
                        until = Instant::now() + FAR;
                    }
                }
            }
            wakes_at = routine.next_at().unwrap_or(until).min(until);
            if self.pause.is_some() {
                wakes_at = wakes_at.min(self.reads_at.max(Instant::now()));
            }
            alarm.as_mut().reset(wakes_at);
        }
    }

    /// Says `leave`, and waits for the close.
    pub(super) async fn leave(mut self) {
        self.stage.sightings.leaves(self.own);
        self.record.left();
        match timeout(PARTING, self.part()).await {
            Ok(Ok(1000)) if self.beats.is_empty() || self.pause.is_some() => {}
            Ok(Ok(1000)) => {
                let text = format!("{} heartbeats before a leave", self.beats.len());
                self.stage.fault(Fault::Unanswered, text);
            }
            // A server that goes away has its own close code.
            _ if self.stage.cue().is_outage => {}
            other => self
                .stage
                .fault(Fault::Lost, format!("leaving ended with {other:?}")),
        }
    }

    async fn part(&mut self) -> anyhow::Result<u16> {
        self.say(r#"{"type":"leave"}"#).await?;
        loop {
            let frame = self.socket.receive().await?;
            let frame = frame.context("closed without a word")?;
            if frame.opcode == Opcode::Close {
                return Ok(frame.close_code());
            }
            self.take(frame).await?;
        }
    }

    async fn act(&mut self, act: Act, due: Instant) -> io::Result<()> {
        match act {
            Act::Heartbeat => {
                self.beats.push_back(due);
                self.record.asks(self.beats.front().copied());
                self.say(r#"{"type":"heartbeat"}"#).await
            }
            Act::Update(bytes) => {
                self.said += 1;
                let (page, fill) = (self.said, fill(bytes));
                let state = format!(r#"{{"page":{page},"fill":"{fill}"}}"#);
                self.say(&format!(r#"{{"type":"update","state":{state}}}"#))
                    .await
            }
            Act::Broadcast(bytes) => {
                let late = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
                let (at, fill) = (clock::micros().saturating_sub(late), fill(bytes));
                let payload = format!(r#"{{"at":{at},"fill":"{fill}"}}"#);
                let text =
                    format!(r#"{{"type":"broadcast","event":"cursor","payload":{payload}}}"#);
                self.say(&text).await
            }
        }
    }

    async fn say(&mut self, text: &str) -> io::Result<()> {
        self.socket.say(text).await?;
        self.stage.books.sent();
        self.record.spoke();
        Ok(())
    }
}

fn fill(bytes: usize) -> String {
    "x".repeat(bytes.saturating_sub(16))
}

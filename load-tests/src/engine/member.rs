//! Somebody who is in: says what is due, replays what it is told, and holds that against what is so.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use anyhow::Context;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{
    books::Step,
    record::Record,
    routine::{Act, Routine},
    stage::{Cue, Stage},
};
use crate::{
    client::View,
    clock,
    fault::Fault,
    message::{Message, Person},
    moment::Moment,
    replay::Replay,
    roster::Id,
    wire::{Frame, Opcode, Socket},
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

/// What a broadcast's payload says.
#[derive(Deserialize)]
struct Spoken {
    at: u64,
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

    async fn take(&mut self, frame: Frame) -> anyhow::Result<()> {
        match frame.opcode {
            Opcode::Text => self.hear(&frame),
            Opcode::Ping => {
                self.socket.pong(&frame.payload).await?;
                self.record.spoke();
            }
            Opcode::Close => anyhow::bail!("closed with {}", frame.close_code()),
            Opcode::Other(opcode) => {
                self.stage
                    .fault(Fault::Malformed, format!("opcode {opcode}"));
            }
        }
        Ok(())
    }

    fn hear(&mut self, frame: &Frame) {
        let message = match Message::read(&frame.payload) {
            Ok(message) => message,
            Err(error) => return self.stage.fault(Fault::Malformed, error.to_string()),
        };
        self.stage.books.tally.received(message.kind, frame);
        match message.kind {
            "presence" => {
                self.replay(&message);
                self.see_moves(&message);
            }
            "sync" => self.replay(&message),
            "heartbeat_ack" => self.hear_ack(&message),
            "reconnect" => self.hint = message.after_ms.map(Duration::from_millis),
            "broadcast" => self.time_broadcast(&message),
            "error" if message.code.as_deref() == Some("rate_limited") => {
                self.stage.books.count("rate_limited");
            }
            "error" => self
                .stage
                .fault(Fault::Refused, format!("{:?}", message.code)),
            _ => {}
        }
    }

    fn replay(&self, message: &Message<'_>) {
        let tally = &self.stage.books.tally;
        tally.with_faults(|faults| self.view.lock().apply(message, faults));
    }

    fn see_moves(&self, message: &Message<'_>) {
        let listed = |people: &Option<Vec<Person<'_>>>| people.as_ref().map_or(0, Vec::len);
        if listed(&message.left) > 0 {
            let left = message.left.as_deref().unwrap_or_default();
            for person in left {
                self.stage.saw_leave(person, self.pause.is_none());
            }
        }
        if listed(&message.joined) == 0 || self.pause.is_some() {
            return;
        }
        for person in message.joined.as_deref().unwrap_or_default() {
            if let Some(who) = Id::read(person.id).filter(|who| *who != self.own) {
                self.stage.sightings.saw_join(who, &self.stage.books);
            }
        }
    }

    fn hear_ack(&mut self, message: &Message<'_>) {
        let oldest = self.beats.pop_front();
        match message.server_time.and_then(Moment::read).zip(oldest) {
            Some((at, due)) => self.record.acked(at, due),
            None => self
                .stage
                .fault(Fault::Malformed, "an answer without its time"),
        }
        self.record.asks(self.beats.front().copied());
        match oldest {
            Some(due) if self.pause.is_none() => {
                self.stage.books.took(Step::Heartbeat, due.elapsed());
            }
            Some(_) => {}
            None => self
                .stage
                .fault(Fault::Malformed, "an answer to no heartbeat"),
        }
    }

    fn time_broadcast(&self, message: &Message<'_>) {
        let spoken = message
            .payload
            .and_then(|raw| serde_json::from_str::<Spoken>(raw.get()).ok());
        match spoken {
            Some(Spoken { at }) if self.pause.is_none() => {
                let took = Duration::from_micros(clock::micros().saturating_sub(at));
                self.stage.books.took(Step::Broadcast, took);
            }
            Some(_) => {}
            None => self
                .stage
                .fault(Fault::Malformed, format!("not ours: {message:?}")),
        }
    }
}

fn fill(bytes: usize) -> String {
    "x".repeat(bytes.saturating_sub(16))
}

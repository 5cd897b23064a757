//! One client: enters, carries out its script, and replays what it is told.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, LazyLock},
    time::Duration,
};

use anyhow::Context;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    fault::Fault,
    message::Message,
    replay::Replay,
    script::{Act, Course, Script},
    tally::Tally,
    wire::{Entry, Frame, Opcode, Refusal, Route, Socket},
};

/// What all cursors of this process are timed by.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
/// How long a close is waited for after `leave`.
const PARTING: Duration = Duration::from_secs(20);

/// What a group of clients is told to do, all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Carry on.
    Stay,
    /// Say `leave`, and wait for the close.
    Leave,
}

/// A client that has been welcomed.
#[derive(Debug)]
pub struct Client {
    socket: Socket,
    view: View,
    tally: Arc<Tally>,
    greeting: Greeting,
    beats: VecDeque<Instant>,
    updates: u64,
}

/// What a client believes; others may look at it.
pub type View = Arc<Mutex<Replay>>;

/// What a welcome says of the client itself.
#[derive(Debug, Clone)]
pub struct Greeting {
    /// The participant.
    pub participant: String,
    /// What brings it back.
    pub resume_token: String,
    /// Whether its seat was held.
    pub resumed: bool,
}

/// What came of an attempt to enter.
#[derive(Debug)]
pub enum Arrival {
    /// Welcomed.
    In(Client),
    /// Refused.
    Refused(Refusal),
}

/// What a cursor's payload says.
#[derive(Deserialize)]
struct Cursor {
    at: u64,
}

impl Client {
    /// Enters once, and waits for the welcome.
    ///
    /// # Errors
    /// The connection broke, or what came is not a welcome.
    pub async fn enter(route: &Route, query: &str, tally: &Arc<Tally>) -> anyhow::Result<Arrival> {
        let mut socket = match Socket::enter(route, query).await? {
            Entry::Open(socket) => socket,
            Entry::Refused(refusal) => return Ok(Arrival::Refused(refusal)),
        };
        let frame = socket
            .receive()
            .await?
            .context("closed before the welcome")?;
        let welcome = Message::read(&frame.payload).context("what should be a welcome")?;
        anyhow::ensure!(
            welcome.kind == "welcome",
            "a welcome comes first, not {}",
            welcome.kind
        );
        tally.received(welcome.kind, &frame);
        let own = welcome.own.as_ref().context("a welcome without oneself")?;
        let greeting = Greeting {
            participant: own.participant_id.to_owned(),
            resume_token: own.resume_token.to_owned(),
            resumed: welcome.resumed == Some(true),
        };
        let replay = tally.with_faults(|faults| Replay::new(&welcome, faults));
        Ok(Arrival::In(Self {
            socket,
            view: Arc::new(Mutex::new(replay.context("a welcome without an id")?)),
            tally: Arc::clone(tally),
            greeting,
            beats: VecDeque::new(),
            updates: 0,
        }))
    }

    /// What it was greeted with.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// What it believes.
    pub fn view(&self) -> View {
        Arc::clone(&self.view)
    }

    /// Carries out a script until told to leave; an end that nobody asked for is a fault.
    pub async fn run(mut self, script: Script, share: f64, mut orders: watch::Receiver<Order>) {
        let course = script.begin(Instant::now(), share);
        match self.carry_on(course, &mut orders).await {
            Ok(()) => {
                let parted = timeout_at(Instant::now() + PARTING, self.part()).await;
                if !matches!(parted, Ok(Ok(1000))) {
                    self.tally
                        .fault(Fault::Lost, format!("leaving ended with {parted:?}"));
                }
            }
            Err(error) => self.tally.fault(Fault::Lost, format!("{error:#}")),
        }
    }

    /// Until the order to leave.
    async fn carry_on(
        &mut self,
        mut course: Course,
        orders: &mut watch::Receiver<Order>,
    ) -> anyhow::Result<()> {
        let far = Instant::now() + Duration::from_secs(24 * 3600);
        let mut alarm = std::pin::pin!(sleep_until(course.next_at().unwrap_or(far)));
        loop {
            tokio::select! {
                frame = self.socket.receive() => self.take(frame?.context("the server hung up")?).await?,
                () = alarm.as_mut() => {
                    while let Some(act) = course.take(Instant::now()) {
                        self.act(act).await?;
                    }
                    alarm.as_mut().reset(course.next_at().unwrap_or(far));
                }
                changed = orders.changed() => {
                    // Whoever gave orders is gone: so is the run.
                    if changed.is_err() || *orders.borrow() == Order::Leave {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Says `leave` and answers the code of the close.
    async fn part(&mut self) -> anyhow::Result<u16> {
        self.socket.say(r#"{"type":"leave"}"#).await?;
        loop {
            let frame = self
                .socket
                .receive()
                .await?
                .context("closed without a word")?;
            if frame.opcode == Opcode::Close {
                return Ok(frame.close_code());
            }
            self.take(frame).await?;
        }
    }

    /// Leaves at once.
    ///
    /// # Errors
    /// The server did not close with 1000.
    pub async fn leave(mut self) -> anyhow::Result<()> {
        let code = self.part().await?;
        anyhow::ensure!(code == 1000, "leaving was answered by {code}");
        Ok(())
    }

    /// Reads on, after a time of not reading, up to the answer to a heartbeat sent now; answers the code if a close came before it,
    /// 1006 if the connection broke.
    ///
    /// # Errors
    /// What came was not a message.
    pub async fn catch_up(&mut self) -> anyhow::Result<Option<u16>> {
        // A socket that the server gave up takes it too, and breaks when read.
        let _ = self.act(Act::Heartbeat).await;
        loop {
            let Ok(Some(frame)) = self.socket.receive().await else {
                return Ok(Some(1006));
            };
            if frame.opcode == Opcode::Close {
                return Ok(Some(frame.close_code()));
            }
            self.take(frame).await?;
            if self.beats.is_empty() {
                return Ok(None);
            }
        }
    }

    async fn act(&mut self, act: Act) -> io::Result<()> {
        match act {
            Act::Heartbeat => {
                self.beats.push_back(Instant::now());
                self.socket.say(r#"{"type":"heartbeat"}"#).await
            }
            Act::Cursor => {
                let at = ORIGIN.elapsed().as_micros();
                let text = format!(
                    r#"{{"type":"broadcast","event":"cursor","payload":{{"at":{at},"x":0.4823,"y":0.1377}}}}"#
                );
                self.socket.say(&text).await
            }
            Act::Update => {
                self.updates += 1;
                let text = format!(r#"{{"type":"update","state":{{"page":{}}}}}"#, self.updates);
                self.socket.say(&text).await
            }
        }
    }

    async fn take(&mut self, frame: Frame) -> anyhow::Result<()> {
        match frame.opcode {
            Opcode::Text => self.hear(&frame),
            Opcode::Ping => self.socket.pong(&frame.payload).await?,
            Opcode::Close => anyhow::bail!("closed with {}", frame.close_code()),
            Opcode::Other(opcode) => self
                .tally
                .fault(Fault::Malformed, format!("opcode {opcode}")),
        }
        Ok(())
    }

    fn hear(&mut self, frame: &Frame) {
        let message = match Message::read(&frame.payload) {
            Ok(message) => message,
            Err(error) => return self.tally.fault(Fault::Malformed, error.to_string()),
        };
        self.tally.received(message.kind, frame);
        match message.kind {
            "presence" | "sync" => {
                let (joins, leaves) = (count(&message.joined), count(&message.left));
                if count(&message.updated) == 0 {
                    self.tally.saw_single(joins, leaves, frame.wire_bytes);
                }
                self.tally
                    .with_faults(|faults| self.view.lock().apply(&message, faults));
            }
            "heartbeat_ack" => match self.beats.pop_front() {
                Some(sent) => self.tally.acks.record(sent.elapsed()),
                None => self
                    .tally
                    .fault(Fault::Malformed, "an answer to no heartbeat"),
            },
            "broadcast" => self.time_cursor(&message),
            "error" => self
                .tally
                .fault(Fault::Refused, format!("{:?}", message.code)),
            _ => {}
        }
    }

    fn time_cursor(&self, message: &Message<'_>) {
        let cursor = message
            .payload
            .and_then(|raw| serde_json::from_str::<Cursor>(raw.get()).ok());
        match cursor {
            Some(Cursor { at }) => {
                let took = ORIGIN.elapsed().saturating_sub(Duration::from_micros(at));
                self.tally.broadcasts.record(took);
            }
            None => self
                .tally
                .fault(Fault::Malformed, format!("not a cursor: {message:?}")),
        }
    }
}

fn count<T>(list: &Option<Vec<T>>) -> usize {
    list.as_ref().map_or(0, Vec::len)
}

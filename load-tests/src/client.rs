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
    departure::Departures,
    fault::Fault,
    message::Message,
    moment::Moment,
    replay::Replay,
    script::{Act, Course, Script},
    tally::Tally,
    wire::{Entry, Frame, Opcode, Refusal, Route, Socket},
};

/// What all cursors of this process are timed by.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
/// Longer than any run.
const FAR: Duration = Duration::from_secs(24 * 3600);
/// How long a close is waited for after `leave`.
const PARTING: Duration = Duration::from_secs(20);

/// What a group of clients is told to do, all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Carry on.
    Stay,
    /// Listen only, and send nothing unasked.
    Hush,
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
    departures: Option<Departures>,
    acked_at: Option<Moment>,
    come_back_after: Option<Duration>,
}

/// How a stay ended.
#[derive(Debug)]
pub enum Stay {
    /// It was told to leave, or the time was over; it is still in.
    Over,
    /// The server closed with this code.
    Closed(u16),
    /// The connection broke, or what came makes no sense; what was wrong.
    Broken(String),
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
    /// Let in, and closed with this code before the welcome.
    Closed(u16),
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
        if frame.opcode == Opcode::Close {
            return Ok(Arrival::Closed(frame.close_code()));
        }
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
            departures: None,
            acked_at: None,
            come_back_after: None,
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

    /// From here on, writes down whom it sees leave.
    pub fn note_departures(&mut self, departures: &Departures) {
        self.departures = Some(departures.clone());
    }

    /// The server's clock in its last answer to a heartbeat.
    pub fn acked_at(&self) -> Option<Moment> {
        self.acked_at
    }

    /// When to come back, if the server said.
    pub fn come_back_after(&self) -> Option<Duration> {
        self.come_back_after
    }

    /// Carries out a script until told to leave; an end that nobody asked for is a fault.
    pub async fn run(mut self, script: Script, share: f64, mut orders: watch::Receiver<Order>) {
        let course = script.begin(Instant::now(), share);
        match self.stay(course, None, &mut orders).await {
            Stay::Over => {
                let parted = timeout_at(Instant::now() + PARTING, self.part()).await;
                if !matches!(parted, Ok(Ok(1000))) {
                    self.tally
                        .fault(Fault::Lost, format!("leaving ended with {parted:?}"));
                }
            }
            Stay::Closed(code) => self.tally.fault(Fault::Lost, format!("closed with {code}")),
            Stay::Broken(error) => self.tally.fault(Fault::Lost, error),
        }
    }

    /// Carries out a course until told to leave, or until a time.
    pub async fn stay(
        &mut self,
        course: Course,
        until: Option<Instant>,
        orders: &mut watch::Receiver<Order>,
    ) -> Stay {
        match self.carry_on(course, until, orders).await {
            Ok(stay) => stay,
            Err(error) => Stay::Broken(format!("{error:#}")),
        }
    }

    async fn carry_on(
        &mut self,
        mut course: Course,
        until: Option<Instant>,
        orders: &mut watch::Receiver<Order>,
    ) -> anyhow::Result<Stay> {
        let until = until.unwrap_or_else(|| Instant::now() + FAR);
        let next = |course: &Course| course.next_at().unwrap_or(until).min(until);
        let mut alarm = std::pin::pin!(sleep_until(next(&course)));
        loop {
            tokio::select! {
                frame = self.socket.receive() => {
                    let frame = frame?.context("the server hung up")?;
                    if frame.opcode == Opcode::Close {
                        return Ok(Stay::Closed(frame.close_code()));
                    }
                    self.take(frame).await?;
                }
                () = alarm.as_mut() => {
                    if Instant::now() >= until {
                        return Ok(Stay::Over);
                    }
                    while let Some(act) = course.take(Instant::now()) {
                        self.act(act).await?;
                    }
                    alarm.as_mut().reset(next(&course));
                }
                changed = orders.changed() => {
                    match (changed, *orders.borrow()) {
                        // Whoever gave orders is gone: so is the run.
                        (Err(_), _) | (_, Order::Leave) => return Ok(Stay::Over),
                        (_, Order::Hush) => {
                            course = Course::default();
                            alarm.as_mut().reset(until);
                        }
                        (_, Order::Stay) => {}
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

    /// Reads on until it is told that somebody joined.
    ///
    /// # Errors
    /// The connection ended, or what came was not a message.
    pub async fn see_join(&mut self, participant: &str) -> anyhow::Result<()> {
        loop {
            let frame = self.socket.receive().await?.context("hung up")?;
            let has_joined = Message::read(&frame.payload).is_ok_and(|message| {
                let mut joined = message.joined.iter().flatten();
                joined.any(|person| person.id == participant)
            });
            self.take(frame).await?;
            if has_joined {
                return Ok(());
            }
        }
    }

    /// Reads what there is without a word, as somebody who is not there, until the connection has ended.
    pub async fn see_end(&mut self) {
        while let Ok(Some(frame)) = self.socket.receive().await {
            if frame.opcode == Opcode::Close {
                return;
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
                if let Some(departures) = &self.departures {
                    let left = message.left.as_deref().unwrap_or_default();
                    left.iter().for_each(|person| departures.note(person));
                }
            }
            "heartbeat_ack" => {
                self.acked_at = message.server_time.and_then(Moment::read);
                match self.beats.pop_front() {
                    Some(sent) => self.tally.acks.record(sent.elapsed()),
                    None => self
                        .tally
                        .fault(Fault::Malformed, "an answer to no heartbeat"),
                }
            }
            "reconnect" => self.come_back_after = message.after_ms.map(Duration::from_millis),
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

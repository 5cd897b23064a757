//! A simulated client: asks to enter, reads and replays, says its heartbeats, and does what the world tells it.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    time::Duration,
};

use futures::{SinkExt, StreamExt};
use parking_lot::Mutex;
use rollcall::{
    admission::Query,
    node::{Node, State},
};
use rollcall_protocol::ProblemCode;
use serde_json::{Value, json};
use tokio::{
    io::DuplexStream,
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, Role},
    },
};

use crate::{link::ServerEnd, log::Log, replay::Replay};

/// How a client's connection stands, as the client knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for the verdict, the upgrade or the welcome.
    Joining,
    /// Refused before the upgrade.
    Refused(&'static str),
    /// Welcomed.
    Open,
    /// Over; with the close code, if one came.
    Ended(Option<u16>),
}

/// What the world may tell a client to do.
#[derive(Debug)]
pub enum Command {
    Say(Value),
    Close(u16),
    /// Go on with heartbeats, read nothing.
    StopReading,
    /// Do nothing at all any more.
    Hang,
}

/// Somebody's leaving, as a client was told.
#[derive(Debug, Clone)]
pub struct Left {
    pub id: String,
    pub reason: String,
    pub last_seen_at: String,
    pub at: Instant,
}

/// A heartbeat: when it was said, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Beat {
    pub at: Instant,
    pub store: i64,
}

/// What a client has seen.
#[derive(Debug)]
pub struct View {
    pub phase: Phase,
    pub admitted_at: Option<Instant>,
    pub seated_at: Option<Instant>,
    pub welcomed_at: Option<Instant>,
    pub ended_at: Option<Instant>,
    pub id: String,
    pub token: String,
    pub resumed: bool,
    pub replay: Option<Replay>,
    pub acked: Option<Beat>,
    pub waiting: VecDeque<Beat>,
    pub slowest: Duration,
    pub left: Vec<Left>,
}

impl Default for View {
    fn default() -> Self {
        Self {
            phase: Phase::Joining,
            admitted_at: None,
            seated_at: None,
            welcomed_at: None,
            ended_at: None,
            id: String::new(),
            token: String::new(),
            resumed: false,
            replay: None,
            acked: None,
            waiting: VecDeque::new(),
            slowest: Duration::ZERO,
            left: Vec::new(),
        }
    }
}

/// A client about to enter.
pub struct Client {
    pub number: usize,
    pub query: Query,
    pub node: Weak<Node>,
    /// From the verdict to the upgraded socket.
    pub upgrade: Duration,
    pub server: ServerEnd,
    pub socket: DuplexStream,
    pub commands: mpsc::Receiver<Command>,
    pub view: Arc<Mutex<View>>,
    pub log: Log,
}

/// As the default configuration has it.
const HEARTBEAT: Duration = Duration::from_secs(30);

impl Client {
    /// The whole life of the connection.
    pub async fn live(mut self) {
        let phase = match self.enter().await {
            Ok(socket) => Phase::Ended(self.talk(socket).await),
            Err(code) => Phase::Refused(code),
        };
        self.log.note(format_args!("#{} {phase:?}", self.number));
        let mut view = self.view.lock();
        view.phase = phase;
        view.ended_at = Some(Instant::now());
    }

    async fn enter(&mut self) -> Result<WebSocketStream<DuplexStream>, &'static str> {
        let admission = {
            let node = self.node.upgrade().ok_or("gone")?;
            if node.readiness.get() != State::Ready {
                return Err(ProblemCode::Draining.as_str());
            }
            node.admission.clone()
        };
        let code = |problem: rollcall_protocol::Problem| problem.code.as_str();
        let ask = admission.ask(self.query.clone()).await.map_err(code)?;
        let admitted = admission.decide(ask).await.map_err(code)?;
        drop(admission);
        self.view.lock().admitted_at = Some(Instant::now());
        if !self.upgrade.is_zero() {
            sleep(self.upgrade).await;
        }
        // Dropping `admitted` is the departure of somebody whose upgrade failed.
        let node = self.node.upgrade().ok_or("gone")?;
        let (server, socket) = (self.take_server(), self.take_socket());
        node.seat(server, admitted).await;
        {
            // Sitting down is a sign of life, whenever the welcome comes.
            let mut view = self.view.lock();
            let beat = Beat {
                at: Instant::now(),
                store: self.log.now(),
            };
            (view.seated_at, view.acked) = (Some(beat.at), Some(beat));
        }
        Ok(WebSocketStream::from_raw_socket(socket, Role::Client, None).await)
    }

    fn take_server(&mut self) -> ServerEnd {
        std::mem::replace(&mut self.server, ServerEnd::gone())
    }

    fn take_socket(&mut self) -> DuplexStream {
        std::mem::replace(&mut self.socket, tokio::io::duplex(1).0)
    }

    async fn talk(&mut self, mut socket: WebSocketStream<DuplexStream>) -> Option<u16> {
        let mut beat_at: Option<Instant> = None;
        let mut is_reading = true;
        loop {
            let next_beat = beat_at.unwrap_or_else(|| Instant::now() + HEARTBEAT);
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Say(message)) => say(&mut socket, Message::text(message.to_string())).await,
                    Some(Command::Close(code)) => {
                        let frame = CloseFrame { code: code.into(), reason: "".into() };
                        say(&mut socket, Message::Close(Some(frame))).await;
                    }
                    Some(Command::StopReading) => is_reading = false,
                    Some(Command::Hang) | None => std::future::pending().await,
                },
                frame = socket.next(), if is_reading => match frame {
                    Some(Ok(Message::Text(text))) => {
                        if let Err(what) = self.take(&text) {
                            self.log.fail(format_args!("#{}: {what}", self.number));
                        }
                        if beat_at.is_none() && self.view.lock().phase == Phase::Open {
                            beat_at = Some(Instant::now() + HEARTBEAT);
                        }
                    }
                    Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code.into()),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return None,
                },
                () = sleep_until(next_beat), if beat_at.is_some() => {
                    beat_at = Some(Instant::now() + HEARTBEAT);
                    let beat = Beat { at: Instant::now(), store: self.log.now() };
                    self.view.lock().waiting.push_back(beat);
                    say(&mut socket, Message::text(r#"{"type":"heartbeat"}"#)).await;
                }
            }
        }
    }

    /// Takes in one frame; the replayer panics where a rule is broken.
    fn take(&self, text: &str) -> Result<(), String> {
        let frame: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut view = self.view.lock();
        let now = Instant::now();
        if let Some(shown) = frame["server_time"].as_str() {
            let shown = millis(shown);
            if shown > self.log.newest() {
                return Err(format!(
                    "R6: server_time {shown} is later than the store's now"
                ));
            }
        }
        match frame["type"].as_str().unwrap_or_default() {
            "welcome" => {
                view.phase = Phase::Open;
                view.welcomed_at = Some(now);
                view.id = frame["self"]["participant_id"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                view.token = frame["self"]["resume_token"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                view.resumed = frame["resumed"] == true;

                let replay = judged(|| Replay::new(&frame))?;
                view.replay = Some(replay);
                self.log.note(format_args!(
                    "#{} welcome {} resumed {} seq {} occupancy {}",
                    self.number, view.id, view.resumed, frame["seq"], frame["occupancy"]
                ));
                return Ok(());
            }
            "heartbeat_ack" => {
                let beat = view.waiting.pop_front().ok_or("an ack of nothing")?;
                view.slowest = view.slowest.max(now - beat.at);
                view.acked = Some(beat);
            }
            "presence" | "sync" => self.log.note(format_args!(
                "#{} {} {} of {}",
                self.number, frame["type"], frame["seq"], frame["occupancy"]
            )),
            _ => {}
        }
        for left in frame["left"].as_array().into_iter().flatten() {
            let field = |name: &str| left[name].as_str().unwrap_or_default().to_owned();
            let left = Left {
                id: field("id"),
                reason: field("reason"),
                last_seen_at: field("last_seen_at"),
                at: now,
            };
            if millis(&left.last_seen_at) > self.log.newest() {
                return Err(format!("R6: {left:?} was seen later than the store's now"));
            }
            view.left.push(left);
        }
        let replay = view.replay.as_mut().ok_or("a frame before the welcome")?;
        judged(|| replay.apply(&frame))
    }
}

/// Unix milliseconds of a time on the wire.
pub fn millis(text: &str) -> i64 {
    let time: Result<rollcall_protocol::Timestamp, _> = serde_json::from_value(json!(text));
    time.map_or(i64::MAX, rollcall_protocol::Timestamp::as_millis)
}

fn judged<T>(judge: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(judge)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()
    })
}

/// A link that takes nothing gives up after a while, as a kernel does.
async fn say(socket: &mut WebSocketStream<DuplexStream>, message: Message) {
    let _ = timeout(Duration::from_secs(20), socket.send(message)).await;
}

//! Somebody who follows a script of a fuzzer's making, and reads what the server says by the letter.

use std::{iter::Cycle, slice, time::Duration};

use rollcall_protocol::CloseCode;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    join,
    sync::watch,
    task::yield_now,
    time::{sleep, timeout},
};

use super::{
    HELD,
    frame::{Said, take},
    replay::Replay,
    script::{End, Names, Script, Step},
};
use crate::stage::Stage;

/// Who stays silent is closed within the heartbeat timeout, and then has little time for its close and for what was on its way.
const ENDED_WITHIN: Duration = Duration::from_secs(100);
/// The most that one says: a byte at a time it takes long enough.
const BREATH: usize = 64 * 1024;
/// By when the last of what the server said before it let go is read.
const AT_ONCE: Duration = Duration::from_millis(1);
/// What the server may say after its welcome.
const TYPES: [&str; 7] = [
    "presence",
    "sync",
    "heartbeat_ack",
    "broadcast",
    "room",
    "token_expiring",
    "error",
];

/// Whether a stranger reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    On,
    Paused,
    /// It is gone.
    Over,
}

/// Joins, follows the script, and waits for the end of its connection. Never may the process hold more than `most` bytes.
pub(super) async fn act(stage: &Stage, script: Script, member: &str, most: usize) {
    let (door, others) = (stage.door("stranger"), stage.door("member"));
    let admitted = stage.admit(&door).await.expect("the door is open");
    let (server, client) = duplex(usize::from(script.buffer).max(1));
    stage.node.seat(server, admitted).await;
    let (read, write) = split(client);
    let mut ear = Ear::new(read, most);
    let itself = timeout(ENDED_WITHIN, ear.welcome()).await;
    let itself = itself.expect("a welcome comes at once");
    let names = Names {
        member,
        itself: &itself,
        own_token: door.trim_start_matches("token="),
        stolen_token: others.trim_start_matches("token="),
    };
    let (reading, is_reading) = watch::channel(Reading::On);
    let mouth = Mouth {
        write,
        reading,
        pieces: script.pieces.iter().cycle(),
        breath: BREATH,
    };
    join!(mouth.speak(&script, &names), ear.listen(is_reading));
}

struct Mouth<'a> {
    write: WriteHalf<DuplexStream>,
    reading: watch::Sender<Reading>,
    pieces: Cycle<slice::Iter<'a, u8>>,
    /// How many bytes it may yet say.
    breath: usize,
}

impl Mouth<'_> {
    /// Follows the script for as long as the server listens, and then sees to it that the server lets go.
    async fn speak(mut self, script: &Script, names: &Names<'_>) {
        for step in &script.steps {
            if !self.take(step, names).await {
                break;
            }
        }
        match script.end {
            End::Silence => {}
            End::HalfClose => {
                // The server may have gone first.
                let _ = self.write.shutdown().await;
            }
            End::HangUp => {
                self.reading.send_replace(Reading::Over);
                return;
            }
        }
        let mut within = ENDED_WITHIN;
        if *self.reading.borrow() == Reading::Paused {
            sleep(ENDED_WITHIN).await;
            self.reading.send_replace(Reading::On);
            within = AT_ONCE;
        }
        let ended = timeout(within, self.reading.closed()).await;
        ended.expect("the server lets go of who says nothing");
    }

    /// Whether the server still listens, and there is more to say.
    async fn take(&mut self, step: &Step, names: &Names<'_>) -> bool {
        match step {
            Step::Frame(frame) => self.say(&frame.to_bytes(names)).await,
            Step::Flood(frame, times) => {
                let bytes = frame.to_bytes(names);
                let mut is_heard = true;
                for _ in 0..*times {
                    is_heard = is_heard && self.say(&bytes).await;
                }
                is_heard
            }
            Step::Bytes(bytes) => self.say(bytes).await,
            Step::Wait(millis) => {
                sleep(Duration::from_millis((*millis).into())).await;
                true
            }
            Step::Read(is_on) => {
                let reading = if *is_on { Reading::On } else { Reading::Paused };
                self.reading.send_replace(reading);
                true
            }
        }
    }

    async fn say(&mut self, bytes: &[u8]) -> bool {
        let Some(left) = self.breath.checked_sub(bytes.len()) else {
            return false;
        };
        self.breath = left;
        let mut rest = bytes;
        while !rest.is_empty() {
            let piece = self
                .pieces
                .next()
                .map_or(rest.len(), |piece| (*piece).into());
            let (piece, after) = rest.split_at(piece.clamp(1, rest.len()));
            let taken = timeout(ENDED_WITHIN, self.write.write_all(piece)).await;
            if taken.expect("the server reads, or lets go").is_err() {
                return false;
            }
            // So that it comes in pieces to the server too.
            yield_now().await;
            rest = after;
        }
        true
    }
}

struct Ear {
    read: ReadHalf<DuplexStream>,
    bytes: Vec<u8>,
    replay: Option<Replay>,
    is_closed: bool,
    most: usize,
}

impl Ear {
    fn new(read: ReadHalf<DuplexStream>, most: usize) -> Self {
        Self {
            read,
            bytes: Vec::new(),
            replay: None,
            is_closed: false,
            most,
        }
    }

    /// Reads the welcome; answers whom it is for.
    async fn welcome(&mut self) -> String {
        loop {
            assert!(self.hear().await, "a welcome comes before the end");
            if let Some(said) = take(&mut self.bytes) {
                let Said::Text(text) = said else {
                    panic!("{said:?} before the welcome");
                };
                let welcome: Value = serde_json::from_str(&text).expect("JSON");
                assert_eq!(welcome["type"], "welcome");
                self.replay = Some(Replay::new(&welcome));
                let id = welcome["self"]["participant_id"].as_str();
                return id.expect("an id").to_owned();
            }
        }
    }

    /// Reads, when it may, up to the end of the connection.
    async fn listen(mut self, mut reading: watch::Receiver<Reading>) {
        loop {
            while let Some(said) = take(&mut self.bytes) {
                self.check(said);
            }
            let now = *reading.borrow_and_update();
            tokio::select! {
                // Nobody sends once it is over.
                _ = reading.changed(), if now != Reading::Over => {}
                is_open = self.hear(), if now == Reading::On => {
                    if !is_open {
                        return;
                    }
                }
                else => return,
            }
        }
    }

    /// Reads a little; whether there is more to come.
    async fn hear(&mut self) -> bool {
        let read = self.read.read_buf(&mut self.bytes).await;
        let held = HELD.allocated();
        assert!(held <= self.most, "{held} bytes are held");
        read.is_ok_and(|read| read > 0)
    }

    fn check(&mut self, said: Said) {
        assert!(!self.is_closed, "{said:?} after the close");
        match said {
            Said::Text(text) => {
                let message: Value = serde_json::from_str(&text).expect("JSON");
                let kind = message["type"].as_str().unwrap_or_default();
                assert!(TYPES.contains(&kind), "{message}");
                if let Some(replay) = &mut self.replay {
                    replay.apply(&message);
                }
            }
            Said::Close(code) => {
                let is_ours = |code| CloseCode::ALL.iter().any(|it| it.code() == code);
                // Who closes first has its own code, or none, back (RFC 6455 sections 5.5.1 and 7.4).
                let is_echo = |code| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
                assert!(
                    code.is_none_or(|code| is_ours(code) || is_echo(code)),
                    "{code:?} is neither in the protocol's list nor a client's to send"
                );
                self.is_closed = true;
            }
            Said::Ping | Said::Pong => {}
        }
    }
}

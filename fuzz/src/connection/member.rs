//! Somebody well-behaved, who replays what it is told and must not notice the strangers beside it.

use std::{pin::pin, time::Duration};

use futures::{FutureExt, SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::DuplexStream,
    time::{Instant, sleep, sleep_until},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

use super::replay::{Replay, without_sample};
use crate::stage::Stage;

const BUFFER: usize = 64 * 1024;
const HEARTBEAT_EVERY: Duration = Duration::from_secs(20);
/// Time passes only while nobody has anything to do, so this is long.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
/// A small room's changes are out by then.
const SETTLED: Duration = Duration::from_secs(1);
/// Who left without a word is gone by then.
const GRACE: Duration = Duration::from_secs(11);

pub(super) struct Member {
    pub(super) id: String,
    socket: WebSocketStream<DuplexStream>,
    replay: Replay,
    beat_at: Instant,
    /// When the heartbeat on its way is to be answered.
    answer_by: Option<Instant>,
}

impl Member {
    pub(super) async fn join(stage: &Stage) -> Self {
        let admitted = stage.admit(&stage.door("member")).await;
        let (server, client) = tokio::io::duplex(BUFFER);
        let admitted = admitted.expect("the door is open");
        stage.node.seat(server, admitted).await;
        let mut socket = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let Some(Ok(Message::Text(welcome))) = socket.next().await else {
            panic!("a welcome comes first");
        };
        let welcome: Value = serde_json::from_str(&welcome).expect("JSON");
        let id = welcome["self"]["participant_id"].as_str();
        Self {
            id: id.expect("an id").to_owned(),
            socket,
            replay: Replay::new(&welcome),
            beat_at: Instant::now() + HEARTBEAT_EVERY,
            answer_by: None,
        }
    }

    /// Stays until the strangers are done, and is then alone again.
    pub(super) async fn stay(&mut self, stage: &Stage, strangers: impl Future<Output = ()>) {
        self.live(strangers.then(|()| sleep(SETTLED))).await;
        self.check_roster(stage);
        self.live(sleep(GRACE)).await;
        self.check_roster(stage);
        let alone: Vec<String> = self.replay.roster().into_keys().collect();
        assert_eq!(alone, [self.id.as_str()], "nobody else is left");
    }

    /// Heartbeats, and applies what comes; a breach of rules R4 and R5 panics in the replayer.
    async fn live(&mut self, until: impl Future<Output = ()>) {
        let mut until = pin!(until);
        loop {
            tokio::select! {
                message = self.socket.next() => self.take(message),
                () = sleep_until(self.answer_by.unwrap_or(self.beat_at)) => self.beat().await,
                () = &mut until => return,
            }
        }
    }

    fn take(&mut self, message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>) {
        match message {
            Some(Ok(Message::Text(text))) => {
                let message: Value = serde_json::from_str(&text).expect("JSON");
                self.replay.apply(&message);
                match message["type"].as_str() {
                    Some("heartbeat_ack") => self.answer_by = None,
                    Some("presence" | "sync" | "broadcast") => {}
                    _ => panic!("not for somebody well-behaved: {message}"),
                }
            }
            Some(Ok(Message::Ping(_))) => {}
            other => panic!("not for somebody well-behaved: {other:?}"),
        }
    }

    async fn beat(&mut self) {
        assert!(
            self.answer_by.is_none(),
            "every heartbeat is answered at once"
        );
        let now = Instant::now();
        (self.beat_at, self.answer_by) = (now + HEARTBEAT_EVERY, Some(now + ANSWERED_WITHIN));
        self.say(json!({"type": "heartbeat"})).await;
    }

    async fn say(&mut self, message: Value) {
        let said = self.socket.send(Message::text(message.to_string())).await;
        said.expect("the server listens");
    }

    /// What the frames said is what the server has (rule R4).
    fn check_roster(&self, stage: &Stage) {
        let (seq, occupancy, present) = stage.node.hub.present(stage.room, None, 10);
        assert_eq!((self.replay.seq, self.replay.occupancy), (seq, occupancy));
        let roster = present.into_iter().map(|present| {
            let member = without_sample(json!(present.member));
            (present.member.id.to_string(), member)
        });
        assert_eq!(self.replay.roster(), roster.collect());
    }

    pub(super) async fn leave(mut self) {
        self.say(json!({"type": "leave"})).await;
        while let Some(Ok(_)) = self.socket.next().await {}
        drop(self);
        // The server hears that it is gone.
        sleep(SETTLED).await;
    }
}

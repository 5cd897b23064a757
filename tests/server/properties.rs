//! R4 and R5 over random lives: joins, leaves, drops, resumes, updates and waits, through the real connection code over
//! memory, in paused time, against the independent replayer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, SinkExt, StreamExt};
use proptest::{prelude::*, test_runner::TestCaseError};
use rollcall::{
    admission::{AccessTokens, Admission, Parts, Query, ResumeKey},
    clock::Clock,
    config::Config,
    connection::{self, Deps, websocket_config},
    flusher::Flusher,
    hub::Hub,
    metrics::Metrics,
    store::{RoomKey, RoomSettings, Store, memory::MemoryStore},
};
use rollcall_protocol::{OnIdle, ProblemCode, RoomId, Timestamp};
use serde_json::{Value, json};
use tokio::{io::DuplexStream, task::JoinSet};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};
use tokio_util::sync::CancellationToken;

use crate::{
    harness::{config, jwt},
    replay::{Replay, without_sample},
};

/// What somebody does next.
#[derive(Debug, Clone)]
enum Step {
    Join(usize),
    Leave(usize),
    Drop(usize),
    Resume(usize),
    Update(usize, u8),
    Idle(usize, bool),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let person = 0..6_usize;
    prop_oneof![
        3 => person.clone().prop_map(Step::Join),
        1 => person.clone().prop_map(Step::Leave),
        2 => person.clone().prop_map(Step::Drop),
        3 => person.clone().prop_map(Step::Resume),
        2 => (person.clone(), any::<u8>()).prop_map(|(who, what)| Step::Update(who, what)),
        1 => (person, any::<bool>()).prop_map(|(who, idle)| Step::Idle(who, idle)),
        3 => prop_oneof![Just(5), Just(60), Just(2_000), Just(11_000)].prop_map(Step::Wait),
    ]
}

/// Long after the tests' own epoch.
const EXP: i64 = 1_800_000_000;

/// A node without sockets.
struct Node {
    admission: Admission,
    deps: Arc<Deps>,
    hub: Hub,
    room: RoomKey,
    tasks: JoinSet<()>,
}

struct Peer {
    socket: WebSocketStream<DuplexStream>,
    replay: Replay,
    token: String,
}

impl Node {
    async fn start(roster_limit: usize) -> Self {
        let mut config: Config = config();
        config.limits.roster_limit = roster_limit;
        let clock = Clock::manual(Timestamp::from_millis(1_795_514_400_000));
        // Access tokens are judged by the same clock.
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
        let settings = RoomSettings {
            idle_timeout: None,
            on_idle: OnIdle::Keep,
            max_participants: None,
            max_age: None,
            metadata: serde_json::Map::new(),
        };
        let id: RoomId = "room".parse().unwrap();
        store.create_room(&id, &settings).await.unwrap();
        let room = store.room(&id).await.unwrap().unwrap().key;
        let metrics = Arc::new(Metrics::default());
        let hub = Hub::new(&config, store.clock().clone(), Arc::clone(&metrics));
        let flusher = Flusher::new(
            hub.clone(),
            Arc::clone(&store),
            Arc::clone(&metrics),
            config.flush_interval,
        );
        let parts = Parts {
            hub: hub.clone(),
            flusher,
            metrics: Arc::clone(&metrics),
            tokens: AccessTokens::new(&config, clock.clone()),
            clock,
            resume_key: ResumeKey::new(&[1; 32]),
            defaults: settings,
            queue: 64,
        };
        let (admission, worker) = Admission::new(store, parts);
        let deps = Arc::new(Deps {
            config: Arc::new(config),
            admission: admission.clone(),
            metrics,
            cut: CancellationToken::new(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(worker.run());
        let agenda = hub.clone();
        tasks.spawn(async move {
            agenda.run_agenda().await;
        });
        Self {
            admission,
            deps,
            hub,
            room,
            tasks,
        }
    }

    /// Joins; `None` where the participant has as many connections as it may. Every other refusal is a failure.
    async fn connect(&mut self, query: &str) -> Option<Peer> {
        let query = Query::parse(Some(query), &hyper::HeaderMap::new()).unwrap();
        let ask = self.admission.ask(query).unwrap();
        let admitted = match self.admission.decide(ask).await {
            Ok(admitted) => admitted,
            Err(problem) => {
                assert_eq!(problem.code, ProblemCode::TooManyConnections);
                return None;
            }
        };
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let config = Some(websocket_config(&self.deps.config));
        let socket = WebSocketStream::from_raw_socket(ours, Role::Server, config).await;
        self.tasks
            .spawn(connection::run(socket, admitted, Arc::clone(&self.deps)));
        let mut socket = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        let welcome = next_json(&mut socket).await.expect("a welcome");
        let token = welcome["self"]["resume_token"].as_str().unwrap().to_owned();
        Some(Peer {
            socket,
            replay: Replay::new(&welcome),
            token,
        })
    }
}

async fn next_json(socket: &mut WebSocketStream<DuplexStream>) -> Option<Value> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
            Some(Ok(_)) => {}
            _ => return None,
        }
    }
}

impl Peer {
    async fn say(&mut self, message: Value) {
        self.socket
            .send(Message::text(message.to_string()))
            .await
            .unwrap();
    }

    /// Applies everything that has come; a breach of a rule panics in the replayer. Answers whether it is still open.
    fn catch_up(&mut self) -> bool {
        loop {
            match next_json(&mut self.socket).now_or_never() {
                Some(Some(message)) => self.replay.apply(&message),
                Some(None) => return false,
                None => return true,
            }
        }
    }
}

async fn live(steps: Vec<Step>, roster_limit: usize) -> Result<(), TestCaseError> {
    let mut node = Node::start(roster_limit).await;
    let mut connected: BTreeMap<usize, Vec<Peer>> = BTreeMap::new();
    let mut tokens: BTreeMap<usize, String> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Join(who) => {
                let claims = json!({"sub": format!("person{who}"), "room": "room", "exp": EXP});
                let token = jwt(&claims);
                if let Some(peer) = node.connect(&format!("token={token}")).await {
                    tokens.insert(who, peer.token.clone());
                    connected.entry(who).or_default().push(peer);
                }
            }
            Step::Resume(who) => {
                let Some(token) = tokens.get(&who).cloned() else {
                    continue;
                };
                if let Some(peer) = node.connect(&format!("resume={token}")).await {
                    tokens.insert(who, peer.token.clone());
                    connected.entry(who).or_default().push(peer);
                }
            }
            Step::Leave(who) => {
                if let Some(mut peer) = connected.get_mut(&who).and_then(Vec::pop) {
                    peer.say(json!({"type": "leave"})).await;
                    while next_json(&mut peer.socket).await.is_some() {}
                }
            }
            Step::Drop(who) => drop(connected.get_mut(&who).and_then(Vec::pop)),
            Step::Update(who, what) => {
                if let Some(peer) = connected.get_mut(&who).and_then(|peers| peers.last_mut()) {
                    peer.say(json!({"type": "update", "state": {"n": what}}))
                        .await;
                }
            }
            Step::Idle(who, idle) => {
                if let Some(peer) = connected.get_mut(&who).and_then(|peers| peers.last_mut()) {
                    peer.say(
                        json!({"type": "update", "status": if idle { "idle" } else { "active" }}),
                    )
                    .await;
                }
            }
            Step::Wait(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
        }
        settle(&mut connected).await;
        // R5: whoever is connected has not left, whatever became of their other tabs.
        let here = node.hub.present(node.room, None, 1_000).2;
        let here: BTreeSet<String> = here.iter().map(|it| it.member.name.to_string()).collect();
        for who in people(&connected) {
            prop_assert!(
                here.contains(&who),
                "{} is connected and not on the roster {:?}",
                who,
                here
            );
        }
    }
    // Every grace is over, and everything gathered has been sent.
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        settle(&mut connected).await;
    }
    let (seq, occupancy, present) = node.hub.present(node.room, None, 1_000);
    let names: BTreeSet<String> = present
        .iter()
        .map(|here| here.member.name.to_string())
        .collect();
    prop_assert_eq!(
        names,
        people(&connected),
        "exactly who is connected is here"
    );
    let server: BTreeMap<String, Value> = present
        .into_iter()
        .map(|here| {
            (
                here.member.id.to_string(),
                without_sample(serde_json::to_value(here.member).unwrap()),
            )
        })
        .collect();
    for peer in connected.values_mut().flatten() {
        peer.catch_up();
        prop_assert_eq!(peer.replay.seq, seq);
        prop_assert_eq!(peer.replay.occupancy, occupancy);
        if peer.replay.members.is_some() {
            prop_assert_eq!(&peer.replay.roster(), &server);
        }
    }
    Ok(())
}

/// Lets everybody read; who was closed is not connected any more.
async fn settle(connected: &mut BTreeMap<usize, Vec<Peer>>) {
    for _ in 0..3 {
        tokio::task::yield_now().await;
        for peers in connected.values_mut() {
            peers.retain_mut(Peer::catch_up);
        }
    }
}

/// The names of those with a connection.
fn people(connected: &BTreeMap<usize, Vec<Peer>>) -> BTreeSet<String> {
    connected
        .iter()
        .filter(|(_, peers)| !peers.is_empty())
        .map(|(who, _)| format!("person{who}"))
        .collect()
}

fn check(steps: Vec<Step>, roster_limit: usize) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(live(steps, roster_limit))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn r4_r5_the_roster_is_what_the_frames_say(steps in prop::collection::vec(step(), 1..60)) {
        check(steps, 1_000)?;
    }

    #[test]
    fn r4_r5_also_across_the_roster_limit(steps in prop::collection::vec(step(), 1..60)) {
        check(steps, 3)?;
    }
}

//! R4 and R5 over random lives: joins, leaves, drops, resumes, updates and waits, through the real connection code over
//! memory, in paused time, against the independent replayer; and observers, who see it all and are nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::{prelude::*, test_runner::TestCaseError};
use rollcall_protocol::ProblemCode;
use serde_json::{Value, json};

use crate::{
    offline::{Offline, Peer},
    replay::without_sample,
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
    /// Somebody else observes from here on.
    Observe,
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
        1 => Just(Step::Observe),
        3 => prop_oneof![Just(5), Just(60), Just(2_000), Just(11_000)].prop_map(Step::Wait),
    ]
}

/// Joins; `None` where the participant has as many connections as it may. Every other refusal is a failure.
async fn connect(node: &Offline, query: &str) -> Option<Peer> {
    match node.connect(query).await {
        Ok(peer) => Some(peer),
        Err(problem) => {
            assert_eq!(problem.code, ProblemCode::TooManyConnections);
            None
        }
    }
}

async fn live(steps: Vec<Step>, roster_limit: usize) -> Result<(), TestCaseError> {
    let node = Offline::start(|config| config.limits.roster_limit = roster_limit).await;
    let mut connected: BTreeMap<usize, Vec<Peer>> = BTreeMap::new();
    let mut tokens: BTreeMap<usize, String> = BTreeMap::new();
    // One from the beginning to the end, and one who comes and goes.
    let mut observers = [observe(&node).await, observe(&node).await];
    for step in steps {
        match step {
            Step::Join(who) => {
                let door = Offline::door(&format!("person{who}"), "room");
                if let Some(peer) = connect(&node, &door).await {
                    tokens.insert(who, peer.way_back());
                    connected.entry(who).or_default().push(peer);
                }
            }
            Step::Resume(who) => {
                let Some(token) = tokens.get(&who).cloned() else {
                    continue;
                };
                if let Some(peer) = connect(&node, &token).await {
                    tokens.insert(who, peer.way_back());
                    connected.entry(who).or_default().push(peer);
                }
            }
            Step::Leave(who) => {
                if let Some(peer) = connected.get_mut(&who).and_then(Vec::pop) {
                    peer.leave().await;
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
            Step::Observe => observers[1] = observe(&node).await,
            Step::Wait(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
        }
        settle(&mut connected).await;
        catch_up(&mut observers).await;
        // R5: whoever is connected has not left, whatever became of their other tabs.
        let here = node.node.hub.present(node.room, None, 1_000).2;
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
        catch_up(&mut observers).await;
    }
    let (seq, occupancy, present) = node.node.hub.present(node.room, None, 1_000);
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
    let everybody = connected.values_mut().flatten();
    for peer in everybody.chain(&mut observers) {
        peer.catch_up();
        prop_assert_eq!(peer.replay.seq, seq);
        prop_assert_eq!(peer.replay.occupancy, occupancy);
        if peer.replay.members.is_some() {
            prop_assert_eq!(&peer.replay.roster(), &server);
        }
    }
    Ok(())
}

async fn observe(node: &Offline) -> Peer {
    let door = Offline::observers_door("eye", "room");
    node.connect(&door).await.unwrap()
}

/// Observers live as long as they heartbeat.
async fn catch_up(observers: &mut [Peer]) {
    for observer in observers {
        observer.say(json!({"type": "heartbeat"})).await;
        assert!(observer.catch_up().is_some(), "it lives");
    }
}

/// Lets everybody read; who was closed is not connected any more.
async fn settle(connected: &mut BTreeMap<usize, Vec<Peer>>) {
    for _ in 0..3 {
        tokio::task::yield_now().await;
        for peers in connected.values_mut() {
            peers.retain_mut(|peer| peer.catch_up().is_some());
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

//! Crowds: what a large room says, and to whom it may say how much.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::{
    harness::{TestServer, token_for},
    offline::{Offline, Peer, make_room, settle},
};

fn count(came: &[Value], kind: &str) -> usize {
    came.iter()
        .filter(|message| message["type"] == kind)
        .count()
}

/// Cursors at 30 a second from everybody in a room of 1,000: a million frames a second, if they were let.
#[tokio::test(start_paused = true)]
async fn r8_a_thousand_cursors_starve_neither_changes_nor_other_rooms_and_their_senders_are_told() {
    const CROWD: usize = 1_000;
    let node = Offline::start(|config| config.limits.roster_limit = 100).await;
    make_room(&node.node, "elsewhere").await;
    let mut crowd = Vec::new();
    for n in 0..CROWD {
        crowd.push(node.join(&format!("p{n}")).await);
    }
    let [mut ann, mut ben] = [
        node.connect(&Offline::door("ann", "elsewhere"))
            .await
            .unwrap(),
        node.connect(&Offline::door("ben", "elsewhere"))
            .await
            .unwrap(),
    ];
    tokio::time::sleep(Duration::from_secs(5)).await;
    for peer in &mut crowd {
        peer.catch_up().unwrap();
    }
    ann.catch_up().unwrap();
    ben.catch_up().unwrap();

    let cursor = json!({"type": "broadcast", "event": "cursor", "payload": {"x": 1, "y": 2}});
    let (mut sent, mut refused, mut heard) = (0, 0, 0);
    for tenth in 0..10 {
        // Somebody goes in the thick of it, and somebody speaks in another room.
        let leaves = (tenth == 5).then(|| crowd.remove(CROWD / 2));
        for peer in &mut crowd {
            for _ in 0..3 {
                peer.say(cursor.clone()).await;
                sent += 1;
            }
        }
        if let Some(leaves) = leaves {
            leaves.leave().await;
            ann.say(json!({"type": "broadcast", "event": "hello", "payload": null}))
                .await;
        }
        settle().await;
        if tenth == 5 {
            let came = ben.catch_up().unwrap();
            assert_eq!(count(&came, "broadcast"), 1, "at once: {came:?}");
        }
        for peer in &mut crowd {
            let came = peer.catch_up().unwrap();
            refused += count(&came, "error");
            heard += count(&came, "broadcast");
        }
        tokio::time::sleep(Duration::from_millis(99)).await;
    }
    let window = Duration::from_secs(2);
    tokio::time::sleep(window).await;
    for peer in &mut crowd {
        peer.catch_up().unwrap();
        assert_eq!(
            peer.replay.occupancy as usize,
            CROWD - 1,
            "everybody saw the leave"
        );
    }
    // The rest were admitted, and each reached everybody else.
    let limit = node.node.config.limits.fanout_frames_per_second as usize;
    assert!(heard <= 2 * limit + CROWD, "{heard} frames in a second");
    assert!(
        heard >= limit / 2,
        "the budget is there to be used: {heard}"
    );
    assert_eq!(
        refused + heard.div_ceil(CROWD - 1),
        sent,
        "everybody is told"
    );
    drop((crowd, ann, ben));
    node.stop().await;
}

#[tokio::test]
async fn pages_show_who_is_present_throughout_exactly_once() {
    let server = TestServer::start().await;
    server.room("room").await;
    let enter = async |who: &str| {
        let query = format!("token={}", token_for(who, "room"));
        server.connect(&query).await
    };
    let mut stay = Vec::new();
    for n in 0..12 {
        stay.push(enter(&format!("stays{n}")).await);
    }
    let mut come_and_go = vec![enter("goes0").await];
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let (mut last, mut last_seq) = (String::new(), 0);
    let mut cursor = String::new();
    for n in 1.. {
        let page = server
            .get(&format!("/v1/rooms/room/presence?limit=3{cursor}"))
            .await;
        assert_eq!(page.status, 200, "{page:?}");
        let seq = page.body["seq"].as_u64().unwrap();
        assert!(seq > last_seq, "the roster has moved on in between");
        last_seq = seq;
        for here in page.body["items"].as_array().unwrap() {
            let id = here["id"].as_str().unwrap().to_owned();
            assert!(last < id, "ordered by id, over the pages too");
            last.clone_from(&id);
            *seen
                .entry(here["name"].as_str().unwrap().to_owned())
                .or_default() += 1;
        }
        let Some(next) = page.body["next_cursor"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
        // The last who came goes, and another comes.
        come_and_go.pop().unwrap().leave().await;
        come_and_go.push(enter(&format!("goes{n}")).await);
    }
    for n in 0..12 {
        assert_eq!(seen.get(&format!("stays{n}")), Some(&1), "{seen:?}");
    }
    server.stop().await;
}

/// A crowd that goes back and forth over the roster limit: every crossing is one `sync`, and the roster stays right.
#[tokio::test(start_paused = true)]
async fn r4_crossing_the_roster_limit_back_and_forth() {
    let node = Offline::start(|config| config.limits.roster_limit = 20).await;
    let mut watcher = node.join("watcher").await;
    let mut crowd: Vec<Peer> = Vec::new();
    let mut modes = Vec::new();
    for round in 0..4 {
        for n in 0..40 {
            crowd.push(node.join(&format!("r{round}n{n}")).await);
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        modes.extend(syncs(&mut watcher));
        assert_eq!(
            (watcher.replay.occupancy, watcher.replay.members.is_some()),
            (41, false)
        );
        for peer in crowd.drain(..) {
            peer.leave().await;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        modes.extend(syncs(&mut watcher));
        assert_eq!(watcher.replay.names(), ["watcher"]);
        watcher.say(json!({"type": "heartbeat"})).await;
    }
    assert_eq!(modes, ["count", "full"].repeat(4));
    watcher.leave().await;
    node.stop().await;
}

fn syncs(peer: &mut Peer) -> Vec<String> {
    let came = peer.catch_up().unwrap();
    let syncs = came.iter().filter(|message| message["type"] == "sync");
    syncs
        .map(|sync| sync["roster"].as_str().unwrap().to_owned())
        .collect()
}

/// In a counted room one comes as another goes, within one window: the number is the same, and the newcomer was welcomed
/// with both.
#[tokio::test(start_paused = true)]
async fn r4_who_is_counted_in_as_another_goes_is_told() {
    let node = Offline::start(|config| config.limits.roster_limit = 2).await;
    let mut crowd = Vec::new();
    for n in 0..4 {
        crowd.push(node.join(&format!("p{n}")).await);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    // Opens a window.
    crowd.pop().unwrap().leave().await;
    crowd.pop().unwrap().leave().await;
    let mut newcomer = node.join("newcomer").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (seq, occupancy, _) = node.node.hub.present(node.room, None, 9);
    for peer in crowd.iter_mut().chain([&mut newcomer]) {
        peer.catch_up().unwrap();
        assert_eq!((peer.replay.seq, peer.replay.occupancy), (seq, occupancy));
    }
    assert_eq!(occupancy, 3);
    drop((crowd, newcomer));
    node.stop().await;
}

//! What an outage says in the log: that it began and that it ended, however many heartbeats and joins come meanwhile.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::{
    database::Corner,
    harness::{Client, token_for},
    program::{Program, connect, get, make_room},
    proxy::Proxy,
    scene::{heartbeat, refused},
};

/// The pools' connections. sqlx says of each that it died, where it died on its way back.
const POOLED: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_said_once_and_its_end_once() {
    let corner = Corner::new();
    let proxy = Proxy::before(corner.database.url.expose()).await;
    let way = corner.by_way_of(proxy.port());
    let mut program = Program::start(&way, &["--flush-interval", "100ms"]);
    let addr = program.listens().await;
    make_room(addr, "main").await;
    let mut people = Vec::new();
    for n in 0..5 {
        let token = token_for(&format!("n{n}"), "main");
        people.push(connect(addr, &format!("token={token}")).await);
    }
    // As many connections as a busy server has: each is found dead.
    let token = token_for("eve", "main");
    let path = format!("/v1/connect?token={token}");
    futures::future::join_all((0..50).map(|_| get(addr, &path))).await;

    // Gone for long enough that what is said a second, or a try, is said often; then one that hangs.
    for (begin, seconds) in [(Proxy::cut as fn(&Proxy), 10), (Proxy::fall_silent, 7)] {
        let before = program.log().len();
        begin(&proxy);
        talk_and_knock(addr, &mut people, Duration::from_secs(seconds)).await;
        program.says_after(before, "flush failed, retrying").await;
        proxy.heal();
        program.says_after(before, "flushing works again").await;
        let said = program.log().split_off(before);
        let (ours, libraries): (Vec<Value>, Vec<Value>) = said
            .into_iter()
            .partition(|line| target(line).starts_with("rollcall"));
        assert_eq!(ours.len(), 2, "{ours:#?}");
        assert!(libraries.len() <= POOLED, "{libraries:#?}");
    }
    drop(people);
}

fn target(line: &Value) -> &str {
    line["target"].as_str().unwrap()
}

async fn talk_and_knock(addr: std::net::SocketAddr, people: &mut [Client], lasts: Duration) {
    let began = Instant::now();
    while began.elapsed() < lasts {
        let knock = (0..20).map(|n| {
            refused(
                addr,
                format!("token={}", token_for(&format!("eve{n}"), "main")),
            )
        });
        let talk = async {
            for client in &mut *people {
                heartbeat(client).await;
            }
        };
        tokio::join!(talk, futures::future::join_all(knock));
    }
}

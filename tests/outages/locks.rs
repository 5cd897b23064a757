//! Somebody else holds a lock for a minute: a forgotten psql, a migration, a backup. Six seconds stand for the minute,
//! longer than every limit of ours: what has not come to its end by then never would.

use std::{ops::Range, pin::pin, time::Duration};

use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::{
    database::{Corner, Psql},
    harness::{self, Client, token_for},
    scene::{self, BACK_WITHIN, REFUSED_WITHIN, Scene, is_unavailable, refused},
};

const A_MINUTE: Duration = Duration::from_secs(6);
/// Joins that nothing is in the way of take milliseconds, unless they wait for somebody else's lock: that is at least a
/// second.
const QUICK: Duration = Duration::from_millis(900);
/// The limit of a wait for a lock, twice, and the interval: the flush that goes around what is locked.
const AROUND: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_room_holds_up_nobody_elses() {
    let corner = Corner::new();
    let mut scene = Scene::begin(&corner.database).await;
    scene.server.room("other").await;
    let mut olga = connect(&scene, "olga", "other").await;
    let mut psql = Psql::open(&corner.database).await;
    psql.run("BEGIN; SELECT FROM rooms WHERE id = 'main' FOR UPDATE")
        .await;
    let began = Instant::now();
    let mut guests = 0_u32;
    while began.elapsed() < A_MINUTE {
        let eve = format!("token={}", token_for("eve", "main"));
        let others = async {
            // Some before, some after the worker has found the room locked.
            visit_quickly(&scene, "other", guests..guests + 20).await;
            guests += 20;
        };
        tokio::join!(others, refused(scene.server.addr, eve));
        scene.heartbeats().await;
        is_seen(&mut scene.psql, &mut olga).await;
        assert_eq!(scene.server.get("/readyz").await.status, 200);
    }
    psql.run("ROLLBACK").await;
    timeout(harness::SOON, connect(&scene, "eve", "main"))
        .await
        .unwrap();
    scene.flushes().await;
    let rows = "SELECT count(*)::text FROM participants AS p JOIN rooms AS r ON r.key = p.room_key WHERE r.id = ";
    let count = scene.psql.one(&format!("{rows} 'other'")).await;
    assert_eq!(count, (guests + 1).to_string());
    assert_eq!(scene.psql.one(&format!("{rows} 'main'")).await, "5");
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r6_a_locked_participant_holds_up_nobody_elses_last_seen() {
    let corner = Corner::new();
    let mut scene = Scene::begin(&corner.database).await;
    scene.server.room("other").await;
    let mut olga = connect(&scene, "olga", "other").await;
    let mut peer = connect(&scene, "peer", "main").await;
    let mut held = connect(&scene, "held", "main").await;
    let mut psql = Psql::open(&corner.database).await;
    let lock = format!(
        "BEGIN; SELECT FROM participants WHERE id = '{}' FOR UPDATE",
        held.id()
    );
    psql.run(&lock).await;
    let began = Instant::now();
    while began.elapsed() < A_MINUTE {
        scene::heartbeat(&mut held).await;
        let others = async {
            is_seen(&mut scene.psql, &mut olga).await;
            is_seen(&mut scene.psql, &mut peer).await;
        };
        // Another tab of the same user writes that very row.
        let tab = format!("token={}", token_for("held", "main"));
        tokio::join!(others, refused(scene.server.addr, tab));
        let joining = connect(&scene, "eve", "other");
        timeout(REFUSED_WITHIN, joining)
            .await
            .unwrap()
            .leave()
            .await;
        assert_eq!(scene.server.get("/readyz").await.status, 200);
    }
    let held_id = held.id();
    held.leave().await;
    // The departure waits behind the lock now, in the connection or in the backlog.
    is_seen(&mut scene.psql, &mut olga).await;
    psql.run("ROLLBACK").await;
    let left = format!("SELECT (NOT is_active)::text FROM participants WHERE id = '{held_id}'");
    let written = async { while scene.psql.one(&left).await != "true" {} };
    timeout(BACK_WITHIN, written)
        .await
        .expect("what was owed is written");
    connect(&scene, "held", "main").await.leave().await;
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r6_the_locked_rooms_are_an_outage() {
    locked("rooms").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r6_the_locked_participants_are_an_outage() {
    locked("participants").await;
}

/// As `ALTER TABLE` locks it.
async fn locked(table: &str) {
    let corner = Corner::new();
    let mut scene = Scene::begin(&corner.database).await;
    let mut psql = Psql::open(&corner.database).await;
    psql.run(&format!(
        "BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"
    ))
    .await;
    scene.suffers(A_MINUTE).await;
    psql.run("ROLLBACK").await;
    scene.recovers().await;
    scene.ends().await;
}

/// Groups that wait for a lock are few, and whoever comes on top of them is told at once or soon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_locked_rooms_leave_connections_for_the_others() {
    let corner = Corner::new();
    let scene = Scene::begin(&corner.database).await;
    for n in 0..30 {
        let room = json!({"id": format!("held{n}"), "idle_timeout_seconds": 60});
        assert_eq!(scene.server.post("/v1/rooms", room).await.status, 201);
    }
    let mut psql = Psql::open(&corner.database).await;
    psql.run("BEGIN; SELECT FROM rooms WHERE id LIKE 'held%' FOR UPDATE")
        .await;
    let addr = scene.server.addr;
    let told = (0..30).map(|n| {
        let query = format!("token={}", token_for("eve", &format!("held{n}")));
        async move {
            let asked = harness::open(addr, &query, &[]);
            let answer = timeout(REFUSED_WITHIN, asked)
                .await
                .expect("a 503 within 3 s");
            match answer {
                Err(refusal) => is_unavailable(&refusal),
                Ok(_) => panic!("nobody gets past the lock"),
            }
        }
    });
    let others = visit_quickly(&scene, "main", 0..50);
    tokio::join!(futures::future::join_all(told), others);
    psql.run("ROLLBACK").await;
    timeout(harness::SOON, connect(&scene, "eve", "held0"))
        .await
        .unwrap();
    scene.ends().await;
}

async fn connect(scene: &Scene, user: &str, room: &str) -> Client {
    let query = format!("token={}", token_for(user, room));
    scene.server.connect(&query).await
}

/// Guests come one after the other, and most of them at once: a busy machine may make a few wait, a lock all of them.
async fn visit_quickly(scene: &Scene, room: &str, guests: Range<u32>) {
    let count = guests.len();
    let mut quick = 0;
    for guest in guests {
        let name = format!("guest{guest}");
        let mut joining = pin!(connect(scene, &name, room));
        let client = match timeout(QUICK, joining.as_mut()).await {
            Ok(client) => {
                quick += 1;
                client
            }
            Err(_) => joining.await,
        };
        client.leave().await;
    }
    assert!(quick * 2 > count, "others go on: {quick} of {count}");
}

/// A heartbeat sent now comes to be stored.
async fn is_seen(psql: &mut Psql, client: &mut Client) {
    let acked = scene::heartbeat(client).await;
    let query = scene::is_stored(&client.id(), &acked);
    let stored = async { while psql.one(&query).await != "true" {} };
    timeout(AROUND, stored)
        .await
        .expect("a lock on another row keeps nothing from being written");
}

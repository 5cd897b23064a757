//! The database server stops, crashes, hangs, is failed over, or ends our connections.

use std::{sync::Arc, time::Duration};

use rollcall::config::Database;
use rollcall_test_cluster::Cluster;
use tokio::task::{JoinSet, block_in_place};

use crate::{
    database::{Corner, Psql},
    harness::{SOON, token_for},
    scene::{AT_ONCE, REFUSED_WITHIN, Scene},
};

/// Longer than every limit of a call: what began before the outage has failed by its end.
const BEYOND_EVERY_LIMIT: Duration = Duration::from_secs(6);

async fn scene(cluster: &Cluster) -> Scene {
    Scene::begin(&Database::at(cluster.url())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r6_stopped_and_started() {
    let cluster = block_in_place(Cluster::start);
    let mut scene = scene(&cluster).await;
    block_in_place(|| cluster.stop());
    scene.suffers(Duration::ZERO).await;
    block_in_place(|| cluster.restart());
    scene.recovers().await;
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r6_killed_and_started() {
    let cluster = block_in_place(Cluster::start);
    let mut scene = scene(&cluster).await;
    block_in_place(|| cluster.kill());
    scene.suffers(Duration::ZERO).await;
    block_in_place(|| cluster.restart());
    scene.recovers().await;
    scene.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r6_frozen_and_thawed() {
    let cluster = block_in_place(Cluster::start);
    let mut scene = scene(&cluster).await;
    block_in_place(|| cluster.freeze());
    scene.suffers(BEYOND_EVERY_LIMIT).await;
    block_in_place(|| cluster.thaw());
    scene.recovers().await;
    scene.ends().await;
}

/// A failover as its clients see it: the address answers, but only reads, until it is promoted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r6_failed_over_to_a_standby_that_is_promoted_later() {
    let cluster = Arc::new(block_in_place(Cluster::start));
    let database = Database::at(cluster.url());
    let mut scene = scene(&cluster).await;
    let signal = scene
        .psql
        .one("SELECT current_setting('data_directory') || '/standby.signal'")
        .await;
    scene
        .psql
        .run(&format!("COPY (SELECT) TO '{signal}'"))
        .await;
    block_in_place(|| cluster.stop());
    let mut restarting = JoinSet::new();
    let restarted = Arc::clone(&cluster);
    // Ends with the promotion: only then it calls itself ready.
    restarting.spawn_blocking(move || restarted.restart());
    let mut psql = reads_again(&database).await;
    assert_eq!(psql.one("SELECT pg_is_in_recovery()::text").await, "true");
    scene.suffers(Duration::ZERO).await;
    psql.run("SELECT pg_promote()").await;
    scene.recovers().await;
    restarting.join_next().await.unwrap().unwrap();
    scene.ends().await;
}

async fn reads_again(database: &Database) -> Psql {
    use sqlx::{Connection, PgConnection};
    let connects = async {
        while PgConnection::connect(database.url.expose()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, connects).await.unwrap();
    Psql::open(database).await
}

fn terminate(database: &Database) -> String {
    format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{}'",
        database.schema
    )
}

/// Whoever comes next is let in: dead connections are found out before they are used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_ended_by_an_administrator_are_replaced_unnoticed() {
    let corner = Corner::new();
    let mut scene = Scene::begin(&corner.database).await;
    let ended = scene.psql.run(&terminate(&corner.database)).await;
    assert!(!ended.is_empty(), "there were connections to end");
    let query = format!("token={}", token_for("eve", "main"));
    let joining = scene.server.connect(&query);
    let eve = tokio::time::timeout(AT_ONCE, joining).await.unwrap();
    eve.leave().await;
    scene.heartbeats().await;
    scene.is_ready().await;
    scene.ends().await;
}

/// Answers of commits are lost now and then; whoever asks again is the same participant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r2_connections_ended_again_and_again_lose_and_double_nobody() {
    let corner = Corner::new();
    let mut scene = Scene::begin(&corner.database).await;
    let mut administrator = Psql::open(&corner.database).await;
    let (addr, newcomers) = (scene.server.addr, 60);
    let terminating = terminate(&corner.database);
    let mut refusals = 0;
    for n in 0..newcomers {
        let query = format!("token={}", token_for(&format!("n{n}"), "main"));
        let joins = async {
            loop {
                let asked = crate::harness::open(addr, &query, &[]);
                match tokio::time::timeout(REFUSED_WITHIN, asked).await.unwrap() {
                    Ok(_) => return,
                    Err(refusal) => crate::scene::is_unavailable(&refusal),
                }
                refusals += 1;
            }
        };
        tokio::join!(joins, administrator.run(&terminating));
        if n % 10 == 0 {
            scene.heartbeats().await;
        }
    }
    scene.is_ready().await;
    let rows = "SELECT count(*)::text FROM participants WHERE user_id LIKE 'n%'";
    assert_eq!(scene.psql.one(rows).await, newcomers.to_string());
    assert!(refusals < newcomers * 10, "{refusals} refusals");
    scene.ends().await;
}

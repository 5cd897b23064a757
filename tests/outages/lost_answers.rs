//! A network that loses what it carries: the answer to a commit, or everything from some moment on.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use crate::{
    database::{Corner, Psql},
    harness::{self, TestServer, token_for},
    proxy::Proxy,
    scene::{self, Scene, refused},
};

/// Nobody commits but who joins.
async fn quiet_server(corner: &Corner, proxy: &Proxy) -> TestServer {
    let mut config = harness::config();
    config.flush_interval = Duration::from_secs(3_600);
    scene::serve(config, &corner.by_way_of(proxy.port())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r2_a_join_whose_commit_was_not_answered_is_one_join_when_repeated() {
    let corner = Corner::new();
    let proxy = Proxy::before(corner.database.url.expose()).await;
    let server = quiet_server(&corner, &proxy).await;
    server.room("main").await;
    let invite = server.invite_with("main", json!({"max_uses": 1})).await;
    let mut psql = Psql::open(&corner.database).await;
    let user = format!("token={}", token_for("eve", "main"));
    let guest = format!("invite={invite}&name=guest&client=a-browser-of-a-guest");
    for (n, query) in [user, guest].into_iter().enumerate() {
        proxy.lose_a_commit();
        refused(server.addr, query.clone()).await;
        assert!(proxy.has_lost_it());
        let newest = "SELECT id::text FROM participants ORDER BY key DESC LIMIT 1";
        let written = psql.one(newest).await;
        let again = server.connect(&query).await;
        assert_eq!(again.id(), written, "the same participant");
        let count = psql.one("SELECT count(*)::text FROM participants").await;
        assert_eq!(count, (n + 1).to_string());
    }
    assert_eq!(psql.one("SELECT uses::text FROM invites").await, "1");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r6_a_network_that_drops_everything_is_an_outage() {
    let corner = Corner::new();
    let proxy = Proxy::before(corner.database.url.expose()).await;
    let mut scene = Scene::by_way_of(&corner.database, &corner.by_way_of(proxy.port())).await;
    proxy.fall_silent();
    scene.suffers(Duration::from_secs(6)).await;
    proxy.heal();
    scene.recovers().await;
    scene.ends().await;
}

/// As a firewall does that was restarted: new connections work, the pool's are dead, and nothing says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_of_dead_connections_costs_seconds_not_a_try_each() {
    let corner = Corner::new();
    let proxy = Proxy::before(corner.database.url.expose()).await;
    let server = quiet_server(&corner, &proxy).await;
    server.room("main").await;
    fill_pool(&server).await;
    proxy.fall_silent();
    proxy.heal();
    let query = format!("token={}", token_for("eve", "main"));
    comes_in(&server, &query).await;
    server.stop().await;
}

/// A place in the pool whose connection died on its way back to it is not lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_die_on_their_way_back_free_their_places() {
    let corner = Corner::new();
    let proxy = Proxy::before(corner.database.url.expose()).await;
    let server = quiet_server(&corner, &proxy).await;
    server.room("main").await;
    fill_pool(&server).await;
    proxy.mute_after_commits(corner.database.connections as usize);
    fill_pool(&server).await;
    assert_eq!(proxy.still_to_mute(), 0, "each connection has died");
    let query = format!("token={}", token_for("eve", "main"));
    comes_in(&server, &query).await;
    server.stop().await;
}

/// Asks many things at once, each on a connection of its own.
async fn fill_pool(server: &TestServer) {
    let path = "/v1/rooms/main/participants";
    futures::future::join_all((0..50).map(|_| server.get(path))).await;
}

/// Is refused for some seconds at most.
async fn comes_in(server: &TestServer, query: &str) {
    let coming = async {
        while let Err(refusal) = server.try_connect(query).await {
            scene::is_unavailable(&refusal);
        }
    };
    timeout(Duration::from_secs(6), coming)
        .await
        .expect("let in again");
}

//! Starting before the database does, and stopping without it.

use std::time::Duration;

use rollcall::config::{Database, Secret};
use rollcall_test_cluster::Cluster;
use serde_json::json;
use tokio::{task::block_in_place, time::Instant};

use crate::{
    database::Corner,
    harness::token_for,
    program::{Program, connect, get, make_room},
    proxy::Proxy,
    scene::heartbeat,
};

const PASSWORD: &str = "open-sesame";

fn says_no_password(program: &Program) {
    let log = format!("{:?}", program.log());
    assert!(!log.contains(PASSWORD), "a password is in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_starts_before_its_database_waits_for_it() {
    let cluster = block_in_place(Cluster::start);
    let user = format!("rollcall:{PASSWORD}@");
    let database = Database::at(cluster.url().replace("rollcall@", &user));
    block_in_place(|| cluster.stop());
    let mut program = Program::start(&database, &[]);
    let waiting = program.says("waiting for the database").await;
    let place = format!("rollcall at 127.0.0.1:{}", cluster.port());
    assert!(
        waiting["message"].as_str().unwrap().contains(&place),
        "{waiting}"
    );
    block_in_place(|| cluster.restart());
    let addr = program.listens().await;
    assert_eq!(get(addr, "/readyz").await.status, 200);
    says_no_password(&program);
    program.signal("-TERM").await;
    assert_eq!(program.ends().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_gives_up_on_a_database_that_does_not_come() {
    let corner = Corner::new();
    let proxy = Proxy::before(corner.database.url.expose()).await;
    proxy.cut();
    let mut database = corner.by_way_of(proxy.port());
    database.password = None;
    let url = database
        .url
        .expose()
        .replace("rollcall@", &format!("rollcall:{PASSWORD}@"));
    database.url = Secret::new(url);
    let mut program = Program::start(&database, &["--database-wait", "1s"]);
    assert_eq!(program.ends().await, Some(1), "{:#?}", program.log());
    let last = program.log().pop().unwrap();
    let words = last["message"].as_str().unwrap();
    assert!(words.contains("database"), "{words}");
    says_no_password(&program);
}

/// Waiting would not make it right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_ends_a_server_at_once() {
    let cluster = block_in_place(Cluster::start);
    let hba = block_in_place(|| cluster.psql("SHOW hba_file"));
    let rules = "host all rollcall all trust\nhost all app all scram-sha-256";
    block_in_place(|| {
        cluster.psql("CREATE ROLE app LOGIN PASSWORD 'right'");
        cluster.psql(&format!(
            "COPY (SELECT unnest(string_to_array('{rules}', E'\\n'))) TO '{hba}'"
        ));
        cluster.psql("SELECT pg_reload_conf()");
    });
    let user = format!("app:{PASSWORD}@");
    let database = Database::at(cluster.url().replace("rollcall@", &user));
    // It would wait for a minute.
    let mut program = Program::start(&database, &[]);
    assert_eq!(program.ends().await, Some(1), "{:#?}", program.log());
    let log = format!("{:?}", program.log());
    assert!(log.contains("password authentication failed"), "{log}");
    says_no_password(&program);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r6_sigterm_in_an_outage_says_what_is_lost() {
    stops_without(Proxy::cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r6_sigterm_beside_a_hanging_database_says_what_is_lost() {
    stops_without(Proxy::fall_silent).await;
}

async fn stops_without(begin_outage: fn(&Proxy)) {
    let corner = Corner::new();
    let proxy = Proxy::before(corner.database.url.expose()).await;
    let more = ["--drain-timeout", "2s", "--flush-interval", "200ms"];
    let mut program = Program::start(&corner.by_way_of(proxy.port()), &more);
    let addr = program.listens().await;
    make_room(addr, "main").await;
    let mut people = Vec::new();
    for n in 0..5 {
        let token = token_for(&format!("n{n}"), "main");
        people.push(connect(addr, &format!("token={token}")).await);
    }
    begin_outage(&proxy);
    for client in &mut people {
        heartbeat(client).await;
    }
    people.pop().unwrap().leave().await;
    program.says("flush failed").await;
    let stopped = Instant::now();
    program.signal("-TERM").await;
    let closes = people.iter_mut().map(crate::harness::Client::closed);
    let (codes, code) = tokio::join!(futures::future::join_all(closes), program.ends());
    assert_eq!((codes, code), (vec![1012; 4], Some(1)));
    // The drain, the last flush, and what closing takes.
    assert!(stopped.elapsed() < Duration::from_secs(2 + 5 + 3));
    let lost = program.says("the last flush failed").await;
    assert_eq!(
        (&lost["level"], &lost["rows"]),
        (&json!("ERROR"), &json!(5))
    );
}

//! What an outage makes the server remember is bounded by its people, not by what they do.

use serde_json::json;
use tokio::time::timeout;

use crate::{
    database::{Corner, Psql},
    harness::{Client, SOON, token_for},
    proxy::Proxy,
    scene::{self, AT_ONCE},
};

const PEOPLE: usize = 20;
const ROUNDS: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backlog_is_one_entry_a_participant() {
    let corner = Corner::new();
    let proxy = Proxy::before(corner.database.url.expose()).await;
    let server = scene::serve(scene::config(), &corner.by_way_of(proxy.port())).await;
    server.room("main").await;
    let mut people = Vec::new();
    for n in 0..PEOPLE {
        let query = format!("token={}", token_for(&format!("n{n}"), "main"));
        people.push(server.connect(&query).await);
    }
    proxy.cut();
    assert!(server.server.flusher().flush().await.is_err());
    for round in 0..ROUNDS {
        let rejoins = people
            .drain(..)
            .map(|client| rejoins(&server, client, round));
        let back = futures::future::join_all(rejoins).await;
        people.extend(back);
        let backlog = server.server.flusher().backlog().await;
        assert!(backlog <= PEOPLE, "{backlog} owed in round {round}");
    }
    for client in people.drain(..PEOPLE / 2) {
        client.leave().await;
    }
    assert_eq!(server.server.flusher().backlog().await, PEOPLE);

    // Counts what is written then, state by state.
    let mut psql = Psql::open(&corner.database).await;
    psql.run(
        "CREATE TABLE written (key bigint);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN INSERT INTO written VALUES (OLD.participant_key); RETURN NULL; END $$;
         CREATE TRIGGER note AFTER UPDATE OR DELETE ON participant_states FOR EACH ROW EXECUTE FUNCTION note()",
    )
    .await;
    psql.run("SELECT 1").await;
    proxy.heal();
    timeout(SOON, server.server.flusher().caught_up())
        .await
        .unwrap();
    let written = psql.one("SELECT count(*)::text FROM written").await;
    assert!(
        written.parse::<usize>().unwrap() <= PEOPLE,
        "{written} states"
    );
    let gone = "SELECT count(*)::text FROM participants WHERE NOT is_active";
    assert_eq!(psql.one(gone).await, (PEOPLE / 2).to_string());
    let left = "SELECT count(*)::text FROM participant_states WHERE state ->> 'round' = '59'";
    assert_eq!(psql.one(left).await, (PEOPLE - PEOPLE / 2).to_string());
    drop(people);
    server.stop().await;
}

/// Says something new of itself, breaks off and comes back by its resume token.
async fn rejoins(server: &crate::harness::TestServer, mut client: Client, round: usize) -> Client {
    client
        .send(json!({"type": "update", "state": {"round": round}}))
        .await;
    client.quiet().await;
    let resume = format!("resume={}", client.resume_token());
    client.drop_dead();
    let back = timeout(AT_ONCE, server.connect(&resume)).await.unwrap();
    assert_eq!(back.welcome["resumed"], true);
    back
}

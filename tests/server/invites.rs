//! Invites under load: uses counted exactly, an end that is an end, and tokens that nobody can read back.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::Arc,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::future::join_all;
use rollcall::{
    admission::hash,
    clock::Clock,
    config::Database,
    store::{NewInvite, postgres::PostgresStore},
};
use rollcall_protocol::{InviteId, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    harness::{Answer, Client, TestServer, config, open},
    offline::Offline,
};

const CROWD: usize = 1_000;

/// A server that lets everybody knock at once, with a room.
async fn rushed() -> TestServer {
    let server = TestServer::with(|config| config.limits.handshakes_per_second = None).await;
    server.room("room").await;
    server
}

/// The same on PostgreSQL; the cluster lives as long as what is returned with it.
async fn rushed_on_postgres() -> (TestServer, rollcall_test_cluster::Shared) {
    let cluster = rollcall_test_cluster::shared();
    let mut database = Database::at(cluster.url());
    database.schema = format!("test_{}", Uuid::now_v7().simple());
    let clock = Clock::system();
    let store = PostgresStore::open(&database, clock.clone()).await.unwrap();
    let mut config = config();
    config.limits.handshakes_per_second = None;
    let dir = Arc::new(TempDir::new().unwrap());
    let server = TestServer::on(config, Arc::new(store), dir, clock).await;
    server.room("room").await;
    (server, cluster)
}

/// How a crowd fared: who was let in, and how often each refusal was given. Who hears 503, on a machine that is too busy to decide
/// in time, asks again, as the protocol lets whoever has a `client`.
async fn rush(server: &TestServer, queries: Vec<String>) -> (Vec<Client>, BTreeMap<String, usize>) {
    let (mut sockets, mut refusals) = (Vec::new(), BTreeMap::new());
    let mut undecided = queries;
    while !undecided.is_empty() {
        let tries = undecided.iter().map(|query| open(server.addr, query, &[]));
        let outcomes = join_all(tries).await;
        let mut again = Vec::new();
        for (query, outcome) in undecided.into_iter().zip(outcomes) {
            match outcome {
                Ok(socket) => sockets.push(socket),
                Err(refusal) if refusal.status == 503 => again.push(query),
                Err(refusal) => {
                    let said = format!("{} {}", refusal.status, refusal.code());
                    *refusals.entry(said).or_default() += 1;
                }
            }
        }
        undecided = again;
    }
    let clients = join_all(sockets.into_iter().map(Client::greeted)).await;
    (clients, refusals)
}

async fn listed(server: &TestServer, path: &str) -> Vec<Value> {
    let answer = server.get(&format!("{path}?limit=1000")).await;
    answer.body["items"].as_array().unwrap().clone()
}

/// Everybody else is told that the invite is used up, and it shows in its uses and in the participants.
async fn check_uses(server: &TestServer, max_uses: usize) {
    let invite = server
        .invite_with("room", json!({"max_uses": max_uses}))
        .await;
    let client = |n| format!("invite={invite}&client=client-number-{n:06}");
    let (clients, refusals) = rush(server, (0..CROWD).map(client).collect()).await;
    let ids: BTreeSet<String> = clients.iter().map(Client::id).collect();
    assert_eq!((clients.len(), ids.len()), (max_uses, max_uses));
    let used_up = "410 invite_used_up".to_owned();
    assert_eq!(refusals, BTreeMap::from([(used_up, CROWD - max_uses)]));
    let invites = listed(server, "/v1/rooms/room/invites").await;
    assert_eq!(invites[0]["uses"], max_uses);
    let participants = listed(server, "/v1/rooms/room/participants").await;
    assert_eq!(participants.len(), max_uses);
}

/// One guest who tries a thousand times at once is one participant by one use, on as many connections as one may have.
async fn check_one_client(server: &TestServer) {
    let invite = server.invite_with("room", json!({"max_uses": 1})).await;
    let query = format!("invite={invite}&client=client-of-sixteen");
    let (clients, refusals) = rush(server, vec![query; CROWD]).await;
    let ids: BTreeSet<String> = clients.iter().map(Client::id).collect();
    assert_eq!((clients.len(), ids.len()), (10, 1));
    let too_many = "409 too_many_connections".to_owned();
    assert_eq!(refusals, BTreeMap::from([(too_many, CROWD - 10)]));
    let invites = listed(server, "/v1/rooms/room/invites").await;
    assert_eq!(invites[0]["uses"], 1);
    let participants = listed(server, "/v1/rooms/room/participants").await;
    assert_eq!(participants.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_a_thousand_gets_in_by_one_use() {
    let server = rushed().await;
    check_uses(&server, 1).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seven_of_a_thousand_get_in_by_seven_uses() {
    let server = rushed().await;
    check_uses(&server, 7).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tries_of_one_client_are_one_use() {
    let server = rushed().await;
    check_one_client(&server).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_a_thousand_gets_in_by_one_use_on_postgres() {
    let (server, _cluster) = rushed_on_postgres().await;
    check_uses(&server, 1).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tries_of_one_client_are_one_use_on_postgres() {
    let (server, _cluster) = rushed_on_postgres().await;
    check_one_client(&server).await;
    server.stop().await;
}

/// Who knocks again and again while the invite is revoked.
const KNOCKERS: usize = 16;
/// So many are in before it is.
const IN_BEFORE: u64 = 50;
/// So often each knocks once it is.
const AFTER: usize = 5;

async fn check_revoking(server: &TestServer) {
    let made = server.post("/v1/rooms/room/invites", json!({})).await.body;
    let (id, token) = (
        made["id"].as_str().unwrap(),
        made["token"].as_str().unwrap(),
    );
    let query = format!("invite={token}");
    let (is_over, admitted, undecided) = (Cell::new(false), Cell::new(0), Cell::new(0));
    let knockers = (0..KNOCKERS).map(|_| async {
        let mut after = 0;
        while after < AFTER {
            let began_after = is_over.get();
            match open(server.addr, &query, &[]).await {
                Ok(_) => {
                    assert!(!began_after, "let in by an invite that was revoked");
                    admitted.set(admitted.get() + 1);
                }
                // The machine was too busy to decide in time; it may have been admitted.
                Err(refusal) if refusal.status == 503 => undecided.set(undecided.get() + 1),
                Err(refusal) => {
                    assert_eq!((refusal.status, refusal.code()), (410, "invite_revoked"));
                    after += usize::from(began_after);
                }
            }
        }
    });
    let revoke = async {
        while admitted.get() < IN_BEFORE {
            tokio::task::yield_now().await;
        }
        let answer = server.delete(&format!("/v1/invites/{id}")).await;
        assert_eq!(answer.status, 204);
        is_over.set(true);
    };
    tokio::join!(join_all(knockers), revoke);
    let invites = listed(server, "/v1/rooms/room/invites").await;
    let uses = invites[0]["uses"].as_u64().unwrap();
    assert!(
        (admitted.get()..=admitted.get() + undecided.get()).contains(&uses),
        "{uses} uses, {admitted:?}, {undecided:?}"
    );
    assert!(invites[0]["revoked_at"].is_string());
}

#[tokio::test]
async fn nobody_gets_in_who_knocks_after_the_answer_to_a_revocation() {
    let server = rushed().await;
    check_revoking(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn nobody_gets_in_who_knocks_after_the_answer_to_a_revocation_on_postgres() {
    let (server, _cluster) = rushed_on_postgres().await;
    check_revoking(&server).await;
    server.stop().await;
}

/// To the millisecond, in paused time.
#[tokio::test(start_paused = true)]
async fn an_invite_ends_exactly_when_it_says() {
    let node = Offline::start(|_| {}).await;
    let invite = NewInvite {
        id: InviteId(Uuid::now_v7()),
        token_hash: hash("the-token"),
        expires_in: Some(Duration::from_secs(60)),
        max_uses: None,
    };
    let room = "room".parse().unwrap();
    let made = node.node.store.create_invite(&room, &invite).await.unwrap();
    let ends = made.unwrap().expires_at.unwrap();
    let before = Timestamp::from_millis(ends.as_millis() - 1);
    tokio::time::sleep(node.node.clock.until(before)).await;
    assert_eq!(node.node.clock.now(), before);
    let guest = node.connect("invite=the-token").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(node.node.clock.now(), ends);
    let refused = node.connect("invite=the-token").await.err().unwrap();
    assert_eq!(
        (refused.status, refused.code.as_str()),
        (410, "invite_expired")
    );
    guest.leave().await;
    node.stop().await;
}

/// The same on SQLite, whose clock goes on by itself.
#[tokio::test]
async fn an_invite_that_ended_says_so() {
    let clock = Clock::manual("2026-11-24T12:00:00.000Z".parse().unwrap());
    let dir = Arc::new(TempDir::new().unwrap());
    let server = TestServer::over(config(), dir, clock.clone()).await;
    server.room("room").await;
    let made = server.post(
        "/v1/rooms/room/invites",
        json!({"expires_in_seconds": 3000}),
    );
    let made = made.await.body;
    let token = made["token"].as_str().unwrap();
    let ends: Timestamp = made["expires_at"].as_str().unwrap().parse().unwrap();
    // A minute is more than this test takes.
    let is_near = clock.until(ends) - Duration::from_secs(60);
    clock.step(is_near.as_millis() as i64);
    server.join(token, "Ada").await.leave().await;
    clock.step(clock.until(ends).as_millis() as i64);
    let refused = refused(&server, &format!("invite={token}")).await;
    assert_eq!((refused.status, refused.code()), (410, "invite_expired"));
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(detail.contains("for a limited time only"), "{detail}");
    server.stop().await;
}

async fn refused(server: &TestServer, query: &str) -> Answer {
    let outcome = server.try_connect(query).await;
    outcome.err().expect("a refusal")
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn tokens_are_128_bits_shown_once_and_stored_as_their_hash() {
    let server = TestServer::start().await;
    server.room("room").await;
    let client = "client-that-nobody-reads";
    let mut tokens = BTreeSet::new();
    for _ in 0..100 {
        tokens.insert(server.invite("room").await);
    }
    assert_eq!(tokens.len(), 100);
    for token in &tokens {
        assert_eq!(URL_SAFE_NO_PAD.decode(token).unwrap().len(), 16);
    }
    let used = tokens.first().unwrap();
    let guest = server
        .connect(&format!("invite={used}&client={client}"))
        .await;
    server.flush().await;
    // The database, its log and whatever else is beside it.
    let files: Vec<Vec<u8>> = fs::read_dir(server.dir.path())
        .unwrap()
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    let is_stored = |part: &[u8]| files.iter().any(|file| holds(file, part));
    let list = server.get("/v1/rooms/room/invites").await.body;
    assert_eq!(list["items"].as_array().unwrap().len(), 100);
    let list = list.to_string();
    for token in &tokens {
        let bits = URL_SAFE_NO_PAD.decode(token).unwrap();
        assert!(!is_stored(token.as_bytes()) && !is_stored(&bits), "{token}");
        assert!(is_stored(&hash(token)), "what is looked for would be found");
        assert!(!list.contains(token.as_str()), "{list}");
    }
    assert!(!is_stored(client.as_bytes()) && is_stored(&hash(client)));
    guest.leave().await;
    server.stop().await;
}

/// What a removal does to a guest, to the link they came by, and to others who have it.
#[tokio::test]
async fn removals_bar_kick_or_end_the_link() {
    let client = "client=client-of-sixteen";
    // The query of the removal; what the guest gets by the same link, a guest without a `client`, and by resuming.
    let rows = [
        ("", Some("removed"), None, "removed"),
        ("?bar=true", Some("removed"), None, "removed"),
        ("?bar=false", None, None, "credential_invalid"),
        (
            "?revoke_invite=true",
            Some("invite_revoked"),
            Some("invite_revoked"),
            "removed",
        ),
        (
            "?bar=false&revoke_invite=true",
            Some("invite_revoked"),
            Some("invite_revoked"),
            "credential_invalid",
        ),
    ];
    for (query, same, other, resume) in rows {
        let server = TestServer::start().await;
        server.room("room").await;
        let invite = server.invite("room").await;
        let mut guest = server.connect(&format!("invite={invite}&{client}")).await;
        let path = format!("/v1/rooms/room/participants/{}", guest.id());
        let removed = server.delete(&format!("{path}{query}")).await;
        assert_eq!(removed.status, 204, "{query}");
        assert_eq!(guest.closed().await, 4403, "{query}");
        let by = |way: String| {
            let server = &server;
            async move {
                let outcome = server.try_connect(&way).await;
                outcome.err().map(|refusal| refusal.code().to_owned())
            }
        };
        let again = by(format!("invite={invite}&{client}")).await;
        assert_eq!(again.as_deref(), same, "{query}: the same guest");
        let stranger = by(format!("invite={invite}")).await;
        assert_eq!(stranger.as_deref(), other, "{query}: somebody new");
        let resumed = by(format!("resume={}", guest.resume_token())).await;
        assert_eq!(resumed.as_deref(), Some(resume), "{query}: resuming");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_restored_guest_is_the_one_they_were() {
    let server = TestServer::start().await;
    server.room("room").await;
    let invite = server.invite_with("room", json!({"max_uses": 1})).await;
    let query = format!("invite={invite}&client=client-of-sixteen");
    let mut guest = server.connect(&query).await;
    let path = format!("/v1/rooms/room/participants/{}", guest.id());
    for wrong in ["?bar=maybe", "?revoke_invite=1", "?bar="] {
        let answer = server.delete(&format!("{path}{wrong}")).await;
        assert_eq!((answer.status, answer.code()), (400, "bad_request"));
    }
    guest.quiet().await;
    // Once more is the same, and lifts nothing.
    for _ in 0..2 {
        assert_eq!(server.delete(&path).await.status, 204);
    }
    assert_eq!(guest.closed().await, 4403);
    assert_eq!(refused(&server, &query).await.code(), "removed");
    let restored = server.post(&format!("{path}/restore"), json!({})).await;
    assert_eq!(
        (restored.status, &restored.body["removed"]),
        (200, &json!(false))
    );
    let back = server.connect(&query).await;
    assert_eq!(back.id(), guest.id(), "the same participant");
    let invites = listed(&server, "/v1/rooms/room/invites").await;
    assert_eq!(invites[0]["uses"], 1, "by the same use");
    server.stop().await;
}

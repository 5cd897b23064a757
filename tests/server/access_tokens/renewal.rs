//! What becomes of a connection whose access token ends: it is told, it may bring a fresh one, or it is closed with 4401.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    NOW, Scene,
    issuer::{Issuer, hs256},
    key_server::{KeyServer, Manner},
    server,
};
use crate::harness::{JWT_SECRET, TestServer, token_for};

/// A client is told this long before.
const WARNING: Duration = Duration::from_secs(2);

fn signed(claims: &Value) -> String {
    hs256(JWT_SECRET.as_bytes(), &json!({"alg": "HS256"}), claims)
}

fn until(seconds: i64) -> String {
    signed(&json!({"sub": "ada", "room": "room", "exp": NOW + seconds}))
}

fn has_warning(said: &[Value]) -> bool {
    said.iter().any(|said| said["type"] == "token_expiring")
}

fn errors(said: &[Value]) -> Vec<&Value> {
    said.iter().filter(|said| said["type"] == "error").collect()
}

async fn warning() -> Scene {
    server(|config| config.expiry_warning = WARNING).await
}

/// Moves time on, and a little more: connections are looked at every 64 ms.
async fn pass(seconds: u64) {
    tokio::time::advance(Duration::from_millis(seconds * 1000 + 64)).await;
}

fn moment(seconds: i64) -> String {
    rollcall_protocol::Timestamp::from_millis((NOW + seconds) * 1000).to_string()
}

#[tokio::test(start_paused = true)]
async fn a_token_that_ends_is_announced_then_closes_with_4401() {
    let server = warning().await;
    let mut client = server.connect(&format!("token={}", until(5))).await;
    pass(2).await;
    assert!(!has_warning(&client.quiet().await), "too early");
    pass(1).await;
    let told = client.next_of("token_expiring").await;
    assert_eq!(told["expires_at"], moment(5));
    pass(1).await;
    assert!(!has_warning(&client.quiet().await), "told once");
    pass(1).await;
    assert_eq!(client.closed().await, 4401);

    // The resume token ends with the access token it came by.
    let refused = refusal(&server, &format!("resume={}", client.resume_token())).await;
    assert_eq!(refused, (401, "credential_expired".to_owned()));
    // A fresh access token is the same participant.
    let again = server.connect(&format!("token={}", until(60))).await;
    assert_eq!(again.id(), client.id());
    again.leave().await;
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_keeps_the_connection_and_counts_for_the_resume() {
    let server = warning().await;
    let mut client = server.connect(&format!("token={}", until(5))).await;
    pass(3).await;
    client.next_of("token_expiring").await;
    client
        .send(json!({"type": "token", "token": until(12)}))
        .await;
    // Nothing is said about a good token.
    assert!(errors(&client.quiet().await).is_empty());
    let resume = client.resume_token();
    client.drop_dead();

    let mut again = server.connect(&format!("resume={resume}")).await;
    assert_eq!(again.welcome["resumed"], true);
    // Beyond the first end, up to the second.
    pass(7).await;
    let told = again.next_of("token_expiring").await;
    assert_eq!(told["expires_at"], moment(12));
    // What was issued after the fresh token ends with that; the old one is over.
    let expired = (401, "credential_expired".to_owned());
    assert_eq!(refusal(&server, &format!("resume={resume}")).await, expired);
    let newer = again.resume_token();
    again.drop_dead();
    let mut last = server.connect(&format!("resume={newer}")).await;
    assert_eq!(last.welcome["resumed"], true);
    pass(2).await;
    assert_eq!(last.closed().await, 4401);
    assert_eq!(refusal(&server, &format!("resume={newer}")).await, expired);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_that_does_not_fit_leaves_the_old_end() {
    let server = warning().await;
    let mut client = server.connect(&format!("token={}", until(5))).await;
    let fresh = |name: &str, value: Value| {
        let mut claims = json!({"sub": "ada", "room": "room", "exp": NOW + 60});
        claims[name] = value;
        signed(&claims)
    };
    let rows = [
        ("another user's", fresh("sub", json!("eve"))),
        ("another room's", fresh("room", json!("other"))),
        ("other rooms'", fresh("room", json!(["other", "another"]))),
        ("expired", fresh("exp", json!(NOW - 1))),
        ("not valid yet", fresh("nbf", json!(NOW + 30))),
        ("forged", format!("{}x", fresh("sub", json!("ada")))),
        ("too long", "x".repeat(9 * 1024)),
        ("nonsense", "nonsense".to_owned()),
        ("empty", String::new()),
    ];
    for (name, token) in rows {
        client
            .send(json!({"type": "token", "token": token, "ref": name}))
            .await;
        let error = client.next_of("error").await;
        assert_eq!(
            (&error["code"], &error["ref"]),
            (&json!("credential_invalid"), &json!(name)),
            "{error}"
        );
    }
    pass(5).await;
    assert_eq!(client.closed().await, 4401, "the old end stays");

    // Several rooms are fine where this one is among them.
    for rooms in [json!("*"), json!(["other", "room"])] {
        let mut client = server.connect(&format!("token={}", until(8))).await;
        client
            .send(json!({"type": "token", "token": fresh("room", rooms)}))
            .await;
        assert!(errors(&client.quiet().await).is_empty());
        client.leave().await;
    }
    // A guest has no token to renew.
    let invite = server.invite("room").await;
    let mut guest = server.join(&invite, "Guest").await;
    guest
        .send(json!({"type": "token", "token": until(60)}))
        .await;
    assert_eq!(guest.next_of("error").await["code"], "credential_invalid");
    guest.leave().await;
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_of_a_new_key_is_waited_for() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let keys = KeyServer::start(Manner::Keys(vec![old.jwk("EdDSA", "old")])).await;
    let server = server(|config| {
        config.expiry_warning = WARNING;
        config.jwks = Some(keys.source());
    })
    .await;
    let token = |issuer: &Issuer, kid: &str, seconds: i64| {
        issuer.token(
            &json!({"alg": "EdDSA", "kid": kid}),
            &json!({"sub": "ada", "room": "room", "exp": NOW + seconds}),
        )
    };
    let mut client = server
        .connect(&format!("token={}", token(&old, "old", 20)))
        .await;
    pass(11).await;
    keys.behave(Manner::Keys(vec![new.jwk("EdDSA", "new")]));
    let fresh = token(&new, "new", 60);
    client.send(json!({"type": "token", "token": fresh})).await;
    // Meanwhile others are told to wait, and the connection goes on; then the check is over.
    let over = loop {
        client
            .send(json!({"type": "token", "token": "nonsense"}))
            .await;
        let said = client.quiet().await;
        let [error] = errors(&said)[..] else {
            panic!("{said:?}")
        };
        if error["code"] != "rate_limited" {
            break error["code"].clone();
        }
        // For the limit on messages only; the check waits for two seconds at most.
        tokio::time::advance(Duration::from_millis(20)).await;
    };
    assert_eq!(over, "credential_invalid");
    assert_eq!(keys.asked(), 2);
    // The old end passes.
    pass(10).await;
    assert!(errors(&client.quiet().await).is_empty());
    client.leave().await;
    server.stop().await;
}

/// The status and the code of a refusal.
async fn refusal(server: &TestServer, query: &str) -> (u16, String) {
    let refused = server.try_connect(query).await.err().expect("refused");
    (refused.status, refused.code().to_owned())
}

/// Over a real database and the system's clock: what a laptop finds that wakes up after its token has ended.
#[tokio::test]
async fn a_stale_token_is_told_from_a_bad_one() {
    let server = TestServer::start().await;
    server.room("room").await;
    let now = server.clock.now().as_millis() / 1000;
    let stale = crate::harness::jwt(&json!({"sub": "ada", "room": "room", "exp": now - 3600}));
    let refused = server
        .try_connect(&format!("token={stale}"))
        .await
        .err()
        .unwrap();
    assert_eq!(
        (refused.status, refused.code()),
        (401, "credential_expired")
    );
    server
        .connect(&format!("token={}", token_for("ada", "room")))
        .await
        .leave()
        .await;
    server.stop().await;
}

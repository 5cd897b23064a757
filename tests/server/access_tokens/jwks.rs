//! Keys that come from elsewhere: they change, they are away, and strangers name keys that never were.

use std::{sync::Arc, time::Duration};

use rollcall::{admission::JwksSource, clock::Clock, config::Secret};
use serde_json::{Value, json};
use tokio::time::advance;

use super::{
    NOW, Scene, ask,
    issuer::{ALGORITHMS, Issuer, encode, hs256},
    key_server::{KeyServer, Manner},
    server, verdict,
};
use crate::harness::{TestServer, open};

const INVALID: &str = "credential_invalid";
const UNAVAILABLE: &str = "keys_unavailable";

/// Unknown key ids cause one read in this time.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// The default, and the jitter on it.
const INTERVAL: Duration = Duration::from_secs(331);
/// The longest wait after a first failure.
const RETRY: Duration = Duration::from_secs(1);

fn claims() -> Value {
    json!({"sub": "ada", "room": "room", "exp": NOW + 36_000})
}

fn token(issuer: &Issuer, algorithm: &str, kid: Option<&str>) -> String {
    let mut header = json!({"alg": algorithm});
    if let Some(kid) = kid {
        header["kid"] = kid.into();
    }
    issuer.token(&header, &claims())
}

async fn reading(source: JwksSource) -> Scene {
    server(|config| {
        config.jwt_secret = None;
        config.jwks = Some(source);
    })
    .await
}

async fn metric(server: &TestServer, name: &str) -> i64 {
    let text = server.get("/metrics").await.body;
    let text = text.as_str().unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("rollcall_{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
        .parse()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn keys_change_without_a_restart() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let keys = KeyServer::start(Manner::Keys(
        ALGORITHMS
            .map(|name| old.jwk(name, &format!("old-{name}")))
            .to_vec(),
    ))
    .await;
    let server = reading(keys.source()).await;
    for name in ALGORITHMS {
        let kid = format!("old-{name}");
        assert_eq!(
            verdict(&server, &token(&old, name, Some(&kid))).await,
            "admit"
        );
        assert_eq!(verdict(&server, &token(&old, name, None)).await, "admit");
        assert_eq!(
            verdict(&server, &token(&new, name, Some(&kid))).await,
            INVALID
        );
        // The right key under the name of another.
        assert_eq!(
            verdict(&server, &token(&old, name, Some("old-other"))).await,
            INVALID
        );
    }
    assert_eq!(metric(&server, "jwks_keys").await, 3);
    assert!(metric(&server, "jwks_last_success_timestamp_seconds").await >= NOW);

    let asked = keys.asked();
    keys.behave(Manner::Keys(vec![new.jwk("ES256", "new")]));
    advance(ASK_EVERY).await;
    assert_eq!(
        verdict(&server, &token(&new, "ES256", Some("new"))).await,
        "admit"
    );
    assert_eq!(keys.asked(), asked + 1, "asked at once, and once");
    assert_eq!(
        verdict(&server, &token(&old, "ES256", Some("old-ES256"))).await,
        INVALID,
        "the key that was taken out"
    );
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn keys_are_read_again_every_interval() {
    let issuer = Issuer::new();
    let mut keys = KeyServer::start(Manner::Keys(vec![issuer.jwk("EdDSA", "key")])).await;
    let server = reading(keys.source()).await;
    assert_eq!(
        verdict(&server, &token(&issuer, "EdDSA", None)).await,
        "admit"
    );
    for reads in 2..5 {
        advance(INTERVAL).await;
        keys.was_asked(reads).await;
        // The read is over, and the next is planned.
        assert_eq!(
            verdict(&server, &token(&issuer, "EdDSA", Some("unknown"))).await,
            INVALID
        );
    }
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_unknown_keys_asks_once() {
    let issuer = Arc::new(Issuer::new());
    let keys = KeyServer::start(Manner::Keys(vec![issuer.jwk("EdDSA", "key")])).await;
    let server = reading(keys.source()).await;
    let good = token(&issuer, "EdDSA", Some("key"));
    assert_eq!(verdict(&server, &good).await, "admit");
    assert_eq!(keys.asked(), 1);
    advance(ASK_EVERY).await;
    for round in 0..10 {
        let tokens = (0..100).map(|at| {
            let kid = format!("bad-{round}-{at}");
            token(&issuer, "EdDSA", Some(&kid))
        });
        let asks = tokens.map(|token| {
            let server = &server;
            async move { verdict(server, &token).await }
        });
        let verdicts = futures::future::join_all(asks).await;
        assert!(verdicts.iter().all(|code| code == INVALID), "{verdicts:?}");
        assert_eq!(verdict(&server, &good).await, "admit");
    }
    assert_eq!(keys.asked(), 2, "1,000 unknown keys, one question");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_address_that_is_down_is_not_held_against_the_client() {
    let issuer = Issuer::new();
    let mut keys = KeyServer::start(Manner::Down).await;
    // It starts all the same.
    let server = reading(keys.source()).await;
    let good = token(&issuer, "ES256", Some("key"));
    let refused = ask(&server, &good).await;
    assert_eq!((refused.status, refused.code()), (503, UNAVAILABLE));
    assert!(refused.headers.contains_key("retry-after"));
    assert!(refused.body["retry_after_ms"].as_u64().unwrap() > 0);
    let nameless = token(&issuer, "ES256", None);
    assert_eq!(verdict(&server, &nameless).await, UNAVAILABLE);
    // What no key could make good is refused for good.
    for hopeless in [
        hs256(&[7; 32], &json!({"alg": "HS256", "kid": "key"}), &claims()),
        hs256(&[7; 32], &json!({"alg": "none"}), &claims()),
        "nonsense".to_owned(),
    ] {
        assert_eq!(verdict(&server, &hopeless).await, INVALID);
    }
    let query = format!("token={good}&refusal=close");
    let mut socket = open(server.addr, &query, &[])
        .await
        .expect("upgraded to be closed");
    let closed = crate::harness::receive(&mut socket)
        .await
        .unwrap_err()
        .unwrap();
    assert_eq!(
        (u16::from(closed.code), closed.reason.as_str()),
        (4503, UNAVAILABLE)
    );
    assert!(metric(&server, "jwks_failures_total").await >= 1);
    assert_eq!(
        metric(&server, "jwks_last_success_timestamp_seconds").await,
        0
    );

    // It is tried again by itself.
    let asked = keys.asked();
    keys.behave(Manner::Keys(vec![issuer.jwk("ES256", "key")]));
    advance(RETRY).await;
    keys.was_asked(asked + 1).await;
    assert_eq!(verdict(&server, &good).await, "admit");

    // Down later: what is known stays good, what is not may be.
    keys.behave(Manner::Down);
    advance(ASK_EVERY).await;
    let unknown = token(&issuer, "ES256", Some("new"));
    assert_eq!(verdict(&server, &unknown).await, UNAVAILABLE);
    assert_eq!(verdict(&server, &good).await, "admit");
    let stranger = token(&Issuer::new(), "ES256", Some("key"));
    assert_eq!(verdict(&server, &stranger).await, INVALID);

    let asked = keys.asked();
    keys.behave(Manner::Keys(vec![issuer.jwk("ES256", "new")]));
    advance(RETRY).await;
    keys.was_asked(asked + 1).await;
    assert_eq!(verdict(&server, &unknown).await, "admit");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_no_keys_change_nothing() {
    let issuer = Issuer::new();
    let jwk = issuer.jwk("RS256", "key");
    let keys = KeyServer::start(Manner::Keys(vec![jwk.clone()])).await;
    let elsewhere = KeyServer::start(Manner::Keys(vec![issuer.jwk("RS256", "new")])).await;
    let server = reading(keys.source()).await;
    let good = token(&issuer, "RS256", Some("key"));
    let unknown = token(&issuer, "RS256", Some("new"));
    assert_eq!(verdict(&server, &good).await, "admit");
    let huge = json!({"keys": [jwk], "padding": "x".repeat(1024 * 1024)}).to_string();
    let many = Manner::Keys(
        (0..101)
            .map(|at| issuer.jwk("RS256", &at.to_string()))
            .collect(),
    );
    let manners = [
        Manner::Body("<!doctype html><title>Sign in</title>".to_owned()),
        Manner::Body(String::new()),
        Manner::Body("[]".to_owned()),
        Manner::Body("{\"keys\":{}}".to_owned()),
        Manner::Body(huge),
        many,
        Manner::Broken,
        Manner::Redirect(302, elsewhere.address().to_owned()),
        Manner::Redirect(308, elsewhere.address().to_owned()),
    ];
    for manner in manners {
        let named = format!("{manner:?}");
        let named: String = named.chars().take(60).collect();
        keys.behave(manner);
        advance(ASK_EVERY).await;
        assert_eq!(verdict(&server, &unknown).await, UNAVAILABLE, "{named}");
        assert_eq!(verdict(&server, &good).await, "admit", "{named}");
    }
    assert_eq!(elsewhere.asked(), 0, "redirects are not followed");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn keys_of_no_use_are_passed_over() {
    let issuer = Issuer::new();
    let good = issuer.jwk("ES256", "good");
    let change = |name: &str, value: Value| {
        let mut jwk = issuer.jwk("ES256", "bad");
        jwk[name] = value;
        jwk
    };
    let small = encode(&[0xff; 128]);
    let keys = KeyServer::start(Manner::Keys(vec![
        json!(7),
        json!({}),
        json!({"kty": "oct", "kid": "bad", "k": encode(&[7; 32])}),
        json!({"kty": "RSA", "kid": "bad", "n": small, "e": "AQAB"}),
        json!({"kty": "RSA", "kid": "bad", "n": issuer.jwk("RS256", "")["n"], "e": "AQ"}),
        change("use", json!("enc")),
        change("key_ops", json!(["sign"])),
        change("alg", json!("ES384")),
        change("alg", json!("HS256")),
        change("crv", json!("P-384")),
        change("crv", json!("secp256k1")),
        change("kty", json!("AKP")),
        change("kid", json!(7)),
        change("x", json!("AAAA")),
        change("y", good["x"].clone()),
        good.clone(),
        good,
    ]))
    .await;
    let server = reading(keys.source()).await;
    assert_eq!(
        verdict(&server, &token(&issuer, "ES256", Some("good"))).await,
        "admit"
    );
    assert_eq!(
        verdict(&server, &token(&issuer, "ES256", Some("bad"))).await,
        INVALID
    );
    assert_eq!(
        verdict(&server, &token(&issuer, "ES256", Some("7"))).await,
        INVALID
    );
    let secret = hs256(&[7; 32], &json!({"alg": "HS256", "kid": "bad"}), &claims());
    assert_eq!(verdict(&server, &secret).await, INVALID);
    assert_eq!(
        metric(&server, "jwks_keys").await,
        2,
        "duplicates are no mistake"
    );
    server.stop().await;
}

/// In real time: a thread that waits for an answer holds paused time.
#[tokio::test]
async fn a_server_that_hangs_delays_a_token_by_two_seconds_at_most() {
    let issuer = Issuer::new();
    let mut keys = KeyServer::start(Manner::Hangs).await;
    let server = TestServer::with(|config| {
        config.jwks = Some(keys.source());
        config.jwt_secret = Some(Secret::new("0123456789abcdef0123456789abcdef"));
    })
    .await;
    server.room("room").await;
    keys.was_asked(1).await;
    let named = token(&issuer, "EdDSA", Some("key"));
    let refused = ask(&server, &named).await;
    assert_eq!((refused.status, refused.code()), (503, UNAVAILABLE));
    // Who does not need it does not wait for it.
    let mut claims = claims();
    claims["exp"] = json!(Clock::system().now().as_millis() / 1000 + 60);
    let secret = hs256(
        b"0123456789abcdef0123456789abcdef",
        &json!({"alg": "HS256"}),
        &claims,
    );
    let (first, second) = tokio::join!(verdict(&server, &named), verdict(&server, &secret));
    assert_eq!((first.as_str(), second.as_str()), (UNAVAILABLE, "admit"));
    assert_eq!(keys.asked(), 1, "one question at a time");
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_file_is_read_again_when_a_token_names_an_unknown_key() {
    let (old, new) = (Issuer::new(), Issuer::new());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    let write = |keys: Value| std::fs::write(&path, json!({ "keys": keys }).to_string()).unwrap();
    let secret = json!({"kty": "oct", "kid": "secret", "k": encode(&[7; 32])});
    write(json!([old.jwk("RS256", "old"), secret]));
    let server = reading(JwksSource::File(path.clone())).await;
    assert_eq!(
        verdict(&server, &token(&old, "RS256", Some("old"))).await,
        "admit"
    );
    // Nobody else reads a file: it may hold a secret.
    let signed = hs256(
        &[7; 32],
        &json!({"alg": "HS256", "kid": "secret"}),
        &claims(),
    );
    assert_eq!(verdict(&server, &signed).await, "admit");

    // A file that is half written keeps the old keys.
    std::fs::write(&path, "{\"keys\":[").unwrap();
    advance(ASK_EVERY).await;
    let fresh = token(&new, "RS256", Some("new"));
    assert_eq!(verdict(&server, &fresh).await, UNAVAILABLE);
    assert_eq!(
        verdict(&server, &token(&old, "RS256", Some("old"))).await,
        "admit"
    );

    write(json!([new.jwk("RS256", "new")]));
    advance(ASK_EVERY).await;
    assert_eq!(verdict(&server, &fresh).await, "admit");
    assert_eq!(
        verdict(&server, &token(&old, "RS256", Some("old"))).await,
        INVALID
    );

    std::fs::remove_file(&path).unwrap();
    advance(ASK_EVERY).await;
    assert_eq!(
        verdict(&server, &token(&new, "RS256", Some("newer"))).await,
        UNAVAILABLE
    );
    assert_eq!(verdict(&server, &fresh).await, "admit");
    server.stop().await;
}

//! Tokens that must not let anybody in, each one change away from one that does.

use base64::{Engine, engine::general_purpose::URL_SAFE};
use rollcall::admission::VerifyingKey;
use rollcall_protocol::Timestamp;
use serde_json::{Value, json};

use super::{
    NOW, Scene, ask,
    issuer::{ALGORITHMS, Issuer, encode, hs256, message},
    server, verdict,
};
use crate::harness::{JWT_SECRET, TestServer};

const INVALID: &str = "credential_invalid";
const EXPIRED: &str = "credential_expired";

fn claims() -> Value {
    json!({"sub": "ada", "room": "room", "exp": NOW + 3600, "iss": "login", "aud": "rollcall"})
}

/// The good claims, with one changed; `null` takes it out.
fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

fn header(algorithm: &str) -> Value {
    json!({"alg": algorithm, "typ": "JWT"})
}

/// Takes all of the issuer's keys and a secret, and knows who signs, and for whom.
async fn strict(issuer: &Issuer) -> Scene {
    let pem: String = ALGORITHMS.iter().map(|name| issuer.pem(name)).collect();
    server(|config| {
        config.jwt_public_keys = VerifyingKey::from_pem(&pem).unwrap();
        config.jwt_issuer = Some("login".to_owned());
        config.jwt_audience = Some("rollcall".to_owned());
    })
    .await
}

async fn assert_verdicts(server: &TestServer, rows: &[(&str, String, &str)]) {
    for (name, token, expected) in rows {
        let answer = ask(server, token).await;
        assert_eq!(
            (answer.status, answer.code()),
            (401, *expected),
            "{name}: {}",
            answer.body
        );
    }
}

#[tokio::test(start_paused = true)]
async fn every_algorithm_lets_in_who_is_vouched_for() {
    let issuer = Issuer::new();
    let server = strict(&issuer).await;
    for name in ALGORITHMS {
        let token = issuer.token(&header(name), &claims());
        assert_eq!(verdict(&server, &token).await, "admit", "{name}");
        // What a header brings along is not looked at.
        let mut rich = header(name);
        rich["kid"] = "unknown".into();
        rich["jwk"] = Issuer::new().jwk(name, "evil");
        rich["jku"] = "http://127.0.0.1:1/jwks.json".into();
        rich["x5u"] = "http://127.0.0.1:1/cert.pem".into();
        let token = issuer.token(&rich, &claims());
        assert_eq!(
            verdict(&server, &token).await,
            "admit",
            "{name}, rich header"
        );
    }
    let secret = JWT_SECRET.as_bytes();
    let good = [
        claims(),
        with("aud", json!(["others", "rollcall"])),
        with("exp", json!(NOW as f64 + 0.5)),
        with("exp", json!(1e18)),
        with("nbf", json!(NOW)),
        with("room", json!(["room"])),
        with("name", json!("Ada Lovelace 🧮")),
        with("unknown", json!({"deeply": [{"nested": null}]})),
    ];
    for claims in good {
        let token = hs256(secret, &header("HS256"), &claims);
        let room = if claims["room"].is_array() {
            "&room=room"
        } else {
            ""
        };
        let answer = server
            .get(&format!("/v1/connect?token={token}{room}"))
            .await;
        assert_eq!(answer.status, 200, "{claims}: {}", answer.body);
    }
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn forged_signatures_and_confused_algorithms_are_refused() {
    let issuer = Issuer::new();
    let stranger = Issuer::new();
    let server = strict(&issuer).await;
    let mut rows: Vec<(&str, String, &str)> = Vec::new();
    for name in ALGORITHMS {
        let good = issuer.token(&header(name), &claims());
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let (head, payload) = signed.split_once('.').unwrap();
        let admin = encode(with("sub", json!("admin")).to_string().as_bytes());
        let jwk = issuer.jwk(name, "kid").to_string();
        let (pem, der) = (issuer.pem(name), issuer.der(name));
        let confused = |secret: &[u8]| hs256(secret, &header("HS256"), &claims());
        let mut own_key = header(name);
        own_key["jwk"] = stranger.jwk(name, "evil");
        rows.extend([
            (
                "another's key",
                stranger.token(&header(name), &claims()),
                INVALID,
            ),
            (
                "another's key, brought along",
                stranger.token(&own_key, &claims()),
                INVALID,
            ),
            ("stripped signature", format!("{signed}."), INVALID),
            ("no third part", signed.to_owned(), INVALID),
            ("a fourth part", format!("{good}.{signature}"), INVALID),
            (
                "another payload",
                format!("{head}.{admin}.{signature}"),
                INVALID,
            ),
            (
                "swapped parts",
                format!("{payload}.{head}.{signature}"),
                INVALID,
            ),
            (
                "half a signature",
                format!("{signed}.{}", &signature[..signature.len() / 2]),
                INVALID,
            ),
            ("HS256 with the PEM", confused(pem.as_bytes()), INVALID),
            (
                "HS256 with the PEM, trimmed",
                confused(pem.trim().as_bytes()),
                INVALID,
            ),
            ("HS256 with the DER", confused(&der), INVALID),
            ("HS256 with the JWK", confused(jwk.as_bytes()), INVALID),
        ]);
        // A good signature under the name of another algorithm.
        for other in [
            "RS256", "ES256", "EdDSA", "HS256", "RS384", "PS256", "ES384", "ES512",
        ] {
            if other != name {
                let message = message(&header(other).to_string(), &claims().to_string());
                let signature = issuer.sign(name, message.as_bytes());
                let token = format!("{message}.{}", encode(&signature));
                rows.push(("another algorithm's name", token, INVALID));
            }
        }
    }
    // ECDSA signatures as ASN.1, and all zeros (CVE-2022-21449).
    let signed = message(&header("ES256").to_string(), &claims().to_string());
    rows.push((
        "zero signature",
        format!("{signed}.{}", encode(&[0; 64])),
        INVALID,
    ));
    for name in [
        "none", "None", "NONE", "nOnE", "", " none", "HS384", "HS512", "rs256", "hs256", "Ed25519",
    ] {
        let signed = message(&header(name).to_string(), &claims().to_string());
        rows.push(("alg none, unsigned", format!("{signed}."), INVALID));
        let signature = issuer.sign("RS256", signed.as_bytes());
        rows.push((
            "alg none, signed",
            format!("{signed}.{}", encode(&signature)),
            INVALID,
        ));
    }
    rows.push((
        "HS256 with no secret",
        hs256(b"", &header("HS256"), &claims()),
        INVALID,
    ));
    rows.push((
        "HS256 with another secret",
        hs256(&[7; 32], &header("HS256"), &claims()),
        INVALID,
    ));
    assert_verdicts(&server, &rows).await;
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn malformed_headers_are_refused() {
    let issuer = Issuer::new();
    let server = strict(&issuer).await;
    let raw = |header: &str| {
        let message = message(header, &claims().to_string());
        let signature = issuer.sign("RS256", message.as_bytes());
        format!("{message}.{}", encode(&signature))
    };
    let headers = [
        "",
        "null",
        "[]",
        "\"RS256\"",
        "{",
        "{}",
        "{\"alg\":null}",
        "{\"alg\":[\"RS256\"]}",
        "{\"alg\":256}",
        "{\"alg\":{\"alg\":\"RS256\"}}",
        "{\"ALG\":\"RS256\"}",
        "{\"alg\":\"RS256\",\"alg\":\"none\"}",
        "{\"alg\":\"none\",\"alg\":\"RS256\"}",
        "{\"alg\":\"RS256\",\"kid\":7}",
        "{\"alg\":\"RS256\",\"kid\":[\"a\"]}",
        "{\"alg\":\"RS256\",\"kid\":{\"a\":1}}",
        "{\"alg\":\"RS256\",\"crit\":[]}",
        "{\"alg\":\"RS256\",\"crit\":[\"exp\"],\"exp\":1}",
        "{\"alg\":\"RS256\",\"crit\":[\"b64\"],\"b64\":false}",
        "{\"alg\":\"RS256\",\"crit\":\"b64\"}",
        "{\"alg\":\"R\\u0053256\\u0000\"}",
        "{\"alg\":\"RS256\"}{\"alg\":\"RS256\"}",
        "\u{feff}{\"alg\":\"RS256\"}",
        "{\"alg\":\"RS256\",\"jwk\":7}",
        "{\"alg\":\"ＲＳ２５６\"}",
    ];
    let rows: Vec<_> = headers
        .iter()
        .map(|header| (*header, raw(header), INVALID))
        .collect();
    assert_verdicts(&server, &rows).await;

    let good = issuer.token(&header("RS256"), &claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let padded = URL_SAFE.encode(header("RS256").to_string());
    let deep = format!(
        "{{\"alg\":\"RS256\",\"x\":{}1{}}}",
        "[".repeat(500),
        "]".repeat(500)
    );
    let rows = [
        ("nonsense", "nonsense".to_owned(), INVALID),
        ("dots", "..".to_owned(), INVALID),
        ("many dots", ".".repeat(500), INVALID),
        (
            "no header",
            format!(".{}", good.split_once('.').unwrap().1),
            INVALID,
        ),
        (
            "JSON, not encoded",
            format!("{}.{}.x", header("RS256"), claims()),
            INVALID,
        ),
        (
            "standard alphabet",
            format!("{signed}.{}", signature.replace(['-', '_'], "/")),
            INVALID,
        ),
        ("padding", good.replacen('.', "=.", 1), INVALID),
        (
            "padded header",
            good.replacen(good.split('.').next().unwrap(), &format!("{padded}="), 1),
            INVALID,
        ),
        ("blanks around", format!(" {good} "), INVALID),
        ("a line feed", good.replacen('.', "\n.", 1), INVALID),
        ("unicode", good.replacen('.', "·", 1), INVALID),
        ("a null byte", format!("{good}\0"), INVALID),
        ("deeply nested", raw(&deep), INVALID),
    ];
    assert_verdicts(&server, &rows).await;

    let long = format!("{good}{}", "A".repeat(8 * 1024));
    let answer = ask(&server, &long).await;
    assert_eq!(
        (answer.status, answer.code()),
        (400, "bad_request"),
        "over 8 KiB"
    );
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn wrong_claims_are_refused_though_well_signed() {
    let issuer = Issuer::new();
    let server = strict(&issuer).await;
    let rows = [
        ("exp", Value::Null, INVALID),
        ("exp", json!("tomorrow"), INVALID),
        ("exp", json!("1895514400"), INVALID),
        ("exp", json!([NOW + 60]), INVALID),
        ("exp", json!(true), INVALID),
        ("exp", json!(1e300), INVALID),
        ("exp", json!(-1), INVALID),
        ("exp", json!(-1e300), INVALID),
        ("exp", json!(i64::MIN), INVALID),
        ("exp", json!(0), EXPIRED),
        ("exp", json!(NOW), EXPIRED),
        ("exp", json!(NOW - 1), EXPIRED),
        ("exp", json!(NOW as f64 - 0.001), EXPIRED),
        ("nbf", json!(NOW + 1), INVALID),
        ("nbf", json!(1e300), INVALID),
        ("nbf", json!("now"), INVALID),
        ("nbf", json!([0]), INVALID),
        ("sub", Value::Null, INVALID),
        ("sub", json!(""), INVALID),
        ("sub", json!(7), INVALID),
        ("sub", json!(["ada"]), INVALID),
        ("sub", json!("a b"), INVALID),
        ("sub", json!("ädá"), INVALID),
        ("sub", json!("x".repeat(129)), INVALID),
        ("sub", json!("ada\u{0}"), INVALID),
        ("iss", Value::Null, INVALID),
        ("iss", json!("evil"), INVALID),
        ("iss", json!("Login"), INVALID),
        ("iss", json!("login "), INVALID),
        ("iss", json!(7), INVALID),
        ("iss", json!({"login": 1}), INVALID),
        ("aud", Value::Null, INVALID),
        ("aud", json!("others"), INVALID),
        ("aud", json!([]), INVALID),
        ("aud", json!(["others"]), INVALID),
        ("aud", json!({"aud": "rollcall"}), INVALID),
        ("room", Value::Null, INVALID),
        ("room", json!("a b"), INVALID),
        ("room", json!(7), INVALID),
        ("room", json!([["room"]]), INVALID),
        ("room", json!(["room", 7]), INVALID),
        ("name", json!(""), INVALID),
        ("name", json!("x".repeat(65)), INVALID),
        ("name", json!(["Ada"]), INVALID),
        ("create", json!("true"), INVALID),
        ("create", json!(1), INVALID),
    ];
    for (name, value, expected) in rows {
        let token = issuer.token(&header("EdDSA"), &with(name, value.clone()));
        let answer = ask(&server, &token).await;
        assert_eq!(
            (answer.status, answer.code()),
            (401, expected),
            "{name} = {value}: {}",
            answer.body
        );
    }
    for payload in [
        "",
        "null",
        "[]",
        "{",
        "\"ada\"",
        "{\"sub\":\"ada\",\"sub\":\"eve\",\"exp\":9999999999,\"room\":\"room\"}",
    ] {
        let message = message(&header("EdDSA").to_string(), payload);
        let token = format!(
            "{message}.{}",
            encode(&issuer.sign("EdDSA", message.as_bytes()))
        );
        assert_eq!(verdict(&server, &token).await, INVALID, "{payload}");
    }
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn leeway_counts_for_exp_and_nbf_and_no_longer() {
    let server = server(|config| config.jwt_leeway = std::time::Duration::from_secs(30)).await;
    let rows = [
        (json!({"exp": NOW - 29}), "admit"),
        (json!({"exp": NOW - 30}), EXPIRED),
        (json!({"exp": NOW + 60, "nbf": NOW + 30}), "admit"),
        (json!({"exp": NOW + 60, "nbf": NOW + 31}), INVALID),
    ];
    for (times, expected) in rows {
        let mut claims = json!({"sub": "ada", "room": "room"});
        claims
            .as_object_mut()
            .unwrap()
            .extend(times.as_object().unwrap().clone());
        let token = hs256(JWT_SECRET.as_bytes(), &header("HS256"), &claims);
        assert_eq!(verdict(&server, &token).await, expected, "{times}");
    }
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_end_beyond_all_calendars_is_shown_and_resumed_from() {
    let server = server(|_| {}).await;
    let token = hs256(
        JWT_SECRET.as_bytes(),
        &header("HS256"),
        &json!({"sub": "ada", "room": "room", "exp": 1e18}),
    );
    let client = server.connect(&format!("token={token}")).await;
    let resume = client.resume_token();
    client.drop_dead();
    let mut again = server.connect(&format!("resume={resume}")).await;
    assert_eq!(again.welcome["resumed"], true);
    again.quiet().await;
    again.leave().await;
    server.stop().await;
}

#[test]
fn files_of_other_kinds_are_named() {
    let issuer = Issuer::new();
    let small = aws_lc_rs::signature::EcdsaKeyPair::generate(
        &aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING,
    )
    .unwrap();
    use aws_lc_rs::{encoding::AsDer, signature::KeyPair};
    let p384: aws_lc_rs::encoding::PublicKeyX509Der<'_> = small.public_key().as_der().unwrap();
    let rows = [
        (String::new(), "must hold a public key in PEM"),
        (
            "-----BEGIN PUBLIC KEY-----\n%%%\n-----END PUBLIC KEY-----".to_owned(),
            "must hold a public key in PEM",
        ),
        (
            super::issuer::pem("CERTIFICATE", &issuer.der("RS256")),
            "must hold a public key in PEM",
        ),
        (
            super::issuer::pem("PRIVATE KEY", &issuer.der("RS256")),
            "holds a private key",
        ),
        (
            super::issuer::pem("EC PRIVATE KEY", &issuer.der("ES256")),
            "holds a private key",
        ),
        (
            super::issuer::pem("PUBLIC KEY", p384.as_ref()),
            "must hold an RSA key of 2048",
        ),
        (
            super::issuer::pem("PUBLIC KEY", &issuer.der("RS256")[..200]),
            "must hold an RSA key of 2048",
        ),
        (SMALL_RSA.to_owned(), "must hold an RSA key of 2048"),
    ];
    for (pem, sentence) in rows {
        let flaw = VerifyingKey::from_pem(&pem).unwrap_err();
        assert!(flaw.starts_with(sentence), "{pem}: {flaw}");
    }
    let all: String = ALGORITHMS.iter().map(|name| issuer.pem(name)).collect();
    assert_eq!(VerifyingKey::from_pem(&all).unwrap().len(), 3);
    assert_eq!(
        Timestamp::from_millis(i64::MAX).to_string(),
        "9999-12-31T23:59:59.999Z"
    );
}

/// 1024 bits, made with `openssl genrsa 1024`.
const SMALL_RSA: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCf7bZr7H8PGWh8NjB2GGb9Vc4k\n\
C4ZCSKMsIqqAmPx4IpMSzA8uG+axobIalzOrg93x7ukDwMcmQCkc4ZrM55dzSENN\n\
taxVDLt4gdUbSQ9v3pZG4fA8WTHORNRrsPXDRjgg9rBWRFIigqvlbTanyx/wHyDd\n\
5IPAqCkhXmcrJ7VnlQIDAQAB\n\
-----END PUBLIC KEY-----\n";

//! The last hour, as the dashboard asks for it; and the pages that the binary serves.

use std::{collections::BTreeSet, str::FromStr, sync::Arc, time::Duration};

use rollcall::{clock::Clock, history, store::memory::MemoryStore};
use rollcall_protocol::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{self, TestServer, token_for};

/// A server whose hours pass at once.
async fn timeless() -> TestServer {
    let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    let store = Arc::new(MemoryStore::new(clock.clone()));
    let dir = Arc::new(TempDir::new().unwrap());
    TestServer::on(harness::config(), store, dir, clock).await
}

async fn samples(server: &TestServer) -> Vec<Value> {
    let answer = server.get("/v1/admin/history").await;
    assert_eq!(answer.body["interval_seconds"], 5);
    answer.body["samples"].as_array().unwrap().clone()
}

/// Looks until enough samples were taken.
async fn after(server: &TestServer, count: usize) -> Vec<Value> {
    loop {
        let taken = samples(server).await;
        if taken.len() >= count {
            return taken;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn joins_leaves_and_refusals_are_in_the_sample_of_their_time() {
    let server = timeless().await;
    assert_eq!(samples(&server).await, Vec::<Value>::new());
    server.room("lobby").await;
    let invite = server.invite("lobby").await;
    let ada = server.join(&invite, "Ada").await;
    let bob = server.join(&invite, "Bob").await;
    // Another tab, and a reload, bring nobody.
    let resume = format!("resume={}", bob.resume_token());
    server.connect(&resume).await.leave().await;
    bob.drop_dead();
    let bob = server.connect(&resume).await;
    // Refused by the store, for the token itself, and at the door before anybody looked.
    let forged = token_for("eve", "lobby").replace('.', ".e30.");
    for query in [
        "invite=nonsense",
        &format!("token={forged}"),
        "invite=a&token=b",
    ] {
        assert!(server.try_connect(query).await.is_err(), "{query}");
    }
    let first = after(&server, 1).await[0].clone();
    assert_eq!(
        [
            &first["joins"],
            &first["leaves"],
            &first["refusals"],
            &first["connections"],
            &first["rooms"]
        ],
        [&json!(2), &json!(0), &json!(3), &json!(2), &json!(1)]
    );
    let delay = |name: &str| first[name].as_f64().expect(name);
    assert!(delay("heartbeat_delay_ms") <= delay("heartbeat_delay_worst_ms"));

    bob.leave().await;
    server.flush().await;
    let second = after(&server, 2).await[1].clone();
    assert_eq!(
        [
            &second["joins"],
            &second["leaves"],
            &second["refusals"],
            &second["connections"]
        ],
        [&json!(0), &json!(1), &json!(0), &json!(1)]
    );
    assert!(second["flush_ms"].is_number() && second["at"].as_str() > first["at"].as_str());
    drop(ada);
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_hour_is_kept_and_no_more() {
    let server = timeless().await;
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    let kept = samples(&server).await;
    assert_eq!(kept.len(), 720);
    let at = |index: usize| Timestamp::from_str(kept[index]["at"].as_str().unwrap()).unwrap();
    let age = server.clock.now().saturating_since(at(719));
    assert!(age <= 2 * history::EVERY, "the latest are {age:?} old");
    assert!(at(719).saturating_since(at(0)) < Duration::from_secs(3600));

    let path = format!("/v1/admin/history?after={}", at(717));
    let newer = server.get(&path).await.body["samples"].clone();
    assert_eq!(newer, json!(kept[718..]));
    let refused = server.get("/v1/admin/history?after=noon").await;
    assert_eq!(refused.code(), "bad_request");
    server.stop().await;
}

#[tokio::test]
async fn a_qr_code_says_what_it_was_asked_to() {
    let server = TestServer::start().await;
    let link = "http://127.0.0.1:8080/join/1Q7HUX0A2i8ylm3XxzKx-g";
    let answer = server
        .get("/demo/qr.svg?text=http%3A%2F%2F127.0.0.1%3A8080%2Fjoin%2F1Q7HUX0A2i8ylm3XxzKx-g")
        .await;
    assert_eq!(answer.headers["content-type"], "image/svg+xml");
    assert_eq!(read(answer.body.as_str().unwrap()), link);
    for query in ["", "?text=", &format!("?text={}", "x".repeat(513))] {
        let refused = server.get(&format!("/demo/qr.svg{query}")).await;
        assert_eq!(refused.code(), "bad_request", "{query}");
    }
    server.stop().await;
}

/// Reads the modules out of the drawing, and the text out of the modules.
fn read(svg: &str) -> String {
    let number = |from: &str| {
        let digits = svg.split(from).nth(1).unwrap();
        digits
            .split(|character: char| !character.is_ascii_digit())
            .next()
            .unwrap()
            .parse::<usize>()
            .unwrap()
    };
    let size = number("viewBox=\"0 0 ");
    let path = svg
        .split(" d=\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    // Each dark module is "MX Yh1v1H..V..z" or a run of them: all that matters is where they start and how wide they are.
    let mut dark = vec![false; size * size];
    for part in path.split('M').filter(|part| !part.is_empty()) {
        let (place, rest) = part.split_once('h').unwrap();
        let (x, y) = place.trim().split_once([' ', ',']).unwrap();
        let width = rest.split('v').next().unwrap().parse::<usize>().unwrap();
        let (x, y) = (x.parse::<usize>().unwrap(), y.parse::<usize>().unwrap());
        for column in x..x + width {
            dark[y * size + column] = true;
        }
    }
    let scale = 8;
    let mut image =
        rqrr::PreparedImage::prepare_from_greyscale(size * scale, size * scale, |x, y| {
            if dark[y / scale * size + x / scale] {
                0
            } else {
                255
            }
        });
    image.detect_grids()[0].decode().unwrap().1
}

#[tokio::test]
async fn the_client_is_served_to_pages_of_any_site() {
    let server = TestServer::start().await;
    let mut seen = BTreeSet::new();
    let mut wanted = vec!["/client.js".to_owned()];
    while let Some(path) = wanted.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let answer = server.get(&path).await;
        assert_eq!(answer.status, 200, "{path}");
        let header = |name: &str| answer.headers[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), "text/javascript; charset=utf-8");
        assert_eq!(header("access-control-allow-origin"), "*");
        assert_eq!(header("cross-origin-resource-policy"), "cross-origin");
        let (folder, _) = path.rsplit_once('/').unwrap();
        let imports = answer.body.as_str().unwrap().split("from './").skip(1);
        wanted.extend(imports.map(|rest| format!("{folder}/{}", rest.split('\'').next().unwrap())));
    }
    let modules = std::fs::read_dir("clients/js/client").unwrap();
    let is_module = |name: &String| name.ends_with(".js");
    let named = modules.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut written: BTreeSet<String> = named
        .filter(is_module)
        .map(|name| format!("/client/{name}"))
        .collect();
    written.insert("/client.js".to_owned());
    assert_eq!(seen, written);
    server.stop().await;
}

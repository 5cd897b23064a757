//! The last hour, as the dashboard asks for it; and the pages that the binary serves.

use std::{sync::Arc, time::Duration};

use rollcall::{clock::Clock, store::memory::MemoryStore};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{self, TestServer};

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
    assert!(server.try_connect("invite=nonsense").await.is_err());
    let first = after(&server, 1).await[0].clone();
    assert_eq!(
        [
            &first["joins"],
            &first["leaves"],
            &first["refusals"],
            &first["connections"],
            &first["rooms"],
            &first["seats"]
        ],
        [
            &json!(2),
            &json!(0),
            &json!(1),
            &json!(2),
            &json!(1),
            &json!(2)
        ]
    );
    assert!(first["heartbeat_delay_ms"].as_f64() <= first["heartbeat_delay_worst_ms"].as_f64());

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
    assert_eq!(samples(&server).await.len(), 720);
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
    let answer = server.get("/client.js").await;
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    assert_eq!(
        answer.headers["cross-origin-resource-policy"],
        "cross-origin"
    );
    let text = answer.body.as_str().unwrap();
    let imports: Vec<&str> = text
        .split("from '.")
        .skip(1)
        .map(|rest| rest.split('\'').next().unwrap())
        .collect();
    assert!(!imports.is_empty());
    for path in imports {
        let module = server.get(path).await;
        assert_eq!(module.status, 200, "{path}");
        assert_eq!(
            module.headers["content-type"],
            "text/javascript; charset=utf-8"
        );
    }
    server.stop().await;
}

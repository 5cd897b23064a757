//! Every event, small and short, against the debug build of the server: nothing is told wrong, and the report says what it must.

use std::process::Command;

use crate::harness::server;
use serde_json::Value;
use tempfile::TempDir;

/// Runs an event and answers its report.
fn run(event: &[&str]) -> Value {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_rollcall-load"))
        .args(event)
        .args(["--steady", "300ms", "--limit", "50s", "--json"])
        .arg(&file)
        .arg("--rollcall")
        .arg(server())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{event:?}\n{said}");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn figure(report: &Value, name: &str) -> f64 {
    let figures = report["figures"].as_array().unwrap();
    let found = figures.iter().find(|figure| figure["name"] == name);
    found.unwrap_or_else(|| panic!("no {name:?} in {figures:?}"))["value"]
        .as_f64()
        .unwrap()
}

fn count(report: &Value, name: &str) -> u64 {
    let latencies = report["latencies"].as_array().unwrap();
    let found = latencies.iter().find(|latency| latency["name"] == name);
    found.unwrap_or_else(|| panic!("no {name:?} in {latencies:?}"))["count"]
        .as_u64()
        .unwrap()
}

#[test]
fn r5_after_a_drop_the_rest_are_told_once() {
    let report = run(&["drop", "--connections", "60", "--grace", "1s"]);
    assert!(count(&report, "dropped: connect to healthz") > 0);
    assert!(figure(&report, "longest stall of an accept, dropping") > 0.0);
}

#[test]
fn r5_nobody_sees_the_dropped_come_back_by_resume() {
    let report = run(&["resume", "--connections", "60", "--grace", "4s"]);
    assert_eq!(figure(&report, "… by the server's count: resumed"), 45.0);
    assert_eq!(
        figure(&report, "… by the server's count: asked the store"),
        0.0
    );
}

#[test]
fn r5_nor_by_their_invites() {
    let report = run(&[
        "resume",
        "--by",
        "invite",
        "--connections",
        "60",
        "--grace",
        "4s",
    ]);
    assert_eq!(
        figure(&report, "… by the server's count: asked the store"),
        45.0
    );
}

#[test]
fn r4_a_crowd_sees_itself_come_and_go() {
    let options = ["crowd", "--connections", "60", "--within", "500ms"];
    let report = run(&options);
    assert!(figure(&report, "sent joining, of those bytes") > 0.0);
    run(&[&options[..], &["--roster-limit", "20"]].concat());
}

#[test]
fn r8_who_never_reads_is_brought_up_to_date() {
    let report = run(&[
        "stuck",
        "--connections",
        "20",
        "--never-read",
        "1,3",
        "--stretch",
        "1s",
    ]);
    assert_eq!(figure(&report, "… reading again: brought up to date"), 1.0);
    assert!(count(&report, "3 never read: broadcast to receipt") > 0);
}

#[test]
fn who_is_in_loses_nothing_while_garbage_meets_the_limits() {
    let options = [
        "siege",
        "--connections",
        "24",
        "--per-second",
        "500",
        "--flood",
        "2s",
        "--sources",
        "1",
    ];
    let report = run(&options);
    // More than the 300 credentials that are none which an address has in a minute.
    assert!(figure(&report, "limited: failed_credentials") > 0.0);
    assert!(figure(&report, "answers with 429") > 0.0);
    assert_eq!(figure(&report, "flood: newcomers let in"), 10.0);
    assert!(count(&report, "flood: heartbeat") > 0);
    assert!(count(&report, "flood: half a head waited for") > 0);
    assert!(figure(&report, "after: server memory, median") > 0.0);
    let report = run(&[&options[..7], &["--spread"]].concat());
    let figures = report["figures"].as_array().unwrap();
    let is_limited = |one: &Value| one["name"] == "limited: failed_credentials";
    assert!(!figures.iter().any(is_limited), "{figures:?}");
}

#[test]
fn r10_nothing_stays_of_people_and_rooms_that_came_and_went() {
    let options = [
        "soak",
        "--connections",
        "24",
        "--warm-up",
        "2s",
        "--duration",
        "4s",
    ];
    let report = run(&options);
    assert!(figure(&report, "joins by access token") > 0.0);
    assert_eq!(
        figure(&report, "… connections, seats, rooms and backlog, after"),
        0.0
    );
}

#[test]
fn r5_nobody_is_seen_to_leave_when_the_server_is_replaced() {
    let report = run(&["deploy", "--connections", "40", "--restart-grace", "5s"]);
    assert_eq!(figure(&report, "SIGTERM: told when to come back"), 40.0);
    assert_eq!(figure(&report, "kill -9: do not come back"), 1.0);
    assert_eq!(figure(&report, "kill -9: leave frames of who did not"), 7.0);
}

#[test]
fn the_server_is_measured_beside_the_floor() {
    let report = run(&[
        "figures",
        "--connections",
        "16",
        "--rounds",
        "1",
        "--window",
        "1s",
    ]);
    let ratio = "… a heartbeat, against the floor's";
    assert!(
        report["figures"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["name"] == ratio)
    );
    let bytes = figure(&report, "16: bytes a connection");
    assert!(bytes > 0.0, "{bytes}");
    let trips = "burst of 200: round trips a processor second";
    assert!(figure(&report, trips) > 100.0);
    let seen = figure(&report, "a join seen by all 8 members, p50");
    assert!(seen > 0.0 && seen < 10_000.0, "{seen}");
}

//! A run catches a server that lies. Between the people and an honest server is somebody who changes what it says.

use std::fs;

use crate::harness::{Run, Running};
use crate::liar::{Liar, Lie};
use tempfile::TempDir;

/// Few people in small rooms, who come one after the other and stay.
const SCENARIO: &str = r#"
    name = "believers"
    about = "People who would believe anything."
    [[phase]]
    name = "all"
    duration = "4s"
    [[population]]
    name = "believers"
    clients = 24
    rooms = { size = 6 }
    arrive = { over = "3s" }
    heartbeat = { every = "1s" }
"#;

/// Runs the scenario past a liar.
fn past(lie: Lie, words: &[&str]) -> Run {
    let server = Running::start();
    let liar = Liar::start(server.addr, lie);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("believers.toml");
    fs::write(&file, SCENARIO).unwrap();
    let url = format!("http://{}", liar.addr);
    let run = Run::of(
        file.to_str().unwrap(),
        &[&["--url", &url][..], words].concat(),
    );
    assert_eq!(run.succeeded, lie == Lie::Nothing, "{}", run.said);
    run
}

#[test]
fn the_truth_passes() {
    past(Lie::Nothing, &[]).assert_clean();
}

#[test]
fn a_frame_that_is_swallowed_is_a_gap() {
    let run = past(Lie::Swallow, &[]);
    assert_eq!(run.figure("gaps"), 1.0, "{}", run.said);
}

#[test]
fn frames_that_end_without_a_gap_are_a_wrong_roster() {
    let run = past(Lie::Withhold, &[]);
    assert_eq!(run.figure("gaps"), 0.0, "{}", run.said);
    assert!(run.figure("ghosts") > 0.0, "{}", run.said);
}

#[test]
fn a_member_who_does_not_exist_is_a_ghost() {
    let run = past(Lie::Invent, &[]);
    assert!(run.figure("ghosts") > 0.0, "{}", run.said);
}

#[test]
fn somebody_who_is_said_to_have_left_and_did_not_is_noticed() {
    let run = past(Lie::Remove, &[]);
    assert!(run.figure("disturbed") > 0.0, "{}", run.said);
}

#[test]
fn a_forged_link_that_opens_is_a_wrong_admission() {
    let links = "--set=population.believers.links={ valid = 1, forged = 1 }";
    let run = past(Lie::Admit, &[links]);
    assert!(run.figure("wrong_admissions") > 0.0, "{}", run.said);
}

#[test]
fn a_good_link_that_is_refused_is_a_wrong_refusal() {
    let run = past(Lie::Refuse, &[]);
    assert_eq!(run.figure("wrong_refusals"), 1.0, "{}", run.said);
}

#[test]
fn heartbeats_that_nobody_answers_are_noticed() {
    let run = past(Lie::Silence, &["--set=phase.all.duration=14s"]);
    assert!(run.figure("unanswered") > 0.0, "{}", run.said);
}

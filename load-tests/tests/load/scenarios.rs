//! Scenarios that come with the program, small and short, against the debug build of the server: nothing is told wrong.

use std::process::Command;

use crate::harness::{Run, Running, server};

/// Runs one against a server of its own.
fn run(scenario: &str, words: &[&str]) -> Run {
    let server = server();
    let own = ["--rollcall", server.to_str().expect("a path that is UTF-8")];
    let run = Run::of(scenario, &[&own[..], words].concat());
    run.assert_clean();
    run
}

#[test]
fn r4_in_steady_everybody_believes_what_the_server_does() {
    let run = run(
        "steady",
        &[
            "--scale=0.01",
            "--set=phase.fill.duration=3s",
            "--set=population.people.arrive.over=2s",
            "--set=phase.settle.duration=1s",
            "--set=phase.steady.duration=6s",
        ],
    );
    assert_eq!(run.figure("connections_peak"), 150.0);
    assert_eq!(run.figure("connections_end"), 150.0);
    assert_eq!(run.figure("admitted"), 150.0);
    assert_eq!(run.figure("dates_compared"), 150.0);
    assert!(run.figure("rosters_compared") >= 19.0);
    assert!(run.figure("join_seen_count") > 100.0);
    assert!(run.figure("cpu_us_per_heartbeat") > 0.0);
    assert!(run.figure("bytes_per_connection") > 0.0);
    let timeline = run.outcome["timeline"].as_array().expect("seconds");
    assert_eq!(timeline.len(), 10);
    assert_eq!(timeline[8]["server"]["connections"], 150);
}

#[test]
fn r3_in_an_invite_rush_everybody_is_told_what_is_wrong_with_their_link() {
    let run = run(
        "invite-rush",
        &[
            "--scale=0.04",
            "--set=phase.rush.duration=8s",
            "--set=population.rush.arrive.over=6s",
            "--set=population.old-tokens.arrive.over=6s",
            "--set=phase.rest.duration=1s",
        ],
    );
    assert!(run.figure("refused") > 100.0);
    assert!(run.figure("admitted") > 100.0);
    assert_eq!(run.figure("wrong_refusals"), 0.0);
    assert_eq!(run.figure("wrong_admissions"), 0.0);
}

#[test]
fn r5_in_churn_nobody_is_missed_who_is_back_in_time() {
    let run = run(
        "churn",
        &[
            "--scale=0.05",
            "--set=phase.fill.duration=3s",
            "--set=phase.churn.duration=9s",
            "--set=population.by-link.stay.mean=3s",
            "--set=population.by-link.away.mean=2s",
            "--set=population.by-link.arrive.over=2s",
            "--set=population.by-token.arrive.over=2s",
        ],
    );
    assert!(run.figure("resumed") > 20.0);
    assert!(run.figure("leave_seen_count") > 20.0);
}

#[test]
fn r8_a_flood_of_nonsense_is_answered_and_harms_nobody() {
    let run = run(
        "flood",
        &[
            "--scale=0.1",
            "--set=phase.fill.duration=2s",
            "--set=population.people.arrive.over=1s",
            "--set=phase.flood.duration=6s",
            "--set=phase.after.duration=1s",
        ],
    );
    assert_eq!(run.figure("flood_attempts"), 180.0);
    assert_eq!(run.figure("flood_answered"), 180.0);
}

#[test]
fn r5_nobody_is_seen_to_leave_when_the_server_is_replaced() {
    let run = run(
        "deploy",
        &[
            "--scale=0.02",
            "--set=phase.fill.duration=2s",
            "--set=population.people.arrive.over=1s",
            "--set=phase.before.duration=1s",
            "--set=phase.replaced.duration=14s",
            "--set=phase.after.duration=2s",
        ],
    );
    assert_eq!(run.figure("resumed"), 120.0);
    assert_eq!(run.figure("back_count"), 120.0);
    assert_eq!(run.figure("connections_end"), 120.0);
}

#[test]
fn r5_all_who_are_dropped_at_once_have_their_seats_back() {
    let run = run(
        "steady",
        &[
            "--scale=0.01",
            "--set=phase.fill.duration=2s",
            "--set=population.people.arrive.over=1s",
            "--set=phase.settle.duration=4s",
            "--set=phase.settle.begin=[\"drop\", \"reap\"]",
            "--set=server.flags=[\"--heartbeat-interval\", \"1s\", \"--flush-interval\", \"500ms\", \"--heartbeat-timeout\", \"20s\"]",
            "--set=phase.steady.duration=2s",
        ],
    );
    assert_eq!(run.figure("resumed"), 150.0);
    assert_eq!(run.figure("connections_end"), 150.0);
    assert_eq!(run.figure("reaped_rooms"), 0.0);
}

#[test]
fn a_server_that_is_there_is_measured_too() {
    let server = Running::start();
    let (url, pid) = (format!("http://{}", server.addr), server.pid());
    let words = [
        "--url",
        &url,
        "--server-pid",
        &pid,
        "--scale=0.01",
        "--set=phase.ramp.duration=3s",
        "--set=population.people.arrive.over=3s",
        "--set=phase.top.duration=2s",
    ];
    let run = Run::of("ramp", &words);
    run.assert_clean();
    assert_eq!(run.figure("connections_end"), 100.0);
    assert!(run.figure("server_rss_mb") > 1.0);
    assert_eq!(
        run.outcome["figures"].get("errors_logged"),
        None,
        "its log is not ours"
    );
}

#[test]
fn a_scenario_that_makes_no_sense_says_where() {
    for (words, names) in [
        (&["run", "nowhere"][..], "steady, ramp"),
        (
            &["run", "steady", "--set=phase.steady.duration=soon"],
            "`soon` is not a duration",
        ),
        (
            &["run", "steady", "--set=phase.never.duration=1s"],
            "no phase `never`",
        ),
        (
            &[
                "run",
                "steady",
                "--set=population.people.arrive.phase=never",
            ],
            "no phase `never`; there are: fill",
        ),
        (
            &["run", "steady", "--set=population.people.hearts=1"],
            "unknown field `hearts`",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_rollcall-load"))
            .args(words)
            .output();
        let output = output.expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains(names),
            "{words:?}: {said}"
        );
    }
}

#[test]
fn scenarios_are_listed_and_printed() {
    let say = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_rollcall-load"))
            .args(words)
            .output();
        String::from_utf8(output.expect("the program runs").stdout).expect("text")
    };
    let listed = say(&["scenarios"]);
    assert_eq!(listed.lines().count(), 10, "{listed}");
    assert_eq!(
        say(&["run", "night", "--print"]),
        include_str!("../../scenarios/night.toml")
    );
}

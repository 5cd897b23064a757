//! Rule R1 on PostgreSQL, between processes: whoever was admitted finds the room there, whatever reapers do meanwhile.
//!
//! Two processes join and reap on one schema with idle timeouts of a few milliseconds, on the database's own clock; one
//! also runs `cleanup_inactive_rooms` as an operator's cron job would. Three things tell a loss: a join that does not
//! find its room and row afterwards, a refusal that more than the facts contradicts, and the schema itself, where triggers
//! note every row that is deleted before its time. The last one misses nothing, whoever looks when; so that the test can
//! fail is tested too, with the reaper in one statement that one writes first.
//!
//! `ROLLCALL_RACE_JOINS=100000 make test` races for longer: the number that TARGETS.md asks for.
//!
//! Seen to fail: see [`a_reaper_in_one_statement_is_caught`]. With a join that takes the room's row `FOR KEY SHARE` and does
//! not move it, 17 of 2,000 joins are refused wrongly, users are made twice, and a reaper that locks and looks in one
//! statement loses rooms. With invites locked before their rooms, one join in some thousands ends in a deadlock.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod joiner;
mod ledger;
mod race;

use std::{env, process::Command};

use self::{
    ledger::Ledger,
    race::{Race, Tally},
};

/// How many joins, over both processes; an environment variable.
const JOINS_VARIABLE: &str = "ROLLCALL_RACE_JOINS";
/// Some twenty seconds of two cores, unoptimised.
const JOINS: usize = 3_000;
/// The wrong reaper waits for joiners and they for it, a second each time, so its race is run in short heats.
const CONTROL_JOINS: usize = 200;
/// A tenth of the joins or more is lost by it: most heats are not run.
const CONTROL_HEATS: usize = 20;

#[test]
fn a_room_that_admitted_somebody_is_not_reaped_under_them_r1() {
    let name = "a_room_that_admitted_somebody_is_not_reaped_under_them_r1";
    if Race::is_runner() {
        return Race::run();
    }
    let joins = env::var(JOINS_VARIABLE).map_or(JOINS, |joins| joins.parse().unwrap());
    let ledger = Ledger::new();
    let tally = two_processes(name, &ledger, joins);
    let lost = ledger.lost();
    assert_eq!(
        (lost.rooms, lost.participants),
        (0, 0),
        "{lost:?} {tally:?}"
    );
    assert_eq!(tally.not_found, 0, "{tally:?}");
    assert_eq!(tally.refused_wrongly, 0, "{tally:?}");
    assert_eq!(tally.deadlocks, 0, "{tally:?}");
    assert!(tally.joins >= joins as u64, "{tally:?}");
    // Otherwise nothing was raced.
    assert!(lost.reaped > tally.joins / 20, "{lost:?} {tally:?}");
    assert!(tally.raced > tally.joins / 100, "{tally:?}");
    ledger.report(&tally, &lost);
}

/// The negative control: the shape that locks while it deletes, and looks by the snapshot from before the wait.
#[test]
fn a_reaper_in_one_statement_is_caught() {
    let name = "a_reaper_in_one_statement_is_caught";
    if Race::is_runner() {
        return Race::run();
    }
    let ledger = Ledger::new();
    ledger.reap_in_one_statement();
    let is_caught = (0..CONTROL_HEATS).any(|_| {
        two_processes(name, &ledger, CONTROL_JOINS);
        let lost = ledger.lost();
        lost.rooms + lost.participants > 0
    });
    assert!(is_caught, "{:?}", ledger.lost());
}

/// Runs this very test in two more processes, which do the racing.
fn two_processes(test: &str, ledger: &Ledger, joins: usize) -> Tally {
    let start = |runner| {
        let report = ledger.report_file(runner);
        let mut command = Command::new(env::current_exe().unwrap());
        command.args([test, "--exact", "--nocapture"]);
        Race::describe(&mut command, ledger, &report, runner, joins / 2);
        (command.spawn().unwrap(), report)
    };
    let runners = [start(0), start(1)];
    runners
        .into_iter()
        .map(|(mut child, report)| {
            assert!(
                child.wait().unwrap().success(),
                "a process of the race failed"
            );
            Tally::read(&report)
        })
        .sum()
}

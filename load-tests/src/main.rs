//! Words in, exit code out: 0; 1 something was wrong, or failed; 2 the words make no sense.

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use rollcall_load::{
    child, engine, events, holder,
    options::{Command, Options},
    outcome::Outcome,
    scenario::{SHIPPED, Scenario},
};

fn main() -> ExitCode {
    let done = match Options::parse().command {
        Command::Hold => child::die_with_parent().and_then(|()| holder::run()),
        Command::Become(program) => child::become_program(&program.argv).map(|()| true),
        Command::Event(event) => events::run(&event),
        Command::Work => child::die_with_parent().and_then(|()| engine::worker::run()),
        Command::Run(options) if options.print => print(&options),
        Command::Run(options) => run(&options),
        Command::Scenarios => list(),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn print(options: &engine::RunOptions) -> anyhow::Result<bool> {
    print!("{}", engine::text(options)?);
    Ok(true)
}

#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn list() -> anyhow::Result<bool> {
    for (name, text) in SHIPPED {
        println!("{name:<14}{}", Scenario::read(text)?.about);
    }
    Ok(true)
}

fn run(options: &engine::RunOptions) -> anyhow::Result<bool> {
    let outcome = engine::run(options, &|_| ())?;
    if let Some(file) = &options.json {
        let json = serde_json::to_vec_pretty(&outcome)?;
        std::fs::write(file, json).with_context(|| format!("cannot write {}", file.display()))?;
    }
    show(&outcome);
    Ok(outcome.faults.is_empty())
}

/// As plain as it can be: judging and drawing is the business of a report.
#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn show(outcome: &Outcome) {
    println!("{}: {}", outcome.scenario, outcome.about);
    outcome
        .conditions
        .iter()
        .for_each(|line| println!("{line}"));
    for (name, value) in &outcome.figures {
        println!("{name:<28}{value:>14.3}");
    }
    for (fault, count, examples) in outcome.faults.iter() {
        println!("FAULT {fault:?}: {count}");
        examples.iter().for_each(|example| println!("  {example}"));
    }
}

#[expect(clippy::print_stderr, reason = "where errors end")]
fn complain(error: &anyhow::Error) {
    eprintln!("rollcall-load: {error:#}");
}

//! A million connections in one process, without sockets: real admission, real hub, the real connection code and its
//! tasks, over wires that take what is written at once. What is measured is the server alone: no kernel, no HTTP.
//!
//! `cargo bench --bench million -- --connections 1000000` (7 GB of memory, some two minutes); without a number it holds
//! 10,000 and 100,000; `--quick` for a first look. TARGETS.md, section 1, has the figures to reach.

mod bare;
mod beat;
mod client;
mod held;
mod meter;
mod options;
mod report;
mod sizes;
#[path = "../postgres/table.rs"]
mod table;
mod town;
mod wire;

use std::{
    fs,
    process::{Command, ExitCode, Stdio},
    thread,
};

use anyhow::{Context, ensure};
use clap::Parser;
use serde::{Serialize, de::DeserializeOwned};

use self::{
    options::{Options, Part, Run},
    report::Report,
    table::{line, progress},
};

/// Connections that are taken apart, and tasks that only answer.
const FEW: usize = 8_000;

fn main() -> anyhow::Result<ExitCode> {
    // `cargo test` runs benchmarks too, and nextest asks for a list: neither says `--bench`.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options::parse();
    match options.part {
        Some(part) => measure(part, &options.run()),
        None => report(&options),
    }
}

/// Measures in this process, and answers on standard output. It ends as it is: letting a million connections go in good
/// order is for others to measure.
fn measure(part: Part, run: &Run) -> anyhow::Result<ExitCode> {
    let limit = run.limit();
    thread::spawn(move || {
        thread::sleep(limit);
        progress(&format!("not done within {limit:?}"));
        std::process::exit(1);
    });
    let found = match part {
        Part::Held => text(&held::measure(run)?),
        Part::Bare => text(&bare::measure(run.connections)?.cpu_micros_each()),
        Part::Sizes => text(&sizes::measure(run)?),
    };
    line(&found?);
    std::process::exit(0);
}

fn text(found: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string(found)?)
}

/// Has everything measured, each in a fresh process.
fn report(options: &Options) -> anyhow::Result<ExitCode> {
    let few = Run {
        connections: FEW,
        welcome_members: options::ROOM,
        ..options.run()
    };
    let runs = options.runs();
    let report = Report {
        bare_cpu_micros_per_heartbeat: in_process("bare", &few)?,
        sizes: in_process("sizes", &few)?,
        runs: runs
            .iter()
            .map(|run| in_process("held", run))
            .collect::<anyhow::Result<_>>()?,
    };
    report.print();
    if let Some(file) = &options.json {
        fs::write(file, serde_json::to_string_pretty(&report)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn in_process<T: DeserializeOwned>(part: &str, run: &Run) -> anyhow::Result<T> {
    progress(&format!(
        "{part}: {} connections, welcomed among {}",
        run.connections, run.welcome_members
    ));
    let output = Command::new(std::env::current_exe()?)
        .args(run.arguments(part))
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "{part} failed");
    let found = String::from_utf8(output.stdout)?;
    serde_json::from_str(&found).with_context(|| format!("{part} answered {found}"))
}

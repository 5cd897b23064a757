//! Words in, exit code out: 0; 1 something was wrong, or failed; 2 the words make no sense.

use std::process::ExitCode;

use clap::Parser;
use rollcall_load::{
    child, events, holder,
    options::{Command, Options},
};

fn main() -> ExitCode {
    let done = match Options::parse().command {
        Command::Hold => child::die_with_parent().and_then(|()| holder::run()),
        Command::Become(program) => child::become_program(&program.argv).map(|()| true),
        Command::Event(event) => events::run(&event),
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

#[expect(clippy::print_stderr, reason = "where errors end")]
fn complain(error: &anyhow::Error) {
    eprintln!("rollcall-load: {error:#}");
}

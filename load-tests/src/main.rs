//! Words in, exit code out: 0; 1 something was wrong, or failed; 2 the words make no sense.

use std::process::ExitCode;

use clap::Parser;
use rollcall_load::{
    besieger, child, engine, events, floor, holder,
    options::{Command, Options},
    run,
};

/// The floor is measured with it (see [`floor`]).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let done = match Options::parse().command {
        Command::Run(options) if options.print => run::print(&options).map(|()| true),
        Command::Run(options) => run::run(&options),
        Command::Scenarios => run::list().map(|()| true),
        Command::Event(event) => events::run(&event),
        Command::Work => child::die_with_parent().and_then(|()| engine::worker::run()),
        Command::Hold => child::die_with_parent().and_then(|()| holder::run()),
        Command::Besiege => child::die_with_parent().and_then(|()| besieger::run()),
        Command::Floor => child::die_with_parent().and_then(|()| floor::run()),
        Command::Become(program) => child::become_program(&program.argv).map(|()| true),
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

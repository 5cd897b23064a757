//! What PostgreSQL costs: flushing, reaping and joining, each beside what one would write by hand, in one run.
//!
//! `cargo bench --bench postgres -- flush reaper joins`, or none of them for all; `--quick` for a first look, `--help` for
//! the sizes. Rounds of the ways that are compared alternate, so that a busy machine is busy for all of them: trust the
//! ratios more than the milliseconds. TARGETS.md, section 2, has the figures to reach.

mod bed;
mod copy;
mod crowd;
mod flush;
mod hand_made;
mod joins;
mod meter;
mod options;
mod reaper;
mod rig;
mod series;
mod sweep;
mod table;

use clap::Parser;

use self::options::{Options, What};

fn main() -> anyhow::Result<()> {
    // `cargo test` runs benchmarks too, and nextest asks for a list: neither says `--bench`.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(&options))
}

async fn run(options: &Options) -> anyhow::Result<()> {
    table::line(&format!("{}, {}", bed::machine()?, options.settings_line()));
    for what in options.what() {
        match what {
            What::Flush => flush::run(options).await?,
            What::Reaper => reaper::run(options).await?,
            What::Joins => joins::run(options).await?,
            What::All => unreachable!("it is taken apart by then"),
        }
    }
    Ok(())
}

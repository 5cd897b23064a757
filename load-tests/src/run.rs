//! `run` and `scenarios`: a scenario from its file to its verdict.

use crate::{
    engine::{self, News, RunOptions},
    outcome::{Judged, Progress, Threshold},
    scenario::{SHIPPED, Scenario},
};

/// Runs a scenario, judges it and publishes what was found; whether it passed.
///
/// # Errors
/// The scenario makes no sense, or could not be run to its end.
pub fn run(options: &RunOptions) -> anyhow::Result<bool> {
    // Before anything starts: a bound that cannot be read would be noticed when all is over.
    let thresholds = engine::scenario(options)?.thresholds;
    let thresholds: Vec<Threshold> = thresholds
        .iter()
        .map(|text| Threshold::parse(text))
        .collect::<anyhow::Result<_>>()?;
    let progress = Progress::new();
    let outcome = engine::run(options, &|news| show(&progress, news))?;
    progress.finish();
    let judged = Judged::new(outcome, &thresholds);
    judged.publish(options.json.as_deref(), options.html.as_deref())?;
    Ok(judged.passed)
}

fn show(progress: &Progress, news: &News<'_>) {
    progress.phase(news.phase, news.phases);
    progress.connections(news.second.connections);
    progress.faults(news.faults);
    progress.seconds(news.elapsed.as_secs_f64(), news.of.as_secs_f64());
}

/// Prints a scenario's file.
///
/// # Errors
/// There is none of that name.
#[expect(clippy::print_stdout, reason = "this is what it is for")]
pub fn print(options: &RunOptions) -> anyhow::Result<()> {
    print!("{}", engine::text(options)?);
    Ok(())
}

/// Lists the scenarios that come with this program.
///
/// # Errors
/// One of them makes no sense.
#[expect(clippy::print_stdout, reason = "this is what it is for")]
pub fn list() -> anyhow::Result<()> {
    for (name, text) in SHIPPED {
        println!("{name:<14}{}", Scenario::read(text)?.about);
    }
    Ok(())
}

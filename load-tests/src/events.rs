//! What is measured: one file an event, each a story told in order.

mod crowd;
mod deploy;
mod drop;
mod figures;
mod resume;
mod siege;
mod soak;
mod stuck;

use std::fs;

use anyhow::Context;
use tokio::time::timeout;

use crate::{child, options::Event, report::Report};

/// Measures an event and publishes the report; whether nothing was told wrong.
///
/// # Errors
/// It could not be measured.
pub fn run(event: &Event) -> anyhow::Result<bool> {
    child::raise_descriptors()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let common = event.common();
    // On this very thread, which children hang on to.
    let report = runtime.block_on(async { timeout(event.limit(), measure(event)).await });
    let report = report.with_context(|| format!("not done within {:?}", event.limit()))??;
    report.publish(common.json.as_deref())?;
    Ok(report.is_clean())
}

async fn measure(event: &Event) -> anyhow::Result<Report> {
    match event {
        Event::Drop(options) => drop::measure(options).await,
        Event::Resume(options) => resume::measure(options).await,
        Event::Crowd(options) => crowd::measure(options).await,
        Event::Stuck(options) => stuck::measure(options).await,
        Event::Siege(options) => siege::measure(options).await,
        Event::Soak(options) => soak::measure(options).await,
        Event::Deploy(options) => deploy::measure(options).await,
        Event::Figures(options) => figures::measure(options).await,
    }
}

/// A report that says under which conditions.
fn report(title: String, flags: &str) -> Report {
    let mut report = Report::new(title);
    report.note(format!("server: {flags}"));
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    report.note(format!(
        "machine: {cores} cores, load before {}",
        load.split(' ').take(3).collect::<Vec<_>>().join(" ")
    ));
    report
}

/// For humans: megabytes are a million.
const MEGA: f64 = 1e6;

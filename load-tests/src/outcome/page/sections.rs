//! The page's tables: what passed, what was told wrong, and every number.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::figures;
use crate::{
    fault::Faults,
    measure::latency::Summary,
    outcome::{Judged, Outcome, Phase, Verdict, words},
    tally::Traffics,
};

/// Which scenario, under which conditions, and whether it passed.
pub(super) fn title(judged: &Judged) -> Markup {
    let outcome = &judged.outcome;
    html! {
        header {
            p.kind { "Rollcall load test" }
            h1 { (outcome.scenario) }
            p.about { (outcome.about) }
            p class={ "verdict " (class(judged.passed)) } { (mark(judged.passed)) " " (judged.summary) }
            @if !outcome.conditions.is_empty() {
                ul.conditions { @for condition in &outcome.conditions { li { (condition) } } }
            }
        }
    }
}

/// The run in a few numbers.
pub(super) fn tiles(outcome: &Outcome) -> Markup {
    html! {
        dl.tiles {
            @for (name, value) in figures::of(outcome) {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

/// Threshold by threshold.
pub(super) fn thresholds(verdicts: &[Verdict]) -> Markup {
    html! {
        section {
            h2 { "Thresholds" }
            @if verdicts.is_empty() { p.note { "The scenario has none." } }
            @else {
                div.card.scroll { table.results {
                    thead { tr { th { "Figure" } th.number { "Measured" } th.number { "Bound" } th { "Result" } } }
                    tbody { @for verdict in verdicts { (threshold(verdict)) } }
                } }
            }
        }
    }
}

fn threshold(verdict: &Verdict) -> Markup {
    let asked = &verdict.threshold;
    html! {
        tr class=(class(verdict.passed)) {
            td { code { (asked.figure) } @if let Some(note) = &verdict.note { div.note { (note) } } }
            td.number { (verdict.value()) }
            td.number { (asked.operator) " " (words::number(asked.bound)) }
            td { span.mark { (mark(verdict.passed)) } " " @if verdict.passed { "ok" } @else { "FAILED" } }
        }
    }
}

/// What was told wrong, word for word.
pub(super) fn faults(faults: &Faults) -> Markup {
    html! {
        section {
            h2 { "Faults" }
            @if faults.is_empty() { p.note { (mark(true)) " Nothing was told wrong." } }
            @for (fault, count, examples) in faults.iter() {
                div.card.fault {
                    h3 { (mark(false)) " " (words::fault(fault)) span.unit { (words::count(count)) } }
                    @for example in examples { pre { (example) } }
                }
            }
        }
    }
}

/// Latencies of the whole run.
pub(super) fn latencies(steps: &BTreeMap<String, Summary>) -> Markup {
    let seen = || steps.iter().filter(|(_, summary)| summary.count > 0);
    let scale = figures::Scale::of(seen().map(|(_, summary)| summary));
    html! {
        @if seen().next().is_some() {
            section {
                h2 { "Latencies" }
                div.card.scroll { table {
                    thead { tr {
                        th { "Step" } th.number { "Count" } th.number { "p50, ms" } th.number { "p99, ms" }
                        th.number { "Max, ms" } th.spread { "p50 to p99 to max, logarithmic" }
                    } }
                    tbody { @for (step, summary) in seen() { (latency(step, summary, scale)) } }
                } }
            }
        }
    }
}

fn latency(step: &str, summary: &Summary, scale: figures::Scale) -> Markup {
    let [p50, p99, max] =
        [summary.p50_ms, summary.p99_ms, summary.max_ms].map(|ms| scale.percent(ms));
    let bar = |from: f64, to: f64| format!("left:{from:.1}%;width:{:.1}%", to - from);
    html! {
        tr {
            td { code { (step) } }
            td.number { (words::count(summary.count)) }
            @for ms in [summary.p50_ms, summary.p99_ms, summary.max_ms] { td.number { (words::millis(ms)) } }
            td.spread { span.track {
                span.tail style=(bar(p50, max)) {} span.body style=(bar(p50, p99)) {}
            } }
        }
    }
}

/// What clients received.
pub(super) fn traffic(traffic: &Traffics) -> Markup {
    let seen = || traffic.0.iter().filter(|(_, seen)| seen.frames > 0);
    html! {
        @if seen().next().is_some() {
            section {
                h2 { "Received by clients" }
                div.card.scroll { table {
                    thead { tr { th { "Kind" } th.number { "Frames" } th.number { "Size" } th.number { "A frame" } } }
                    tbody { @for (kind, seen) in seen() {
                        tr {
                            td { code { (kind) } }
                            td.number { (words::count(seen.frames)) }
                            td.number { (words::bytes(seen.bytes)) }
                            td.number { (words::bytes(seen.bytes / seen.frames)) }
                        }
                    } }
                } }
            }
        }
    }
}

/// Every single number, with the name that a threshold calls it.
pub(super) fn figures(figures: &BTreeMap<String, f64>) -> Markup {
    html! {
        @if !figures.is_empty() {
            section {
                h2 { "Figures" }
                dl.figures.card { @for (name, value) in figures {
                    div { dt { code { (name) } } dd { (words::number(*value)) } }
                } }
            }
        }
    }
}

/// The phases by the numbers that narrow charts have.
pub(super) fn phases(phases: &[Phase]) -> Markup {
    html! {
        @if !phases.is_empty() {
            ol.phases { @for phase in phases {
                li { (phase.name) span.unit { (words::time(phase.from_s)) " – " (words::time(phase.to_s)) } }
            } }
        }
    }
}

/// What a point of a long run stands for.
pub(super) fn points(seconds: usize) -> Markup {
    html! {
        @if seconds > 1 {
            p.note.points { "A point stands for " (seconds) " seconds: rates are averaged, of latencies the worst is shown." }
        }
    }
}

fn class(passed: bool) -> &'static str {
    if passed { "passed" } else { "failed" }
}

/// Told by its shape, for who does not see colours.
fn mark(passed: bool) -> &'static str {
    if passed { "✓" } else { "✗" }
}

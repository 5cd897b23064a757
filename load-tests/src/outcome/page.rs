//! The page with charts: one file without scripts that asks nobody for anything, so that it can be sent, kept and printed.

mod figures;
mod sections;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    Judged, Phase,
    chart::{self, Chart, Charts, HALF, Ink, NARROW, Size, WIDE},
};

/// The page.
pub(super) fn of(judged: &Judged) -> anyhow::Result<String> {
    let outcome = &judged.outcome;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head(&outcome.scenario))
            body {
                main {
                    (sections::title(judged))
                    (sections::tiles(outcome))
                    (sections::thresholds(&judged.verdicts))
                    (sections::faults(&outcome.faults))
                    (charts(&chart::of(judged), &outcome.phases)?)
                    (sections::latencies(&outcome.steps))
                    (sections::traffic(&outcome.traffic))
                    (sections::figures(&outcome.figures))
                }
            }
        }
    };
    Ok(page.into_string())
}

fn head(scenario: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (scenario) " – Rollcall" }
            style { (PreEscaped(include_str!("page/style.css"))) (PreEscaped(Ink::style())) }
        }
    }
}

fn charts(charts: &Charts, phases: &[Phase]) -> anyhow::Result<Markup> {
    let (whole, half) = (
        [("wide", WIDE), ("narrow", NARROW)],
        [("wide", HALF), ("narrow", NARROW)],
    );
    let wide = charts.wide.iter();
    let wide = wide.map(|chart| figure(chart, phases, charts.until, &whole));
    let steps = charts.steps.iter();
    let steps = steps.map(|chart| figure(chart, phases, charts.until, &half));
    let (wide, steps) = (all(wide)?, all(steps)?);
    Ok(html! {
        @if !wide.is_empty() {
            section { h2 { "Over time" } (sections::phases(phases)) (sections::points(charts.seconds_each)) @for figure in &wide { (figure) } }
        }
        @if !steps.is_empty() {
            section {
                h2 { "Latencies over time" }
                div.grid { @for figure in &steps { (figure) } }
            }
        }
    })
}

fn all(figures: impl Iterator<Item = anyhow::Result<Markup>>) -> anyhow::Result<Vec<Markup>> {
    figures.collect()
}

/// A chart in each of these sizes, of which the style shows one: letters would be too small if a wide one were made narrow.
fn figure(
    chart: &Chart,
    phases: &[Phase],
    until: f64,
    sizes: &[(&str, Size)],
) -> anyhow::Result<Markup> {
    let drawn = sizes.iter().map(|(class, size)| {
        let svg = chart::svg(chart, phases, until, *size)?;
        Ok(html! {
            div class=(class) role="img" aria-label=(chart.title) { (PreEscaped(svg)) }
        })
    });
    let drawn = all(drawn)?;
    Ok(html! {
        figure.card {
            figcaption { h3 { (chart.title) } span.unit { (unit(chart)) } (legend(chart)) }
            @for drawing in &drawn { (drawing) }
            @if let Some(note) = chart.note { p.note { (note) } }
        }
    })
}

fn unit(chart: &Chart) -> String {
    match chart.scale {
        chart::Scale::Linear => chart.unit.to_owned(),
        chart::Scale::Log => format!("{}, logarithmic", chart.unit),
    }
}

/// In the order from top to bottom.
fn legend(chart: &Chart) -> Markup {
    let shape = if chart.stacked { "area" } else { "line" };
    let limit = (!chart.limits.is_empty()).then_some(("threshold", Ink::Limit));
    let mut keys: Vec<_> = chart
        .curves
        .iter()
        .map(|curve| (curve.name.as_str(), curve.ink))
        .chain(limit)
        .collect();
    if chart.stacked {
        keys.reverse();
    }
    html! {
        div.legend {
            @for (name, ink) in keys {
                span class={ "key " (shape) " " (ink.name()) } { (name) }
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! Where an axis begins and ends, and where its labels are: round numbers, few enough not to touch.

use super::{Chart, Scale};
use crate::outcome::words;

/// A vertical axis in drawing coordinates, which are decimal logarithms if it is logarithmic.
#[derive(Debug)]
pub(super) struct Axis {
    scale: Scale,
    /// Its ends.
    pub(super) ends: (f64, f64),
    /// Where labels are.
    pub(super) ticks: Vec<f64>,
}

impl Axis {
    /// The axis that these values need.
    pub(super) fn of(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let finite = values.filter(|value| value.is_finite());
        let around = finite.fold(None, |around: Option<(f64, f64)>, value| {
            let (low, high) = around.unwrap_or((value, value));
            Some((low.min(value), high.max(value)))
        });
        let (low, high) = around.unwrap_or((0.0, 1.0));
        match scale {
            Scale::Linear => Self::linear(high),
            Scale::Log => Self::log(low.max(LEAST), high.max(LEAST)),
        }
    }

    fn linear(high: f64) -> Self {
        let step = step(high.max(1e-3) / 4.0);
        let steps = (high / step - 1e-9).ceil().max(1.0);
        let ticks = (0..=steps as u32).map(|tick| f64::from(tick) * step);
        Self {
            scale: Scale::Linear,
            // A little above the last label, so that a curve at its highest does not touch the phases' names.
            ends: (0.0, steps * step * 1.02),
            ticks: ticks.collect(),
        }
    }

    fn log(low: f64, high: f64) -> Self {
        let all = round_numbers(low, high);
        let decades = (high / low).log10();
        let labelled = all.iter().filter(|value| {
            let lead = **value / 10_f64.powf((**value).log10().floor());
            decades < 2.5 || (lead - 1.0).abs() < 1e-6
        });
        let ends = (all.first().copied(), all.last().copied());
        Self {
            scale: Scale::Log,
            ends: (
                ends.0.unwrap_or(LEAST).log10(),
                ends.1.unwrap_or(1.0).log10() + 0.02,
            ),
            ticks: labelled.map(|value| value.log10()).collect(),
        }
    }

    /// Where a value is drawn.
    pub(super) fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(LEAST).log10(),
        }
    }

    /// What stands beside a tick: short, because there is room for six letters.
    pub(super) fn label(&self, tick: f64) -> String {
        let value = match self.scale {
            Scale::Linear => tick,
            Scale::Log => (10_f64.powf(tick) * 1e6).round() / 1e6,
        };
        match value {
            millions if millions >= 1e6 => format!("{} M", words::number(millions / 1e6)),
            thousands if thousands >= 1e5 => format!("{} k", words::number(thousands / 1e3)),
            _ => words::number(value),
        }
    }
}

/// The least that a logarithmic axis shows; latencies are told apart by microseconds.
const LEAST: f64 = 0.001;

/// 1, 2 and 5 times the powers of ten: those from the last below these values to the first above.
fn round_numbers(low: f64, high: f64) -> Vec<f64> {
    let decades = (low.log10().floor() as i32)..=(high.log10().ceil() as i32);
    let all = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|lead| lead * 10_f64.powi(decade)));
    let all: Vec<f64> = all.collect();
    let from = all.iter().rposition(|value| *value <= low * (1.0 + 1e-9));
    let to = all.iter().position(|value| *value >= high * (1.0 - 1e-9));
    let from = from.unwrap_or(0);
    let to = to.unwrap_or(all.len() - 1).max(from + 1);
    all.get(from..=to).unwrap_or(&all).to_vec()
}

/// The next round number: 1, 2, 2.5 or 5 times a power of ten.
fn step(at_least: f64) -> f64 {
    let power = 10_f64.powf(at_least.log10().floor());
    let leads = [1.0, 2.0, 2.5, 5.0];
    let lead = leads
        .into_iter()
        .find(|lead| lead * power >= at_least * (1.0 - 1e-9));
    lead.unwrap_or(10.0) * power
}

/// Times that have a label: at most this many, and never at odd seconds.
pub(super) fn times(until: f64, at_most: usize) -> Vec<f64> {
    let step = time_step(until, at_most);
    let ticks = (0_u32..).map(|tick| f64::from(tick) * step);
    ticks
        .take_while(|time| *time <= until * (1.0 + 1e-9))
        .collect()
}

fn time_step(until: f64, at_most: usize) -> f64 {
    const STEPS: [f64; 14] = [
        1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0,
    ];
    let fits = |step: &f64| until / step <= at_most as f64;
    let step = STEPS.into_iter().find(fits);
    step.unwrap_or_else(|| (until / at_most as f64 / 14_400.0).ceil() * 14_400.0)
}

/// What stands below a time: all in one unit, as long as the run.
pub(super) fn time_label(time: f64, until: f64) -> String {
    match until {
        short if short <= 180.0 => format!("{time:.0} s"),
        long if long < 3.0 * 3600.0 => {
            format!("{:.0}:{:02.0}", (time / 60.0).floor(), time % 60.0)
        }
        _ => format!("{} h", words::number(time / 3600.0)),
    }
}

impl Chart {
    /// Every value that must be within its axis.
    pub(super) fn values(&self) -> impl Iterator<Item = f64> {
        let curves = self.curves.iter().flat_map(|curve| &curve.points);
        let limits = self.limits.iter().map(|(_, value)| *value);
        curves.map(|(_, value)| *value).chain(limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, values: &[f64]) -> Vec<String> {
        let axis = Axis::of(scale, values.iter().copied());
        axis.ticks.iter().map(|tick| axis.label(*tick)).collect()
    }

    #[test]
    fn labels_are_round_and_hold_every_value() {
        let linear = labels(Scale::Linear, &[14_800.0, f64::NAN]);
        assert_eq!(linear, ["0", "5,000", "10,000", "15,000"]);
        assert_eq!(labels(Scale::Linear, &[1.0])[1], "0.25");
        assert_eq!(labels(Scale::Log, &[0.3, 410.0]), ["1", "10", "100"]);
        assert_eq!(labels(Scale::Log, &[3.0, 8.0]), ["2", "5", "10"]);
        let many = labels(Scale::Linear, &[1_800_000.0]);
        assert_eq!(many, ["0", "500 k", "1 M", "1.5 M", "2 M"]);
    }

    #[test]
    fn nothing_and_one_value_have_an_axis() {
        for scale in [Scale::Linear, Scale::Log] {
            for values in [&[][..], &[0.0], &[5.0], &[f64::NAN]] {
                let axis = Axis::of(scale, values.iter().copied());
                assert!(axis.ends.0 < axis.ends.1, "{scale:?} {values:?}");
                assert!(!axis.ticks.is_empty(), "{scale:?} {values:?}");
            }
        }
    }

    #[test]
    fn times_are_as_long_as_the_run() {
        assert_eq!(times(90.0, 6), [0.0, 15.0, 30.0, 45.0, 60.0, 75.0, 90.0]);
        assert_eq!(time_label(90.0, 90.0), "90 s");
        assert_eq!(time_label(90.0, 600.0), "1:30");
        assert_eq!(time_label(5400.0, 36_000.0), "1.5 h");
        assert!(times(1e6, 6).len() <= 7);
    }
}

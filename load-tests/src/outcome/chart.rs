//! Curves over the time of a run, drawn as SVG. What a chart says is decided in [`run`]; how it looks, in the other modules.

mod axis;
mod draw;
mod ink;
mod run;
mod thin;

pub(super) use self::{
    draw::{HALF, NARROW, Size, WIDE, svg},
    ink::Ink,
    run::{Charts, of},
};

/// Curves that share a vertical axis.
#[derive(Debug)]
pub(super) struct Chart {
    /// What is shown.
    pub(super) title: String,
    /// In which unit.
    pub(super) unit: &'static str,
    /// What a reader should make of it.
    pub(super) note: Option<&'static str>,
    /// How the vertical axis is divided.
    pub(super) scale: Scale,
    /// Whether each curve stands upon the one before, so that the uppermost is the sum.
    pub(super) stacked: bool,
    /// The curves.
    pub(super) curves: Vec<Curve>,
    /// Lines that a threshold draws, each with its words.
    pub(super) limits: Vec<(String, f64)>,
}

/// A curve.
#[derive(Debug)]
pub(super) struct Curve {
    /// What the legend calls it.
    pub(super) name: String,
    /// Its colour.
    pub(super) ink: Ink,
    /// Seconds and values; not a number where nothing was measured, and there the curve has a gap.
    pub(super) points: Vec<(f64, f64)>,
}

/// How an axis is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// Evenly, from zero.
    Linear,
    /// By powers of ten.
    Log,
}

impl Curve {
    /// Whether anything was measured.
    fn is_seen(&self) -> bool {
        self.points.iter().any(|(_, value)| value.is_finite())
    }
}

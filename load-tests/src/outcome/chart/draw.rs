//! Draws a chart. All sizes are those of the page; the SVG counts in [`FINE`] parts of them, because whole numbers are all
//! that it is given and curves would have steps otherwise.

use anyhow::Context;
use plotters::{
    chart::ChartContext,
    coord::{Shift, types::RangedCoordf64},
    element::{Circle, EmptyElement, PathElement, Polygon, Rectangle, Text},
    prelude::{Cartesian2d, ChartBuilder, DrawingArea, IntoDrawingArea, SVGBackend},
    style::{
        Color, IntoFont, ShapeStyle, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::{
    Chart, Curve, Ink,
    axis::{Axis, time_label, times},
};
use crate::outcome::Phase;

/// How large a chart is.
#[derive(Debug, Clone, Copy)]
pub(in crate::outcome) struct Size {
    width: u32,
    height: u32,
    /// How many times have a label, at most.
    times: usize,
}

/// As wide as the page.
pub(in crate::outcome) const WIDE: Size = Size {
    width: 1040,
    height: 216,
    times: 12,
};

/// As wide as half the page.
pub(in crate::outcome) const HALF: Size = Size {
    width: 510,
    height: 216,
    times: 7,
};

/// As wide as a telephone.
pub(in crate::outcome) const NARROW: Size = Size {
    width: 370,
    height: 204,
    times: 6,
};

/// Parts of a pixel: for lengths, and for places.
const FINE: u32 = 4;
const PART: i32 = FINE as i32;
/// Labels, pixels; the backend draws a text by this much smaller than it is asked to.
const LETTERS: f64 = 12.0 * 1.24;
/// The room for the phases' names.
const ABOVE: u32 = 20;
/// The room for values and times.
const LEFT: u32 = 52;
const BELOW: u32 = 24;
/// Half of the last time is beyond the plot.
const RIGHT: u32 = 18;
/// The average letter's width, to know whether a name fits with half a letter free on either side.
const LETTER_WIDTH: f64 = 6.6;

type Root<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plane = Cartesian2d<RangedCoordf64, RangedCoordf64>;
type Plot<'a> = ChartContext<'a, SVGBackend<'a>, Plane>;

/// A chart as SVG.
///
/// # Errors
/// The backend fails; it only writes to memory.
pub(in crate::outcome) fn svg(
    chart: &Chart,
    phases: &[Phase],
    until: f64,
    size: Size,
) -> anyhow::Result<String> {
    let mut text = String::new();
    draw(&mut text, chart, phases, until, size)
        .with_context(|| format!("cannot draw {}", chart.title))?;
    Ok(text)
}

fn draw(
    text: &mut String,
    chart: &Chart,
    phases: &[Phase],
    until: f64,
    size: Size,
) -> anyhow::Result<()> {
    let pixels = (size.width * FINE, size.height * FINE);
    let root = SVGBackend::with_string(text, pixels).into_drawing_area();
    let axis = Axis::of(chart.scale, chart.values());
    let mut plot = plot(&root, &axis, until)?;
    bands(&mut plot, &axis, phases, until)?;
    values(&root, &mut plot, &axis, until)?;
    moments(&root, &mut plot, &axis, until, size.times)?;
    match chart.stacked {
        true => areas(&mut plot, chart)?,
        false => lines(&mut plot, &axis, chart)?,
    }
    limits(&mut plot, &axis, chart, until)?;
    names(&root, &plot, &axis, phases, until)?;
    Ok(root.present()?)
}

fn plot<'a>(root: &Root<'a>, axis: &Axis, until: f64) -> anyhow::Result<Plot<'a>> {
    Ok(ChartBuilder::on(root)
        .margin_top(ABOVE * FINE)
        .margin_right(RIGHT * FINE)
        .margin_bottom(BELOW * FINE)
        .margin_left(LEFT * FINE)
        .build_cartesian_2d(0.0..until, axis.ends.0..axis.ends.1)?)
}

/// Every other phase is shaded.
fn bands(plot: &mut Plot<'_>, axis: &Axis, phases: &[Phase], until: f64) -> anyhow::Result<()> {
    let (low, high) = axis.ends;
    let shaded = phases.iter().step_by(2).map(|phase| {
        let corners = [(phase.from_s, low), (phase.to_s.min(until), high)];
        Rectangle::new(corners, Ink::Band.rgb().filled())
    });
    plot.draw_series(shaded)?;
    Ok(())
}

/// A line for each round value, across the plot. The crate's own mesh cannot be told where its lines shall be.
fn values(root: &Root<'_>, plot: &mut Plot<'_>, axis: &Axis, until: f64) -> anyhow::Result<()> {
    for tick in &axis.ticks {
        let line = vec![(0.0, *tick), (until, *tick)];
        plot.draw_series([PathElement::new(line, hairline())])?;
        let (x, y) = plot.plotting_area().map_coordinate(&(0.0, *tick));
        let style = letters(Ink::Text, HPos::Right, VPos::Center);
        root.draw(&Text::new(axis.label(*tick), (x - 8 * PART, y), style))?;
    }
    Ok(())
}

/// A mark for each round time, below the plot.
fn moments(
    root: &Root<'_>,
    plot: &mut Plot<'_>,
    axis: &Axis,
    until: f64,
    at_most: usize,
) -> anyhow::Result<()> {
    for time in times(until, at_most) {
        let ground = (time, axis.ends.0);
        let (x, y) = plot.plotting_area().map_coordinate(&ground);
        root.draw(&PathElement::new([(x, y), (x, y + 4 * PART)], hairline()))?;
        let style = letters(Ink::Text, HPos::Center, VPos::Top);
        root.draw(&Text::new(
            time_label(time, until),
            (x, y + 8 * PART),
            style,
        ))?;
    }
    Ok(())
}

/// Each from the curve below it, or from the ground, up to its own.
fn areas(plot: &mut Plot<'_>, chart: &Chart) -> anyhow::Result<()> {
    let mut below: Option<&Curve> = None;
    for curve in &chart.curves {
        let places = curve.points.iter().enumerate().rev();
        let lower = places.map(|(at, (time, _))| {
            let point = below.and_then(|below| below.points.get(at));
            (*time, point.map_or(0.0, |(_, value)| *value))
        });
        let outline: Vec<_> = curve.points.iter().copied().chain(lower).collect();
        plot.draw_series([Polygon::new(outline, curve.ink.rgb().filled())])?;
        below = Some(curve);
    }
    Ok(())
}

fn lines(plot: &mut Plot<'_>, axis: &Axis, chart: &Chart) -> anyhow::Result<()> {
    for curve in &chart.curves {
        for stretch in stretches(curve) {
            let places = stretch.iter().map(|(at, value)| (*at, axis.place(*value)));
            let places: Vec<_> = places.collect();
            match places.as_slice() {
                [alone] => {
                    plot.draw_series([Circle::new(*alone, 2 * FINE, curve.ink.rgb().filled())])?
                }
                _ => plot.draw_series([PathElement::new(places, stroke(curve.ink))])?,
            };
        }
    }
    Ok(())
}

/// The parts of a curve between its gaps.
fn stretches(curve: &Curve) -> impl Iterator<Item = &[(f64, f64)]> {
    let parts = curve.points.split(|(_, value)| !value.is_finite());
    parts.filter(|part| !part.is_empty())
}

/// Above its line each has its words, or below where the line is so high that they would be among the phases' names.
fn limits(plot: &mut Plot<'_>, axis: &Axis, chart: &Chart, until: f64) -> anyhow::Result<()> {
    let (low, high) = axis.ends;
    for (words, value) in &chart.limits {
        let place = axis.place(*value);
        let line = vec![(0.0, place), (until, place)];
        plot.draw_series([PathElement::new(line, stroke(Ink::Limit))])?;
        let (side, shift) = match (place - low) / (high - low) {
            part if part > 0.85 => (VPos::Top, 4 * PART),
            _ => (VPos::Bottom, 0),
        };
        let style = letters(Ink::Limit, HPos::Right, side);
        let label = Text::new(words.clone(), (-4 * PART, shift), style);
        plot.draw_series([EmptyElement::at((until, place)) + label])?;
    }
    Ok(())
}

/// Each phase's name above it, or its number where the name has no room.
fn names(
    root: &Root<'_>,
    plot: &Plot<'_>,
    axis: &Axis,
    phases: &[Phase],
    until: f64,
) -> anyhow::Result<()> {
    for (at, phase) in phases.iter().enumerate() {
        let x = |time: f64| plot.plotting_area().map_coordinate(&(time, axis.ends.1));
        let ((from, y), (to, _)) = (x(phase.from_s), x(phase.to_s.min(until)));
        let room = f64::from(to - from) / f64::from(FINE);
        let number = (at + 1).to_string();
        let fits = |name: &&str| (name.chars().count() + 1) as f64 * LETTER_WIDTH <= room;
        let Some(name) = [phase.name.as_str(), &number].into_iter().find(fits) else {
            continue;
        };
        let place = (from.midpoint(to), y - 6 * PART);
        root.draw(&Text::new(
            name,
            place,
            letters(Ink::Text, HPos::Center, VPos::Bottom),
        ))?;
    }
    Ok(())
}

fn stroke(ink: Ink) -> ShapeStyle {
    ink.rgb().stroke_width(2 * FINE)
}

fn hairline() -> ShapeStyle {
    Ink::Grid.rgb().stroke_width(FINE)
}

fn letters(ink: Ink, across: HPos, up: VPos) -> TextStyle<'static> {
    let font = ("sans-serif", LETTERS * f64::from(FINE)).into_font();
    TextStyle {
        color: ink.rgb().to_backend_color(),
        ..TextStyle::from(font).pos(Pos::new(across, up))
    }
}

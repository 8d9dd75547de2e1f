//! The curves of the losses over the steps.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::Span;
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Widget};

use super::view::View;
use super::words::thousands;

pub(super) const TRAIN: Color = Color::Cyan;
pub(super) const VAL: Color = Color::Yellow;
pub(super) const BEST: Color = Color::Green;

pub(super) fn draw(view: &View, area: Rect, buffer: &mut Buffer) {
    if area.width < 16 || area.height < 4 {
        return;
    }
    let (train, val) = (&view.train.points, &view.val.points);
    let x = horizontal(view);
    let y = vertical(train, val, x);
    let best: Vec<_> = view.best.iter().map(|b| (b.step as f64, b.loss)).collect();
    // The Linux console has no braille.
    let fine = if std::env::var_os("TERM").is_some_and(|t| t == "linux") { Marker::Dot } else { Marker::Braille };
    let set = |data, marker, form, color| {
        Dataset::default().data(data).marker(marker).graph_type(form).style(Style::new().fg(color))
    };
    let sets = vec![
        set(val, fine, GraphType::Line, VAL),
        set(train, fine, if train.len() < 60 { GraphType::Line } else { GraphType::Scatter }, TRAIN),
        set(val, Marker::Dot, GraphType::Scatter, VAL),
        set(&best, Marker::Custom('★'), GraphType::Scatter, BEST),
    ];
    let decimals = if y[1] - y[0] < 0.1 { 3 } else { 2 };
    let label = |value: f64| Span::raw(format!("{value:.decimals$}")).dim();
    let y_labels: Vec<Span> = match area.height {
        0..7 => vec![label(y[0]), label(y[1])],
        _ => (0..=2).map(|i| label(y[0] + f64::from(i) / 2.0 * (y[1] - y[0]))).collect(),
    };
    let step = |part: f64, unit: &str| Span::raw(format!("{}{unit}", thousands((part * x[1]) as u64))).dim();
    let mut x_labels = vec![step(0.0, ""), step(0.5, ""), step(1.0, " steps")];
    if area.width < 50 {
        x_labels.remove(1);
    }
    Chart::new(sets)
        .legend_position(None)
        .x_axis(Axis::default().bounds(x).labels(x_labels).style(Style::new().dim()))
        .y_axis(Axis::default().bounds(y).labels(y_labels).style(Style::new().dim()))
        .render(area, buffer);
}

/// From 0 to a round number beyond the step at hand, so that the curve grows before the axis changes.
fn horizontal(view: &View) -> [f64; 2] {
    let steps = view.steps.unwrap_or(u64::MAX) as f64;
    let now = (view.step as f64).max(10.0);
    let unit = 10f64.powf(now.log10().floor());
    let round = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0].map(|n| n * unit).into_iter().find(|&n| n >= now);
    [0.0, round.unwrap_or(now).min(steps).max(now.min(steps)).max(1.0)]
}

/// The range of the losses, without the first steep fall once there is more to see.
fn vertical(train: &[(f64, f64)], val: &[(f64, f64)], x: [f64; 2]) -> [f64; 2] {
    let last = train.last().map_or(0.0, |p| p.0);
    let fall = if train.len() > 40 { (0.04 * x[1]).min(0.1 * last) } else { 0.0 };
    let seen = || train.iter().chain(val).filter(|p| p.0 >= fall).map(|p| p.1).filter(|y| y.is_finite());
    let (low, high) = (seen().fold(f64::INFINITY, f64::min), seen().fold(f64::NEG_INFINITY, f64::max));
    if !(low.is_finite() && high.is_finite()) {
        return [0.0, 1.0];
    }
    // Round ends keep the axis still while the curve moves.
    let unit = if high - low > 0.5 { 0.1 } else { 0.02 };
    let (low, high) = ((low / unit).floor() * unit, (high / unit).ceil() * unit);
    if high - low < 1e-9 * high.abs().max(1.0) { [low - unit, high + unit] } else { [low, high] }
}

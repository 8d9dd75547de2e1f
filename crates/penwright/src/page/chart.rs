//! Charts as inline SVG: lines over time or computation, and bars. They take their colours from the page's style
//! (`assets/chart.css`), tell series apart by marker and dash as well as by colour, and carry their content as text.

mod axis;
mod bars;

pub use axis::{Measure, Scale};
pub use bars::{Bar, BarChart};

use axis::Axis;
use maud::{Markup, PreEscaped, html};

use super::format::NONE;
use super::table::fit;

/// The style of the charts, for a page that shows some.
pub const STYLE: &str = include_str!("assets/chart.css");

/// Number of distinct colours and markers; series beyond them repeat with dashes.
pub const STYLES: usize = 6;
/// Places marked on a line, at most.
const MARKS: usize = 9;
/// Rows of a series in the table below a chart, at most.
const ROWS: usize = 12;

/// A line of a chart.
#[derive(Clone, Debug)]
pub struct Series {
    /// What it shows.
    pub name: String,
    /// Which colour and marker.
    pub style: usize,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
    /// Whether some of its places get a mark; else the line is thin, for what is noisy.
    pub marked: bool,
}

/// A place of a chart that is pointed out.
#[derive(Clone, Debug)]
pub struct Callout {
    /// What is there.
    pub text: String,
    /// Which colour.
    pub style: usize,
    /// Where.
    pub at: (f64, f64),
}

/// How large a chart is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// The whole of a wide page, with the names of the lines at their ends.
    Wide,
    /// Half of a wide page, likewise.
    Large,
    /// One of several in a row, of one line.
    Small,
}

/// A line chart.
#[derive(Clone, Debug)]
pub struct LineChart {
    /// What it shows, in a few words.
    pub title: String,
    /// Name and measure of the horizontal axis.
    pub x: (String, Measure),
    /// Its scale.
    pub x_scale: Scale,
    /// Name and measure of the vertical axis.
    pub y: (String, Measure),
    /// The lines. One point alone is a mark.
    pub series: Vec<Series>,
    /// Horizontal lines: what is known without a horizontal place.
    pub levels: Vec<(String, usize, f64)>,
    /// What is pointed out.
    pub callouts: Vec<Callout>,
    /// How large it is drawn.
    pub size: Size,
}

/// One drawing of a chart: sizes in units of the drawing.
struct Canvas {
    class: &'static str,
    /// Room at the left for the ticks.
    left: f64,
    width: f64,
    height: f64,
    /// Room at the right for the names of the lines.
    names: f64,
    ticks: usize,
}

const TOP: f64 = 30.0;
const LEFT: f64 = 38.0;
/// About the width of a letter.
const LETTER: f64 = 7.4;
const BOTTOM: f64 = 44.0;

impl Canvas {
    const FULL: Canvas =
        Canvas { class: "chart wide", left: LEFT, width: 1090.0, height: 400.0, names: 132.0, ticks: 8 };
    const WIDE: Canvas =
        Canvas { class: "chart wide", left: LEFT, width: 540.0, height: 330.0, names: 118.0, ticks: 5 };
    const NARROW: Canvas =
        Canvas { class: "chart narrow", left: LEFT, width: 340.0, height: 280.0, names: 26.0, ticks: 3 };
    const SMALL: Canvas = Canvas { class: "chart", left: LEFT, width: 340.0, height: 210.0, names: 26.0, ticks: 3 };

    fn x(&self, place: f64) -> f64 {
        self.left + place * (self.width - self.left - self.names)
    }

    fn y(&self, place: f64) -> f64 {
        TOP + (1.0 - place) * (self.height - TOP - BOTTOM)
    }
}

impl LineChart {
    /// The figure: a drawing for wide and one for narrow pages, a legend, and the numbers as a table to unfold. A small
    /// one has one drawing and no legend.
    pub fn figure(&self) -> Markup {
        self.figure_with(self.numbers())
    }

    /// The same with other numbers below it.
    pub fn figure_with(&self, numbers: Markup) -> Markup {
        let canvases: &[Canvas] = match self.size {
            Size::Wide => &[Canvas::FULL, Canvas::NARROW],
            Size::Large => &[Canvas::WIDE, Canvas::NARROW],
            Size::Small => &[Canvas::SMALL],
        };
        html! {
            figure {
                figcaption { (self.title) }
                @for canvas in canvases { (self.drawing(canvas)) }
                @if self.size != Size::Small { (self.legend()) }
                (numbers)
            }
        }
    }

    fn legend(&self) -> Markup {
        html! {
            ul.legend {
                @for (name, style, class_of_line, marked) in self.entries() {
                    li {
                        svg class=(class(style)) viewBox="0 0 30 12" width="30" height="12" aria-hidden="true" {
                            @if let Some(line) = class_of_line { path class=(line) d="M1 6H29" {} }
                            @if marked { (marker(style, 15.0, 6.0)) }
                        }
                        (name)
                    }
                }
                @for callout in &self.callouts {
                    li {
                        svg class=(class(callout.style)) viewBox="0 0 30 14" width="30" height="14" aria-hidden="true" {
                            circle.ring cx="15" cy="7" r="5.5" {}
                        }
                        (callout.text)
                    }
                }
            }
        }
    }

    /// Name and style of what is drawn, the class of its line, if it has one, and whether it has marks.
    fn entries(&self) -> Vec<(&str, usize, Option<&str>, bool)> {
        let series = self
            .series
            .iter()
            .map(|s| (s.name.as_str(), s.style, (s.points.len() > 1).then_some(s.line()), s.has_marks()));
        series
            .chain(self.levels.iter().map(|(name, style, _)| (name.as_str(), *style, Some("line level"), true)))
            .collect()
    }

    fn drawing(&self, canvas: &Canvas) -> Markup {
        let points = || self.series.iter().flat_map(|s| &s.points);
        let levels = self.levels.iter().map(|(_, _, y)| *y);
        // A small chart shows how much a value changes beside its size: from zero.
        let (zero, ticks) = if self.size == Size::Small { (Some(0.0), 3) } else { (None, 5) };
        let y = Axis::over(points().map(|p| p.1).chain(levels).chain(zero), Scale::Linear, self.y.1, ticks);
        // Levels alone still need some width.
        let x = Axis::over(points().map(|p| p.0), self.x_scale, self.x.1, canvas.ticks)
            .or_else(|| Axis::over([0.0, 1.0].into_iter(), Scale::Linear, self.x.1, 1));
        let (Some(x), Some(y)) = (x, y) else { return html! { p.note { "There are no measurements to draw." } } };
        let longest = y.ticks.iter().map(|(_, text)| text.chars().count()).max().unwrap_or(0);
        let canvas = &Canvas { left: LEFT.max(LETTER * longest as f64 + 10.0), ..*canvas };
        let at = |(a, b): &(f64, f64)| Some((canvas.x(x.place(*a)?), canvas.y(y.place(*b)?)));
        let lines: Vec<(&Series, Vec<(f64, f64)>)> =
            self.series.iter().map(|s| (s, s.points.iter().filter_map(at).collect())).collect();
        let levels: Vec<(usize, f64)> =
            self.levels.iter().filter_map(|(_, style, v)| Some((*style, canvas.y(y.place(*v)?)))).collect();
        html! {
            svg class=(canvas.class) viewBox={ "0 0 " (canvas.width) " " (canvas.height) } role="img" aria-label=(self.summary()) {
                g.grid {
                    @for (value, text) in &y.ticks {
                        @let place = canvas.y(y.place(*value).unwrap_or(0.0));
                        path d=(format!("M{:.1} {place:.1}H{:.1}", canvas.x(0.0), canvas.x(1.0))) {}
                        text x=(canvas.left - 7.0) y=(format!("{:.1}", place + 4.0)) text-anchor="end" { (text) }
                    }
                    @for (value, text) in &x.ticks {
                        @let place = format!("{:.1}", canvas.x(x.place(*value).unwrap_or(0.0)));
                        path d=(format!("M{place} {:.1}v5", canvas.y(0.0))) {}
                        text x=(place) y=(canvas.y(0.0) + 18.0) text-anchor="middle" { (text) }
                    }
                    path.axis d=(format!("M{:.1} {:.1}H{:.1}", canvas.x(0.0), canvas.y(0.0), canvas.x(1.0))) {}
                    text.label x="2" y="14" { (self.y.0) }
                    text.label x=(canvas.x(1.0)) y=(canvas.height - 6.0) text-anchor="end" { (self.x.0) }
                }
                @for (style, place) in &levels {
                    path class={ "line level " (class(*style)) } d=(format!("M{:.1} {place:.1}H{:.1}", canvas.x(0.0), canvas.x(1.0))) {}
                    g class=(class(*style)) { (marker(*style, canvas.x(0.5), *place)) }
                }
                @for (series, points) in &lines {
                    g class=(class(series.style)) {
                        @if points.len() > 1 { path class=(series.line()) d=(path(points)) {} }
                        @if series.has_marks() {
                            @for (a, b) in thinned(points, MARKS) { (marker(series.style, a, b)) }
                        }
                    }
                }
                @for callout in &self.callouts {
                    @if let Some(place) = at(&callout.at) { (callout.drawn(canvas, place, &lines)) }
                }
                @if canvas.names > 50.0 { (self.names(canvas, &lines, &levels)) }
            }
        }
    }

    /// The names of the lines beside their ends, moved apart where they would touch.
    fn names(&self, canvas: &Canvas, lines: &[(&Series, Vec<(f64, f64)>)], levels: &[(usize, f64)]) -> Markup {
        const GAP: f64 = 16.0;
        let series = lines.iter().filter_map(|(s, p)| Some((s.name.as_str(), s.style, *p.last()?)));
        let levels = self
            .levels
            .iter()
            .zip(levels)
            .map(|((name, style, _), (_, y))| (name.as_str(), *style, (canvas.x(1.0), *y)));
        let mut ends: Vec<_> = series.chain(levels).collect();
        ends.sort_by(|a, b| a.2.1.total_cmp(&b.2.1));
        let mut places: Vec<f64> = ends.iter().map(|end| end.2.1).collect();
        for i in 1..places.len() {
            places[i] = places[i].max(places[i - 1] + GAP);
        }
        // Back up from below where the last ones fell out of the drawing.
        let mut limit = canvas.y(0.0);
        for place in places.iter_mut().rev() {
            *place = place.min(limit);
            limit = *place - GAP;
        }
        html! {
            @for ((name, style, (x, y)), place) in ends.iter().zip(places) {
                @if canvas.x(1.0) - x > 12.0 {
                    path class={ "leader " (class(*style)) } d=(format!("M{:.1} {y:.1}H{:.1}", x + 8.0, canvas.x(1.0))) {}
                }
                text class={ "name " (class(*style)) } x=(canvas.x(1.0) + 10.0) y=(format!("{:.1}", place + 4.0)) {
                    (fit(name, 15))
                }
            }
        }
    }

    /// The content in a sentence for each line.
    fn summary(&self) -> String {
        let (x, y) = (self.x.1, self.y.1);
        let series = self.series.iter().filter_map(|s| {
            let ((x0, y0), (x1, y1)) = (s.points.first()?, s.points.last()?);
            Some(match s.points.len() {
                1 => format!("{}: {} at {}.", s.name, y.show(*y1), x.show(*x1)),
                _ => format!(
                    "{}: from {} at {} to {} at {}.",
                    s.name,
                    y.show(*y0),
                    x.show(*x0),
                    y.show(*y1),
                    x.show(*x1)
                ),
            })
        });
        let levels = self.levels.iter().map(|(name, _, value)| format!("{name}: {}.", y.show(*value)));
        let callouts = self.callouts.iter().map(|callout| format!("{}.", callout.text));
        let parts: Vec<String> = series.chain(levels).chain(callouts).collect();
        format!("{}. {} over {}. {}", self.title, self.y.0, self.x.0, parts.join(" "))
    }

    fn numbers(&self) -> Markup {
        html! {
            details {
                summary { "The numbers" }
                div.scroll tabindex="0" role="region" aria-label={ "Numbers of the chart: " (self.title) } {
                    table {
                        thead { tr { th scope="col" { "line" } th scope="col" { (self.x.0) } th scope="col" { (self.y.0) } } }
                        tbody {
                            @for series in &self.series {
                                @for (x, y) in thinned(&series.points, ROWS) {
                                    tr { th scope="row" { (series.name) } td { (self.x.1.show(x)) } td { (self.y.1.show(y)) } }
                                }
                            }
                            @for (name, _, value) in &self.levels {
                                tr { th scope="row" { (name) } td { (NONE) } td { (self.y.1.show(*value)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Series {
    /// The class of its line.
    fn line(&self) -> &'static str {
        if self.marked { "line" } else { "line thin" }
    }

    fn has_marks(&self) -> bool {
        self.marked || self.points.len() == 1
    }
}

impl Callout {
    /// A ring around the place and, where there is room, the words above or below it, where fewer lines pass.
    fn drawn(&self, canvas: &Canvas, (x, y): (f64, f64), lines: &[(&Series, Vec<(f64, f64)>)]) -> Markup {
        let anchor = if x > canvas.x(0.6) { "end" } else { "start" };
        let wide = LETTER * self.text.chars().count() as f64;
        let from = if anchor == "end" { x - wide } else { x };
        // Of twelve places along the words, how many have a line within the height of a letter.
        let crossed = |text: f64| {
            let places = (0..=12).map(|i| from + wide * f64::from(i) / 12.0);
            let near =
                |x: f64| lines.iter().filter_map(|(_, line)| height(line, x)).any(|y| (text - 5.0 - y).abs() < 11.0);
            places.filter(|x| near(*x)).count()
        };
        let (above, below) = (y - 16.0, y + 28.0);
        let fits = below < canvas.y(0.0) - 4.0;
        let text = if fits && crossed(below) <= crossed(above) { below } else { above };
        html! {
            g class=(class(self.style)) {
                circle.ring cx=(format!("{x:.1}")) cy=(format!("{y:.1}")) r="7" {}
                @if canvas.names > 50.0 {
                    text.callout x=(format!("{x:.1}")) y=(format!("{text:.1}")) text-anchor=(anchor) { (self.text) }
                }
            }
        }
    }
}

/// The class that gives a series its colour and dash.
pub fn class(style: usize) -> String {
    let dashed = if style >= STYLES { " dashed" } else { "" };
    format!("s{}{dashed}", style % STYLES)
}

/// How high a line stands at a place between its points.
fn height(line: &[(f64, f64)], x: f64) -> Option<f64> {
    let pair = line.windows(2).find(|pair| pair[0].0 <= x && x <= pair[1].0 && pair[0].0 < pair[1].0)?;
    Some(pair[0].1 + (pair[1].1 - pair[0].1) * (x - pair[0].0) / (pair[1].0 - pair[0].0))
}

fn path(points: &[(f64, f64)]) -> String {
    let points = thinned(points, 400);
    let parts = points.iter().enumerate().map(|(i, (x, y))| format!("{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' }));
    parts.collect()
}

/// At most `count` of the points, evenly chosen, the last among them.
fn thinned(points: &[(f64, f64)], count: usize) -> Vec<(f64, f64)> {
    let every = points.len().div_ceil(count.max(1)).max(1);
    let last = points.len().saturating_sub(1);
    points.iter().enumerate().filter(|(i, _)| (last - i).is_multiple_of(every)).map(|(_, p)| *p).collect()
}

/// A mark of its own for each style: circle, square, triangle, diamond, triangle on its head, cross.
pub fn marker(style: usize, x: f64, y: f64) -> Markup {
    let d = match style % STYLES {
        0 => "m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z",
        1 => "m-4-4h8v8h-8z",
        2 => "m0-5.2 5 8.7h-10z",
        3 => "m0-5.6 5.6 5.6-5.6 5.6-5.6-5.6z",
        4 => "m0 5.2 5-8.7h-10z",
        _ => "m-1.5-5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5z",
    };
    PreEscaped(format!("<path class=\"mark\" d=\"M{x:.1} {y:.1}{d}\"/>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_show_what_they_can_and_escape_names() {
        let mut chart = LineChart {
            title: "a < b".into(),
            x: ("time".into(), Measure::Seconds),
            x_scale: Scale::Log,
            y: ("bits".into(), Measure::Number),
            series: vec![Series {
                name: "<x>".into(),
                style: 7,
                points: vec![(0.0, 3.0), (1.0, f64::NAN), (9.0, 2.0)],
                marked: false,
            }],
            levels: vec![("level".into(), 1, 2.5)],
            callouts: vec![Callout { text: "the & best".into(), style: 2, at: (9.0, 2.0) }],
            size: Size::Large,
        };
        let page = chart.figure().into_string();
        assert!(page.contains("&lt;x&gt;") && !page.contains("<x>") && page.contains("a &lt; b"));
        assert!(!page.contains("NaN\"") && !page.contains("NaN "), "no place for what has no value");
        assert_eq!(page.matches("class=\"ring\"").count(), 3, "two drawings and the legend");
        assert!(page.contains("the &amp; best.\""), "in the words for who does not see it");
        let small = LineChart { size: Size::Small, ..chart.clone() }.figure().into_string();
        assert!(small.matches("<svg").count() == 1 && small.contains("<table"));
        chart.series.clear();
        chart.callouts.clear();
        assert!(chart.figure().into_string().contains("level"));
        chart.levels.clear();
        assert!(chart.figure().into_string().contains("no measurements"));
        let bars = BarChart { title: "t".into(), note: "n".into(), bars: Vec::new() };
        assert!(bars.figure().into_string().contains("<svg"));
    }

    #[test]
    fn thinning_keeps_the_last() {
        let points: Vec<(f64, f64)> = (0..1000).map(|i| (f64::from(i), 0.0)).collect();
        let kept = thinned(&points, 12);
        assert!(kept.len() <= 12 && kept.last() == points.last());
        assert_eq!(thinned(&points[..5], 12).len(), 5);
        assert!(thinned(&[], 3).is_empty());
    }
}

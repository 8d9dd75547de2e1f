//! The comparison as one web page that needs nothing else: styles, charts and script are inside it.

mod explained;
mod overview;
mod writing;

use maud::{Markup, html};

use super::verdict::known;
use super::{Comparison, Entry};
use crate::page::chart::{self, Bar, BarChart, LineChart, Measure, Scale, Series, Size};
use crate::page::format::{count, duration};
use crate::page::{Page, section};

const STYLE: &str = include_str!("../assets/heat.css");
const SCRIPT: &str = include_str!("../assets/page.js");

/// The page: verdict, table, charts, samples, surprise, and every measure explained. `title` names the page.
pub fn html(comparison: &Comparison, title: &str) -> String {
    let names = comparison.names();
    let main = html! {
        (overview::table(comparison, &names))
        (training(comparison, &names))
        (bars(comparison, &names))
        (writing::samples(comparison, &names))
        (writing::surprise(comparison, &names))
        (explained::measures(comparison))
        (explained::settings(comparison, &names))
    };
    let header = overview::header(comparison, &names, title);
    Page { title, style: STYLE, header, main, script: Some(SCRIPT) }.html()
}

/// The mark of a model beside its name.
fn key(style: usize) -> Markup {
    html! {
        svg class={ "key " (chart::class(style)) } viewBox="0 0 12 12" width="12" height="12" aria-hidden="true" {
            (chart::marker(style, 6.0, 6.0))
        }
    }
}

fn training(comparison: &Comparison, names: &[String]) -> Markup {
    let over = |x: &dyn Fn(&super::CurvePoint) -> Option<f64>, title: &str, axis: (&str, Measure), scale| {
        let (mut series, mut levels) = (Vec::new(), Vec::new());
        for (style, (model, name)) in comparison.models.iter().zip(names).enumerate() {
            let place = |p| x(p).filter(|x| scale == Scale::Linear || *x > 0.0).map(|x| (x, p.bits_per_char));
            let points: Vec<(f64, f64)> = model.curve.iter().filter_map(place).collect();
            match (points.is_empty(), model.curve.last()) {
                (false, _) => series.push(Series { name: name.clone(), style, points, marked: true }),
                (true, Some(last)) => levels.push((name.clone(), style, last.bits_per_char)),
                (true, None) => {}
            }
        }
        let (x, y) = ((axis.0.to_string(), axis.1), ("bits per character".to_string(), Measure::Number));
        LineChart { title: title.into(), x, x_scale: scale, y, series, levels, callouts: Vec::new(), size: Size::Large }
    };
    let time_scale = spread(comparison.models.iter().filter_map(|m| m.train_seconds));
    let time = over(&|p| Some(p.seconds), "Over time", ("training time", Measure::Seconds), time_scale);
    let flops =
        over(&|p| p.flops, "Over computation", ("floating-point operations", Measure::Count("FLOP")), Scale::Log);
    let intro = "Each mark is a validation during training, on the run's own validation text. Lower is better: a line that \
                 falls early learns quickly, one that ends low learns much.";
    let without: Vec<&str> =
        comparison.models.iter().zip(names).filter(|(m, _)| m.curve.is_empty()).map(|(_, n)| n.as_str()).collect();
    section(
        "training",
        "How they learned",
        intro,
        html! {
            div.pair { (time.figure()) (flops.figure()) }
            @if !flops.levels.is_empty() {
                p.note { "A level line is a model that counts instead of learning by gradients: its computation is not measured." }
            }
            @if !without.is_empty() { p.note { "No record of training: " (without.join(", ")) "." } }
        },
    )
}

/// A logarithmic scale where the values differ so much that a linear one would hide the small.
fn spread(values: impl Iterator<Item = f64>) -> Scale {
    let (low, high) = values.filter(|v| *v > 0.0).fold((f64::INFINITY, 0.0), |(l, h), v| (v.min(l), v.max(h)));
    if high > 8.0 * low { Scale::Log } else { Scale::Linear }
}

fn bars(comparison: &Comparison, names: &[String]) -> Markup {
    type Value<'a> = &'a dyn Fn(&Entry) -> Option<f64>;
    let chart = |title: &str, note: &str, value: Value<'_>, show: &dyn Fn(f64) -> String| {
        let bar = |(style, (m, name)): (usize, (&Entry, &String))| {
            let value = value(m).filter(|v| v.is_finite());
            Bar { name: name.clone(), style, value, text: known(value, show) }
        };
        let bars = comparison.models.iter().zip(names).enumerate().map(bar).collect();
        BarChart { title: title.into(), note: note.into(), bars }.figure()
    };
    section(
        "cost",
        "What it costs",
        "The four sides of a choice. All bars start at zero.",
        html! {
            div.four {
                (chart("Bits per character", "less is better", &|m| Some(m.bits_per_char), &|x| format!("{x:.3}")))
                (chart("Training time", "less is better", &|m| m.train_seconds, &duration))
                (chart("Writing speed", "characters/s, more is better", &|m| m.decode_chars_per_s, &|x| count(x.round() as u64)))
                (chart("Size on disk", "less is better", &|m| Some(m.size_bytes as f64), &|x| crate::error::bytes(x as u64)))
            }
        },
    )
}

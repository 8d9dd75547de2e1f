//! The curves: losses over time with the best point, and learning rate, gradient norm and speed beside them.

use maud::{Markup, html};

use crate::page::chart::{Callout, LineChart, Measure, Scale, Series, Size};
use crate::page::format::{count, duration, significant};
use crate::page::{cell, section};
use crate::report::{Record, Report, Steps};

/// Places of a drawn line at most: what is noisier is drawn as means.
const DRAWN: usize = 150;
/// The colours: validation, training, the best point, and the small charts.
const VALIDATION: usize = 0;
const TRAINING: usize = 5;
const BEST: usize = 1;
const OTHER: usize = 3;
/// Rows of the table at most.
const ROWS: usize = 24;

pub(super) fn curves(report: &Report) -> Markup {
    let record = &report.record;
    if record.steps.is_empty() && record.validations.len() < 2 {
        return html! {};
    }
    let intro = "Training loss is measured on what the model learns from, validation loss on text kept from it. \
                 Lower is better. Where validation turns upwards while training goes on falling, the model learns by \
                 heart.";
    let small = [
        ("Learning rate", "learning rate", Measure::Number, means(record, |s| Some(s.lr))),
        ("Gradient norm", "norm before clipping", Measure::Number, means(record, |s| Some(s.grad_norm))),
        ("Speed", "tokens a second", Measure::Count(""), means(record, |s| s.speed)),
    ];
    let content = html! {
        (losses(record).figure_with(table(record)))
        @if !record.steps.is_empty() {
            div.three {
                @for (title, axis, measure, points) in small { (one(title, axis, measure, points).figure()) }
            }
        }
        @if !record.resumed.is_empty() {
            @let steps: Vec<String> = record.resumed.iter().map(|step| count(*step)).collect();
            p.note { "Resumed at step " (steps.join(", ")) "." }
        }
    };
    section("course", "How it learned", intro, content)
}

fn losses(record: &Record) -> LineChart {
    let validation: Vec<(f64, f64)> = record.validations.iter().map(|v| (v.seconds, v.loss)).collect();
    let training = means(record, |s| Some(s.loss));
    let series = [
        ("training loss", TRAINING, from_fall(training, &validation), false),
        ("validation loss", VALIDATION, validation, true),
    ];
    let series = series.into_iter().filter(|(_, _, points, _)| !points.is_empty());
    let best = record.best().filter(|_| record.validations.len() > 1).map(|best| Callout {
        text: format!("best: {} after {}", significant(best.loss), duration(best.seconds)),
        style: BEST,
        at: (best.seconds, best.loss),
    });
    LineChart {
        title: "Loss over time".into(),
        x: ("training time".into(), Measure::Seconds),
        x_scale: Scale::Linear,
        y: ("nats a token".into(), Measure::Number),
        series: series
            .map(|(name, style, points, marked)| Series { name: name.into(), style, points, marked })
            .collect(),
        levels: Vec::new(),
        callouts: best.into_iter().collect(),
        size: Size::Wide,
    }
}

/// A training curve without its first moments, when the loss is so high that all after it would look flat: from where
/// it has come down to the first validation and half of what validation then falls.
fn from_fall(training: Vec<(f64, f64)>, validation: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let high = validation.iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
    let low = validation.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let top = high + 0.5 * (high - low);
    let from = training.iter().position(|p| p.1 <= top).filter(|_| validation.len() > 2).unwrap_or(0);
    training[from..].to_vec()
}

fn one(title: &str, axis: &str, measure: Measure, points: Vec<(f64, f64)>) -> LineChart {
    LineChart {
        title: title.into(),
        x: ("training time".into(), Measure::Seconds),
        x_scale: Scale::Linear,
        y: (axis.into(), measure),
        series: vec![Series { name: title.to_lowercase(), style: OTHER, points, marked: false }],
        levels: Vec::new(),
        callouts: Vec::new(),
        size: Size::Small,
    }
}

/// A value over time, neighbours as their mean where there are many.
fn means(record: &Record, value: impl Fn(&Steps) -> Option<f64>) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> =
        record.steps.iter().filter_map(|s| Some((s.seconds, value(s).filter(|v| v.is_finite())?))).collect();
    let together = points.len().div_ceil(DRAWN).max(1);
    let mean = |part: &[(f64, f64)]| part.iter().map(|p| p.1).sum::<f64>() / part.len() as f64;
    points.chunks(together).filter_map(|part| Some((part.last()?.0, mean(part)))).collect()
}

/// Every validation beside the training loss up to it: the figure in numbers.
fn table(record: &Record) -> Markup {
    let rows = record.validations.len().div_ceil(ROWS).max(1);
    let last = record.validations.len().saturating_sub(1);
    let best = record.best().map(|best| best.step);
    let training = |from: f64, to: f64| {
        let within: Vec<f64> =
            record.steps.iter().filter(|s| s.seconds > from && s.seconds <= to).map(|s| s.loss).collect();
        (!within.is_empty()).then(|| within.iter().sum::<f64>() / within.len() as f64)
    };
    let shown =
        record.validations.iter().enumerate().filter(|(i, v)| (last - i).is_multiple_of(rows) || best == Some(v.step));
    html! {
        @if !record.validations.is_empty() {
            details {
                summary { "The validations in numbers" }
                div.scroll tabindex="0" role="region" aria-label="The validations in numbers" {
                    table {
                        thead {
                            tr {
                                th scope="col" { "time" } th scope="col" { "step" } th scope="col" { "training loss" }
                                th scope="col" { "validation loss" } th scope="col" { "bits a character" }
                            }
                        }
                        tbody {
                            @for (i, v) in shown {
                                @let before = if i == 0 { 0.0 } else { record.validations[i - 1].seconds };
                                tr {
                                    th scope="row" { (duration(v.seconds)) }
                                    td { (count(v.step)) }
                                    td { (cell(training(before, v.seconds).map(|loss| format!("{loss:.4}")))) }
                                    td.best[best == Some(v.step)] {
                                        (format!("{:.4}", v.loss))
                                        @if best == Some(v.step) { span.hidden { " (best)" } }
                                    }
                                    td { (format!("{:.4}", v.bits_per_char)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_moments_do_not_flatten_the_rest() {
        let training = vec![(0.1, 7.0), (0.2, 4.0), (1.0, 2.4), (2.0, 2.0)];
        let validation = [(1.0, 2.5), (1.5, 2.2), (2.0, 2.1)];
        assert_eq!(from_fall(training.clone(), &validation), training[2..]);
        assert_eq!(from_fall(training.clone(), &validation[..1]), training, "too few to tell");
        assert_eq!(from_fall(Vec::new(), &validation), []);
    }
}

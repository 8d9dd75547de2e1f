//! What the model wrote as it learned.

use maud::{Markup, html};

use crate::page::format::{count, duration};
use crate::page::section as page_section;
use crate::report::{Report, Sample};

/// Samples shown at most.
const SHOWN: usize = 6;

pub(super) fn section(report: &Report) -> Markup {
    let samples = &report.record.samples;
    if samples.is_empty() {
        return html! {};
    }
    let shown = chosen(samples);
    let intro = match shown.len() == samples.len() {
        true => "What the model wrote from an empty page, from first to last.".to_string(),
        false => format!(
            "What the model wrote from an empty page, from first to last: {} of {} samples. All are in samples.txt.",
            shown.len(),
            samples.len()
        ),
    };
    let best = report.record.best().map(|best| best.step);
    let content = html! {
        div.cards.samples {
            @for sample in shown {
                article {
                    h3 {
                        (duration(sample.seconds))
                        @if best == Some(sample.step) { span.badge { "best" } }
                        small { (measured(sample)) }
                    }
                    p.prose lang="" {
                        @if sample.text.trim().is_empty() { i { "It ended the text at once." } }
                        @else { (sample.text.trim()) }
                    }
                }
            }
        }
    };
    page_section("samples", "What it wrote", &intro, content)
}

/// The step, and the validation at it.
fn measured(sample: &Sample) -> String {
    let validation = sample.validation.map(|(loss, bits)| format!(", loss {loss:.3}, {bits:.2} bits a character"));
    format!("step {}{}", count(sample.step), validation.unwrap_or_default())
}

/// The first, the last and some between, closer together early on, where more changes.
fn chosen(samples: &[Sample]) -> Vec<&Sample> {
    if samples.len() <= SHOWN {
        return samples.iter().collect();
    }
    let last = (samples.len() - 1) as f64;
    let mut places: Vec<usize> = (0..SHOWN)
        .map(|i| i as f64 / (SHOWN - 1) as f64)
        .map(|part| (last * part.powf(1.5)).round() as usize)
        .collect();
    places.dedup();
    places.into_iter().filter_map(|i| samples.get(i)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_are_among_the_chosen() {
        for n in [1, 6, 7, 20, 1000] {
            let samples: Vec<Sample> =
                (0..n).map(|step| Sample { step, seconds: 0.0, validation: None, text: String::new() }).collect();
            let steps: Vec<u64> = chosen(&samples).iter().map(|sample| sample.step).collect();
            assert!(steps.len() <= SHOWN && steps[0] == 0 && *steps.last().unwrap() == n - 1, "{steps:?}");
            assert!(steps.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}

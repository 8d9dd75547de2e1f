//! How the verdict is reached, and every measure in plain words.

use maud::{Markup, html};

use crate::page::format::{count, percent, significant};
use crate::page::{cell, glossary, section};
use crate::report::{AFTER_BEST, CLIMB, FALL, Finding, GAP, READ, RISE, Report, SHARP_RISE, SMALL_TEXT};

/// A measure of the verdict: its name, what it was, and which value means what.
type Rule = (&'static str, Option<String>, String);

pub(super) fn rules(report: &Report) -> Markup {
    let verdict = &report.verdict;
    if verdict.finding == Finding::Counted {
        return html! {};
    }
    let signed = |share: f64| if share < 0.0 { format!("−{}", percent(-share)) } else { percent(share) };
    let whole = |share: f64| format!("{:.0}\u{a0}%", 100.0 * share);
    let rules: [Rule; 7] = [
        (
            "Rise of the validation loss since its best",
            verdict.rise.map(|rise| match verdict.after_best {
                0 => "none, the last is the best".into(),
                1 => format!("{}, one validation later", signed(rise)),
                n => format!("{}, {n} validations later", signed(rise)),
            }),
            format!(
                "Overfitting from {} after {AFTER_BEST} validations or more, from {} after one, while training falls \
                 and the text was read more than once.",
                whole(RISE),
                whole(SHARP_RISE)
            ),
        ),
        (
            "Fall of the loss in the second half of the time",
            verdict.fall.map(signed),
            format!("Still improving from {}; below, it has come to rest.", whole(FALL)),
        ),
        (
            "Training loss below validation loss, at the best point",
            verdict.gap.map(signed),
            format!(
                "At rest and below {} with fewer parameters than tokens, after {READ} readings: the \
                 model is too small.",
                whole(GAP)
            ),
        ),
        (
            "End of the training loss above its lowest",
            verdict.climb.map(signed),
            format!("Diverged from {}, or when it is no number.", whole(CLIMB)),
        ),
        (
            "Parameters for each token of the text",
            Some(significant(verdict.params_per_token)),
            "From 1 on, enough to learn it by heart.".into(),
        ),
        ("The text was read", Some(format!("{} times", significant(verdict.epochs))), String::new()),
        (
            "Characters of the training text",
            verdict.train_chars.map(|chars| count(chars.round() as u64)),
            format!("Below {}, overfitting means that the text is too small.", count(SMALL_TEXT as u64)),
        ),
    ];
    let intro = "The verdict follows from these measures by fixed rules, asked in this order: diverged, overfitting, \
                 interrupted, still improving, too small, converged. The first that holds is the verdict.";
    let content = html! {
        div.scroll tabindex="0" role="region" aria-label="The measures behind the verdict" {
            table.rules {
                thead {
                    tr {
                        th scope="col" { "measure" } th scope="col" { "this run" }
                        th scope="col" { "what it decides" }
                    }
                }
                tbody {
                    @for (name, value, rule) in rules {
                        tr { th scope="row" { (name) } td { (cell(value)) } td { (rule) } }
                    }
                }
            }
        }
    };
    section("rules", "How the verdict is reached", intro, content)
}

pub(super) fn measures() -> Markup {
    glossary(html! {
        dt { "Loss" }
        dd {
            "How surprised the model is by the token that comes next, on average: −ln of the probability it had given "
            "to it, in nats. A loss of 0 would be certainty. The training loss is measured on the text it learns from, "
            "the validation loss on text kept from it."
        }
        dt { "Bits per character" }
        dd {
            "The same surprise, counted for each character instead of each token and in bits: the one scale on which "
            "models with different tokens compare."
        }
        dt { "Perplexity" }
        dd { "Between how many equally likely tokens the model hesitates on average: e to the loss." }
        dt { "Learning rate" }
        dd {
            "How large a step the parameters take along the gradient. It rises during the warm-up and falls towards "
            "the end."
        }
        dt { "Gradient norm" }
        dd {
            "How strongly the loss pulls at the parameters. Single peaks are clipped; one that grows and grows "
            "announces divergence."
        }
        dt { "Overfitting" }
        dd {
            "Learning the text by heart instead of its language: the training loss falls, the validation loss rises."
        }
    })
}

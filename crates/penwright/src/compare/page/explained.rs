//! Every measure in plain words, and how the page was made.

use maud::{Markup, html};

use super::key;
use crate::compare::{Comparison, SampleLength};
use crate::page::format::{count, duration, si};
use crate::page::{cell, glossary, section};

pub(super) fn measures(comparison: &Comparison) -> Markup {
    let guess = comparison.ranking().first().map_or(2.0, |&best| comparison.models[best].bits_per_char);
    let choices = guess.exp2();
    glossary(html! {
        dt { "Bits per character" }
        dd {
            "A model reads the text and, before each character or token, spreads its belief over what could come. What did come had "
            "some probability p; the surprise is −log₂ p bits: none if it was certain, one bit for a coin toss. The sum over the text, "
            "divided by its characters, is the score. It is the same scale for every kind of model and token. The best here, "
            (format!("{guess:.2}")) " bits, is as unsure as if it chose between " (format!("{choices:.1}"))
            " equally likely characters each time. It is also what a compressor built on the model would need."
        }
        dt { "Perplexity" }
        dd {
            "The same with tokens instead of characters: between how many equally likely tokens the model hesitates on average. "
            "A token may be a character or a word, so perplexities compare only between models of the same tokens."
        }
        dt { "Held-out text" }
        dd { "Text the models did not see in training. On text they have seen, learning by heart would look like understanding." }
        dt { "Computation (FLOP)" }
        dd {
            "Floating-point operations of training: those for one token, forward and backward, times the tokens read. Unlike time it "
            "does not depend on the machine. A model of counts does nearly none."
        }
        dt { "Distinct word pairs" }
        dd {
            "Of all pairs of neighbouring words in the sample, the share that are different from each other (distinct-2). A low share "
            "means that the model goes in circles; a share above that of real text may mean that it strings words at random."
        }
        dt { "Repeated four-word runs" }
        dd { "The share of four-word sequences in the sample that had stood in it before. Good prose has next to none." }
        dt { "Longest copied passage" }
        dd {
            "The longest stretch of the sample that stands, character for character, in the training text. Common phrases make a "
            "few dozen characters; whole sentences mean that the model recites."
        }
        dt { "Surprise" }
        dd { "−log₂ of the probability of a word with the space before it, given all before it: the sum over its tokens. The colours show it per character, because a long word has more to guess." }
        dt { "Temperature" }
        dd { "Below 1, writing keeps to what is likely; above 1, it is bolder. 0 would take the likeliest token always." }
    })
}

pub(super) fn settings(comparison: &Comparison, names: &[String]) -> Markup {
    let options = &comparison.options;
    let length = match options.sample {
        SampleLength::Chars(n) => format!("{n} characters, cut between words"),
        SampleLength::Tokens(n) => format!("{n} tokens"),
    };
    let stride = options.stride.map_or("the context of the model".into(), |n| format!("{n} tokens"));
    let intro = "The same models, text and settings give the same numbers again; only the speeds depend on the machine and its load.";
    section(
        "made",
        "How it was made",
        intro,
        html! {
            dl.settings {
                dt { "Text" } dd { (comparison.text) ", " (count(comparison.chars as u64)) " characters" }
                dt { "Beginning of the samples" } dd { "“" (comparison.prompt) "”" }
                dt { "Length of the samples" } dd { (length) }
                dt { "Temperature, seed" } dd { (options.temperature) ", " (options.seed) }
                dt { "Stride of a GPT-2 in scoring" } dd { (stride) }
                dt { "Version" } dd { "Penwright " (env!("CARGO_PKG_VERSION")) }
            }
            div.scroll tabindex="0" role="region" aria-label="The runs" {
                table {
                    thead {
                        tr {
                            th scope="col" { "model" } th scope="col" { "run" } th scope="col" { "family" } th scope="col" { "tokens" }
                            th scope="col" { "parameters" } th scope="col" { "steps" } th scope="col" { "tokens read" } th scope="col" { "time" }
                            th scope="col" { "computation" }
                        }
                    }
                    tbody {
                        @for (style, (model, name)) in comparison.models.iter().zip(names).enumerate() {
                            tr {
                                th scope="row" { (key(style)) (name) }
                                td { (model.run) } td { (model.model) } td { (model.level) } td { (count(model.params)) }
                                td { (cell(model.trained.map(|t| count(t.0)))) } td { (cell(model.trained.map(|t| count(t.1)))) }
                                td { (cell(model.train_seconds.map(duration))) }
                                td { (cell(model.train_flops.map(|x| si(x, "FLOP")))) }
                            }
                        }
                    }
                }
            }
        },
    )
}

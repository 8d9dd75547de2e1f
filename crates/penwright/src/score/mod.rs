//! Log-likelihoods: how likely a model finds the parts of a text, and which of several texts it likes best.
//!
//! The logarithm of a text's probability is the sum over its tokens, log p(text) = Σ log p(token | all before it), so
//! the parts of a text add up to the whole. Divided by the number of characters, in bits, it is comparable between
//! models of any tokenizer: bits per character = −log₂ p(text) / characters.

mod units;

use std::f64::consts::LN_2;
use std::ops::Range;

use rayon::prelude::*;
use serde::Serialize;

pub use units::{Unit, units};

use crate::Result;
use crate::model::LanguageModel;
use crate::tokenizer::Tokenizer;

/// A text, or a part of one, and its likelihood. As JSON: `{"text","log_prob","tokens","bits_per_char"}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scored {
    /// The text, exactly as it stands: parts follow each other without a gap.
    pub text: String,
    /// Natural logarithm of its probability, given all before it.
    pub log_prob: f64,
    /// Tokens it is made of. A token that reaches over a border counts where it ends.
    pub tokens: usize,
    /// −log₂ of its probability, divided by its characters.
    pub bits_per_char: f64,
}

impl Scored {
    fn new(text: &str, log_prob: f64, tokens: usize) -> Self {
        let chars = text.chars().count().max(1) as f64;
        Scored { text: text.to_string(), log_prob, tokens, bits_per_char: -log_prob / LN_2 / chars }
    }

    /// −log₂ of its probability: how surprised the model is.
    pub fn bits(&self) -> f64 {
        -self.log_prob / LN_2
    }
}

/// What texts are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RankBy {
    /// The likelihood of the whole: the shorter of two texts is usually likelier.
    #[default]
    Total,
    /// The mean log-likelihood of a token: length does not matter.
    PerToken,
    /// Bits per character.
    PerChar,
}

/// Scores each part of a text in the context of all before it (as far back as the model can look), in order. The text
/// begins after the end-of-text token. `stride` is as in [`LanguageModel::score`]; without one, half of the model's
/// context, so that every token of a GPT-2 sees at least that much of what stands before it.
///
/// # Errors
/// As [`LanguageModel::score`].
pub fn score(
    model: &dyn LanguageModel,
    tokenizer: &Tokenizer,
    text: &str,
    unit: Unit,
    stride: Option<usize>,
) -> Result<Vec<Scored>> {
    let (ids, log_probs) = log_probs(model, tokenizer, text, stride)?;
    Ok(of_tokens(tokenizer, text, unit, &ids, &log_probs))
}

/// The parts of a text whose tokens have been scored already: each token's id and the natural logarithm of its
/// probability.
pub fn of_tokens(tokenizer: &Tokenizer, text: &str, unit: Unit, ids: &[u32], log_probs: &[f64]) -> Vec<Scored> {
    let spans = tokenizer.spans(text, ids);
    match unit {
        Unit::Token => {
            let parts = spans.iter().zip(log_probs);
            parts.map(|(span, &log_prob)| Scored::new(slice(text, span), log_prob, 1)).collect()
        }
        _ => by_units(text, &units(text, unit), &spans, log_probs),
    }
}

/// As [`score`], for parts of one's own: byte ranges that follow each other and are together the whole text.
pub(crate) fn score_ranges(
    model: &dyn LanguageModel,
    tokenizer: &Tokenizer,
    text: &str,
    ranges: &[Range<usize>],
    stride: Option<usize>,
) -> Result<Vec<Scored>> {
    let (ids, log_probs) = log_probs(model, tokenizer, text, stride)?;
    Ok(by_units(text, ranges, &tokenizer.spans(text, &ids), &log_probs))
}

/// Scores each text on its own and orders them, likeliest first; equals keep their order. The first of each pair is
/// the place in `texts`.
///
/// # Errors
/// As [`LanguageModel::score`].
pub fn rank(
    model: &dyn LanguageModel,
    tokenizer: &Tokenizer,
    texts: &[&str],
    by: RankBy,
) -> Result<Vec<(usize, Scored)>> {
    let scored: Vec<Scored> = texts
        .par_iter()
        .map(|text| {
            let (ids, log_probs) = log_probs(model, tokenizer, text, None)?;
            Ok(Scored::new(text, log_probs.iter().sum(), ids.len()))
        })
        .collect::<Result<_>>()?;
    let merit = |s: &Scored| match by {
        RankBy::Total => s.log_prob,
        RankBy::PerToken => s.log_prob / s.tokens.max(1) as f64,
        RankBy::PerChar => -s.bits_per_char,
    };
    let mut ranked: Vec<_> = scored.into_iter().enumerate().collect();
    ranked.sort_by(|(_, a), (_, b)| merit(b).total_cmp(&merit(a)));
    Ok(ranked)
}

/// The ids of a text and the natural-log probability of each.
fn log_probs(
    model: &dyn LanguageModel,
    tokenizer: &Tokenizer,
    text: &str,
    stride: Option<usize>,
) -> Result<(Vec<u32>, Vec<f64>)> {
    let stride = stride.or(model.context().map(|context| (context / 2).max(1)));
    let mut tokens = vec![tokenizer.eot()];
    tokens.extend(tokenizer.encode(text));
    let mut log_probs = Vec::with_capacity(tokens.len());
    model.score(&tokens, stride, &mut |scores| {
        log_probs.extend(scores.iter().map(|score| f64::from(score.log_prob)));
        Ok(())
    })?;
    tokens.remove(0);
    Ok((tokens, log_probs))
}

/// Adds the tokens up within each part. A token belongs to the part that holds its last character: one that begins
/// with the space before a word belongs to the word.
fn by_units(text: &str, units: &[Range<usize>], spans: &[Range<usize>], log_probs: &[f64]) -> Vec<Scored> {
    let mut sums = vec![(0.0, 0usize); units.len()];
    let mut at = 0;
    for (span, log_prob) in spans.iter().zip(log_probs) {
        let last = if span.is_empty() { span.start } else { span.end - 1 };
        while at + 1 < units.len() && units[at].end <= last {
            at += 1;
        }
        if let Some((sum, count)) = sums.get_mut(at) {
            *sum += log_prob;
            *count += 1;
        }
    }
    let parts = units.iter().zip(sums);
    parts.map(|(unit, (log_prob, tokens))| Scored::new(slice(text, unit), log_prob, tokens)).collect()
}

fn slice<'a>(text: &'a str, range: &Range<usize>) -> &'a str {
    text.get(range.clone()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Gpt2Config, LstmConfig};
    use crate::run::ModelConfig;
    use crate::tokenizer::Level;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn models() -> (Tokenizer, Vec<Arc<dyn LanguageModel>>) {
        let tokenizer =
            Tokenizer::train(Level::Char, &["the quick brown fox jumps over the lazy dog.\n"], None).unwrap();
        let vocab = tokenizer.vocab_size();
        let configs = [
            ModelConfig::Gpt2(Gpt2Config {
                vocab,
                context: 16,
                layers: 1,
                heads: 2,
                width: 16,
                ..Gpt2Config::default()
            }),
            ModelConfig::Lstm(LstmConfig {
                vocab,
                embed: 8,
                hidden: 16,
                layers: 1,
                tied: false,
                ..LstmConfig::default()
            }),
        ];
        let models = configs.iter().map(|c| c.build(3).unwrap().into_model()).collect();
        (tokenizer, models)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn parts_add_up_to_the_whole(text in "(the fox|ox é海\u{1F469}\u{200D}\u{1F33E}|\\. |\n\n|\n|[a-z ]{0,9}|\\PC){0,12}") {
            let (tokenizer, models) = models();
            for model in models {
                let (ids, log_probs) = log_probs(&*model, &tokenizer, &text, Some(5)).unwrap();
                let whole: f64 = log_probs.iter().sum();
                for unit in Unit::ALL {
                    let parts = score(&*model, &tokenizer, &text, unit, Some(5)).unwrap();
                    let joined: String = parts.iter().map(|p| p.text.as_str()).collect();
                    prop_assert_eq!(&joined, &text, "{:?}", unit);
                    prop_assert_eq!(parts.iter().map(|p| p.tokens).sum::<usize>(), ids.len());
                    let sum: f64 = parts.iter().map(|p| p.log_prob).sum();
                    prop_assert!((sum - whole).abs() < 1e-6 * (1.0 + whole.abs()), "{unit:?} {sum} {whole}");
                }
            }
        }
    }

    #[test]
    fn ranks_by_likelihood_and_keeps_the_order_of_equals() {
        let (tokenizer, models) = models();
        for model in models {
            let texts = ["the fox", "the", "the fox", "", "the fox jumps over"];
            let ranked = rank(&*model, &tokenizer, &texts, RankBy::Total).unwrap();
            assert_eq!(ranked.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [3, 1, 0, 2, 4], "more tokens, less likely");
            assert!(ranked.windows(2).all(|pair| pair[0].1.log_prob >= pair[1].1.log_prob));
            let mean = |s: &Scored| s.log_prob / s.tokens.max(1) as f64;
            let ranked = rank(&*model, &tokenizer, &texts, RankBy::PerToken).unwrap();
            assert!(ranked.windows(2).all(|pair| mean(&pair[0].1) >= mean(&pair[1].1)));
            let alone = score(&*model, &tokenizer, "the fox", Unit::Text, None).unwrap();
            assert_eq!(ranked.iter().find(|(i, _)| *i == 0).map(|(_, s)| s), alone.first());
        }
    }

    #[test]
    fn a_token_over_a_border_counts_where_it_ends() {
        let scored = by_units("a bc", &[0..1, 1..4], &[0..1, 1..1, 1..3, 3..4], &[-1.0, -2.0, -4.0, -8.0]);
        assert_eq!(scored.iter().map(|s| (s.log_prob, s.tokens)).collect::<Vec<_>>(), [(-1.0, 1), (-14.0, 3)]);
        let scored = by_units("a bc", &[0..2, 2..4], &[0..1, 1..3, 3..4], &[-1.0, -2.0, -4.0]);
        assert_eq!(scored.iter().map(|s| s.log_prob).collect::<Vec<_>>(), [-1.0, -6.0]);
    }
}

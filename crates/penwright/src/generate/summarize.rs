//! Summaries by continuation, as GPT-2's paper makes them (Radford et al. 2019, section 3.6).

use std::sync::Arc;

use super::units::{Counter, Unit};
use super::{Draft, GenerateOptions, Generation, Length, OnText, Sampling, clean_prompt, generate};
use crate::model::{LanguageModel, ModelKind};
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// What follows the passage.
const CUE: &str = "\nTL;DR:";
/// The bytes of a passage that are looked at for each token of the context: few tokens are longer on average.
const BYTES: usize = 64;

/// How a summary is written. The default is the paper's.
#[derive(Clone, Debug, PartialEq)]
pub struct SummaryOptions {
    /// Sentences to keep.
    pub sentences: usize,
    /// Tokens to write at most.
    pub tokens: usize,
    /// Summaries to write side by side.
    pub samples: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Strings before which a summary ends.
    pub stop: Vec<String>,
    /// As in [`GenerateOptions`].
    pub draft: Draft,
    /// As in [`GenerateOptions`].
    pub draft_tokens: usize,
}

impl Default for SummaryOptions {
    fn default() -> Self {
        let sampling = Sampling { temperature: 1.0, top_k: 2, ..Sampling::default() };
        let GenerateOptions { stop, draft, draft_tokens, .. } = GenerateOptions::default();
        SummaryOptions { sentences: 3, tokens: 100, samples: 1, sampling, stop, draft, draft_tokens }
    }
}

/// A summary.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The texts, without white space at either end.
    pub generation: Generation,
    /// Bytes of the passage that the model has read, and bytes that the passage has.
    pub read: (usize, usize),
}

/// Continues a passage followed by `⏎TL;DR:` and keeps the first sentences of what comes. A sentence that the last
/// token leaves unfinished is dropped if another stands before it.
///
/// A GPT-2 reads the beginning of a passage that does not fit its context beside the cue and the summary; it is cut
/// after a word. Other models read all of it.
///
/// # Errors
/// When an option cannot work, the passage is empty, the context has no room for it, memory is short or the model
/// refuses the passage.
pub fn summarize(
    model: &Arc<dyn LanguageModel>,
    tokenizer: &Tokenizer,
    passage: &str,
    options: &SummaryOptions,
    on_text: OnText<'_>,
) -> Result<Summary> {
    if options.tokens == 0 {
        return Err(Error::setting("tokens", "must be at least 1"));
    }
    let settings = GenerateOptions {
        length: Length::Sentences(options.sentences),
        most_tokens: Some(options.tokens),
        samples: options.samples,
        sampling: options.sampling.clone(),
        stop: options.stop.clone(),
        draft: options.draft.clone(),
        draft_tokens: options.draft_tokens,
        ..GenerateOptions::default()
    };
    settings.check()?;
    let passage = clean_prompt(passage);
    let passage = passage.trim();
    if passage.is_empty() {
        return Err(Error::Text("there is nothing to summarize: the passage is empty".into()));
    }
    let context = model.context().filter(|_| model.kind() == ModelKind::Gpt2);
    let kept = match context {
        Some(context) => fit(tokenizer, passage, context, options.tokens)?,
        None => passage,
    };
    let mut generation = generate(model, tokenizer, &format!("{kept}{CUE}"), &settings, on_text)?;
    for sample in &mut generation.samples {
        sample.text = whole_sentences(&sample.text, options.sentences).trim().to_string();
    }
    Ok(Summary { generation, read: (kept.len(), passage.len()) })
}

/// As much of the passage's beginning as fits the context beside end-of-text, the cue and `tokens` of summary.
fn fit<'a>(tokenizer: &Tokenizer, passage: &'a str, context: usize, tokens: usize) -> Result<&'a str> {
    // The last token written is never read.
    let room = context.saturating_sub(tokenizer.encode(CUE).len() + tokens);
    if room == 0 {
        let problem = format!("{tokens} leave no room for the passage in the {context} that the model can see");
        return Err(Error::setting("tokens", format!("{problem}; give fewer")));
    }
    let mut kept = passage;
    if let Some((at, _)) = passage.char_indices().find(|&(at, _)| at > BYTES * room) {
        kept = cut(passage, at);
    }
    loop {
        let all = tokenizer.encode(&format!("{kept}{CUE}"));
        let Some(excess) = (all.len() + tokens).checked_sub(context).filter(|&excess| excess > 0) else {
            return Ok(kept);
        };
        // Where the tokens that fit end; at least one character less each time.
        let spans = tokenizer.spans(kept, &tokenizer.encode(kept));
        let end = spans.get(spans.len().saturating_sub(excess)).map_or(0, |span| span.start);
        let last = kept.char_indices().next_back().map_or(0, |(at, _)| at);
        kept = cut(kept, end.min(last));
        if kept.is_empty() {
            let problem = "the context is too short for a passage; take a model with a longer one, or fewer --tokens";
            return Err(Error::Unsupported(problem.into()));
        }
    }
}

/// The text before `at`, or before the word that lies there.
fn cut(text: &str, at: usize) -> &str {
    let before = text.get(..at).unwrap_or_default();
    let apart = before.ends_with(char::is_whitespace) || text[before.len()..].starts_with(char::is_whitespace);
    match before.rfind(char::is_whitespace).filter(|_| !apart) {
        Some(space) => before[..space].trim_end(),
        None => before.trim_end(),
    }
}

/// The text up to its last sentence that is complete, of `count`; all of it when none is.
fn whole_sentences(text: &str, count: usize) -> &str {
    let mut end = 0;
    for n in 1..=count {
        match Counter::new(Unit::Sentence, n, "").look(text, false) {
            Some((at, true)) => end = at,
            Some((at, false)) if closed(&text[..at]) => end = at,
            _ => break,
        }
    }
    if end == 0 { text } else { &text[..end] }
}

/// Whether a text ends as sentences do: with a full stop or the like, and what closes quotes and brackets.
fn closed(text: &str) -> bool {
    let closers = ['"', '\'', '”', '’', '»', ')', ']'];
    text.trim_end().trim_end_matches(closers).ends_with(['.', '!', '?', '…', '。', '！', '？'])
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use proptest::prelude::*;

    use super::super::tests::models;
    use super::*;
    use crate::tokenizer::Level;

    #[test]
    fn unfinished_sentences_are_dropped() {
        for (text, count, expected) in [
            (" One. Two. Three. Four", 3, " One. Two. Three."),
            (" One. Two. Thr", 3, " One. Two."),
            (" One. “Two!” ", 3, " One. “Two!”"),
            (" One. Two", 1, " One."),
            (" On", 3, " On"),
            ("", 3, ""),
        ] {
            assert_eq!(whole_sentences(text, count), expected);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// The passage is a beginning that fits, ends between words where it has several, and is not cut needlessly.
        #[test]
        fn passages_are_cut_to_fit(words in prop::collection::vec("[a-e]{1,7}|é+", 1..40), context in 12usize..90) {
            let tokenizer = Tokenizer::train(Level::Char, &["abcdeTL;DR: \n"], None).unwrap();
            let passage = words.join(" ");
            let size = |text: &str| 1 + tokenizer.encode(&format!("{text}{CUE}")).len() + 4 - 1;
            match fit(&tokenizer, &passage, context, 4) {
                Ok(kept) => {
                    prop_assert!(passage.starts_with(kept) && size(kept) <= context);
                    let whole = words.iter().scan(String::new(), |text, word| {
                        let space = if text.is_empty() { "" } else { " " };
                        *text += &format!("{space}{word}");
                        Some(text.clone())
                    });
                    let longest = whole.take_while(|text| size(text) <= context).last();
                    prop_assert!(longest.is_none_or(|longest| kept == longest), "{} of {}", kept, passage);
                }
                Err(_) => prop_assert!(passage.starts_with('é') || size(&passage[..1]) > context),
            }
        }
    }

    #[test]
    fn a_summary_is_what_generate_writes_after_the_cue() {
        let tokenizer = super::super::tests::tokenizer();
        for model in models(tokenizer.vocab_size()) {
            let options = SummaryOptions { tokens: 6, samples: 2, ..SummaryOptions::default() };
            let on_text: OnText<'_> = &mut |_, _| ControlFlow::Continue(());
            // The cue's letters are unseen: escapes take more room than a context of 16 has.
            let result = summarize(&model, &tokenizer, " the bell \r\n", &options, on_text);
            if model.kind() == ModelKind::Gpt2 {
                assert!(result.unwrap_err().to_string().contains("--tokens"));
                continue;
            }
            let settings = GenerateOptions {
                length: Length::Tokens(6),
                samples: 2,
                sampling: options.sampling.clone(),
                ..GenerateOptions::default()
            };
            let plain = generate(&model, &tokenizer, "the bell\nTL;DR:", &settings, on_text).unwrap();
            let (summary, read) = result.map(|summary| (summary.generation, summary.read)).unwrap();
            assert_eq!(read, (8, 8));
            assert_eq!(summary.prompt_tokens, plain.prompt_tokens);
            for (summary, plain) in summary.samples.iter().zip(&plain.samples) {
                assert!(plain.text.trim().starts_with(&summary.text) && summary.tokens <= 6, "{summary:?} {plain:?}");
            }
            let none = summarize(&model, &tokenizer, " \n", &options, on_text).unwrap_err().to_string();
            assert!(none.contains("empty"), "{none}");
        }
    }
}

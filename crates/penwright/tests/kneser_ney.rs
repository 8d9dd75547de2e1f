//! The n-gram model against KenLM: the same discounts, counts, perplexity and probabilities of single words
//! (fixtures/make_kenlm.py). And a measurement, run when asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::path::Path;
use std::time::Instant;

use penwright::model::{LanguageModel, Ngram, NgramConfig, TokenScore};
use penwright::tokenizer::{Level, Tokenizer};
use penwright::train::token_stream;
use serde_json::Value;
use unicode_segmentation::UnicodeSegmentation;

fn data(name: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        eprintln!("skipped: there is no {}", path.display());
    }
    text
}

fn log10s(model: &Ngram, tokens: &[u32]) -> Vec<f64> {
    let mut all = Vec::new();
    let mut sink = |scores: &[TokenScore]| {
        all.extend(scores.iter().map(|s| f64::from(s.log_prob) / std::f64::consts::LN_10));
        Ok(())
    };
    model.score(tokens, None, &mut sink).unwrap();
    all
}

fn close(what: &str, ours: f64, theirs: &Value, tolerance: f64) {
    let theirs = theirs.as_f64().unwrap();
    assert!((ours - theirs).abs() <= tolerance * theirs.abs().max(1.0), "{what}: {ours}, KenLM has {theirs}");
}

const END: u32 = 0;
const UNKNOWN: u32 = 1;

/// Sentences, each begun by the end-of-text token, and one more at the end.
fn stream(lines: &[&str], ids: &BTreeMap<&str, u32>) -> Vec<u32> {
    let id = |word| ids.get(word).copied().unwrap_or(UNKNOWN);
    let mut tokens = vec![END];
    for line in lines {
        tokens.extend(line.split_whitespace().map(id).chain([END]));
    }
    tokens
}

#[test]
fn equals_kenlm() {
    let Some(text) = data("tinyshakespeare.txt") else { return };
    let fixture: Value = serde_json::from_str(include_str!("fixtures/kenlm.json")).unwrap();
    assert_eq!(fixture["bytes"], text.len(), "another text than KenLM's");
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let (train, held_out) = lines.split_at(lines.len() * 9 / 10);
    let words: BTreeSet<&str> = train.iter().flat_map(|line| line.split_whitespace()).collect();
    let ids: BTreeMap<&str, u32> = words.into_iter().zip(UNKNOWN + 1..).collect();
    for reference in fixture["orders"].as_array().unwrap() {
        let order = reference["order"].as_u64().unwrap() as usize;
        let config = NgramConfig { vocab: ids.len() + 2, order };
        let model = Ngram::train(config, &stream(train, &ids), END).unwrap();
        // KenLM has two ids for the beginning and the end of a sentence.
        let mut counts = model.counts();
        counts[0] += 1;
        assert_eq!(reference["ngrams"], Value::from(counts));
        for (k, ours) in model.discounts().iter().enumerate() {
            for (i, &d) in ours.iter().enumerate() {
                close(&format!("D{} of length {}", i + 1, k + 1), f64::from(d), &reference["discounts"][k][i], 1e-5);
            }
        }
        let tokens = stream(held_out, &ids);
        let all = log10s(&model, &tokens);
        let known: Vec<f64> = all.iter().zip(&tokens[1..]).filter(|(_, t)| **t != UNKNOWN).map(|(&p, _)| p).collect();
        assert_eq!(
            (&reference["scored"], &reference["unknown"]),
            (&all.len().into(), &(all.len() - known.len()).into())
        );
        let perplexity = |log10s: &[f64]| 10f64.powf(-log10s.iter().sum::<f64>() / log10s.len() as f64);
        eprintln!("order {order}: perplexity {:.3}, of known words {:.3}", perplexity(&all), perplexity(&known));
        close("perplexity", perplexity(&all), &reference["perplexity"], 1e-5);
        close("perplexity of known words", perplexity(&known), &reference["perplexity_known"], 1e-5);
        for sentence in reference["sentences"].as_array().unwrap() {
            let line = sentence["line"].as_u64().unwrap() as usize;
            let ours = log10s(&model, &stream(&lines[line..=line], &ids));
            let theirs = sentence["log10"].as_array().unwrap();
            assert_eq!(ours.len(), theirs.len());
            for (i, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                close(&format!("order {order}, word {i} of {:?}", lines[line]), *ours, theirs, 1e-5);
            }
        }
    }
}

/// Bits a character on the last tenth of texts, at each order; seconds and size.
/// `cargo test --release -p penwright --test kneser_ney -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn orders() {
    for name in ["tinyshakespeare.txt", "novels/dracula.txt", "novels/pride-and-prejudice.txt"] {
        let Some(text) = data(name) else { continue };
        let cut = (0..=text.len() / 10 * 9).rev().find(|&i| text.is_char_boundary(i)).unwrap();
        let characters = text[cut..].chars().count() as f64;
        let tokenizer = Tokenizer::train(Level::Char, &[&text[..cut]], None).unwrap();
        let (train, rest) = (token_stream(&tokenizer, &[&text[..cut]]), token_stream(&tokenizer, &[&text[cut..]]));
        measure(name, tokenizer.vocab_size(), tokenizer.eot(), &train, &rest, characters, 4..=12);
        // Words, and what stands between them, unknown ones given away.
        let known: BTreeSet<&str> = text[..cut].split_word_bounds().collect();
        let ids: BTreeMap<&str, u32> = known.into_iter().zip(UNKNOWN + 1..).collect();
        let id = |word| ids.get(word).copied().unwrap_or(UNKNOWN);
        let train: Vec<u32> = iter::once(END).chain(text[..cut].split_word_bounds().map(id)).collect();
        let rest: Vec<u32> = iter::once(END).chain(text[cut..].split_word_bounds().map(id)).collect();
        measure(name, ids.len() + 2, END, &train, &rest, characters, 2..=8);
    }
}

fn measure(
    name: &str,
    vocab: usize,
    eot: u32,
    train: &[u32],
    rest: &[u32],
    characters: f64,
    orders: std::ops::RangeInclusive<usize>,
) {
    for order in orders {
        let start = Instant::now();
        let model = Ngram::train(NgramConfig { vocab, order }, train, eot).unwrap();
        let (trained, start) = (start.elapsed(), Instant::now());
        let bits = -log10s(&model, rest).iter().sum::<f64>() / 2f64.log10() / characters;
        let speed = rest.len() as f64 / start.elapsed().as_secs_f64();
        eprintln!(
            "{name} V {vocab} order {order}: {bits:.4} bits a character; {} tokens in {trained:.2?}, {} n-grams; \
             {speed:.0} tokens/s",
            train.len(),
            model.num_params()
        );
    }
}

//! Learning byte-pair merges (Sennrich et al. 2016) from a text, by the trainer of the crate `tokenizers`.
//!
//! The trainer's hash maps have random seeds and its words are counted in parallel, yet the result is one: counts are
//! sums, and its queue orders pairs by count and then by id. Only a pair that stood in the queue twice could be taken
//! in either order; that needs two merges that make the same token, and there are none: a merge is made everywhere,
//! so a stretch of bytes that becomes one token is put together in the same way wherever it stands.

use std::collections::BTreeMap;

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::{AddedToken, Trainer};

use super::bytes::{Added, ByteTokenizer, Vocabulary, byte_char, owned_pairs, owned_tokens};
use super::split::{self, Scheme};
use super::{ENDOFTEXT, Level, MAX_VOCAB};
use crate::{Error, Result};

/// End-of-text and the bytes.
pub(super) const SMALLEST: usize = 257;
/// Bytes of text that merges are learned from; the trainer counts in 31 bits.
const SAMPLE: usize = 64 << 20;
/// Pieces longer than this, in bytes, are cut for training: the trainer's time grows with the square.
const LONGEST: usize = 128;

/// The size of vocabulary that suits a text of so many bytes: it grows with the square root, as the number of
/// distinct words does (Heaps' law), from 512 for a story to 8192 for a library; 2048 for a book of 500 KB.
pub fn default_bpe_vocab(bytes: usize) -> usize {
    let size = 2.896 * (bytes as f64).sqrt();
    ((size / 64.0).round() as usize * 64).clamp(512, 8192)
}

pub(super) fn train(texts: &[&str], vocab_size: Option<usize>) -> Result<ByteTokenizer> {
    let size = vocab_size.unwrap_or_else(|| default_bpe_vocab(texts.iter().map(|text| text.len()).sum()));
    if !(SMALLEST..=MAX_VOCAB).contains(&size) {
        return Err(Error::setting("vocab-size", format!("{size} is not from {SMALLEST} to {MAX_VOCAB}; try 2048")));
    }
    let failed =
        |e: &dyn std::fmt::Display| Error::Unsupported(format!("the BPE vocabulary could not be learned: {e}"));
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(size)
        .min_frequency(2)
        .special_tokens(vec![AddedToken::from(ENDOFTEXT, true)])
        .initial_alphabet((0..=255).map(byte_char).collect())
        .build();
    let mut model = BPE::default();
    trainer.feed(split::sample(texts, SAMPLE).into_iter(), |part| Ok(pieces(part))).map_err(|e| failed(&e))?;
    trainer.train(&mut model).map_err(|e| failed(&e))?;
    let model = serde_json::to_value(&model).map_err(|e| failed(&e))?;
    let merges: Vec<(String, String)> = serde_json::from_value(model["merges"].clone()).map_err(|e| failed(&e))?;

    let mut tokens: Vec<String> = (0..=255).map(|byte| byte_char(byte).to_string()).collect();
    tokens.sort();
    tokens.insert(0, ENDOFTEXT.into());
    tokens.extend(merges.iter().map(|(a, b)| format!("{a}{b}")));
    // Two merges may make the same token.
    let tokens: BTreeMap<String, u32> = tokens.into_iter().zip(0..).collect();
    let (tokens, merges) = (owned_tokens(tokens), owned_pairs(merges));
    let added = vec![Added { id: 0, content: ENDOFTEXT.into(), special: true }];
    ByteTokenizer::new(Vocabulary { level: Level::Bpe, scheme: Scheme::Gpt2, tokens, merges, added, eot: 0 })
        .map_err(|e| failed(&format!("it {e}")))
}

fn pieces(part: &str) -> Vec<String> {
    let pieces = split::pieces(part, Scheme::Gpt2).flat_map(|piece| piece.as_bytes().chunks(LONGEST));
    pieces.map(super::bytes::to_chars).collect()
}

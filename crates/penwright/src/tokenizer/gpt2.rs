//! GPT-2's published vocabulary, out of the crate `tiktoken-rs`: ids 0 to 50255 are the ranks, 50256 is end-of-text.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use super::bytes::{Added, ByteTokenizer, Vocabulary, to_chars};
use super::split::Scheme;
use super::{ENDOFTEXT, Level};
use crate::{Error, Result};

/// The id of GPT-2's end-of-text token, its last.
pub(super) const EOT: u32 = 50256;

/// The tokenizer, made at the first call.
pub(super) fn gpt2() -> Result<Arc<ByteTokenizer>> {
    static GPT2: OnceLock<Result<Arc<ByteTokenizer>, String>> = OnceLock::new();
    let made = GPT2.get_or_init(|| build().map(Arc::new)).clone();
    made.map_err(|e| Error::Unsupported(format!("the GPT-2 vocabulary that is built in {e}; build Penwright anew")))
}

fn build() -> Result<ByteTokenizer, String> {
    let published = tiktoken_rs::r50k_base().map_err(|e| format!("is unreadable ({e})"))?;
    let tokens: Vec<Vec<u8>> = (0..EOT)
        .map(|rank| published.decode_bytes(&[rank]))
        .collect::<Result<_, _>>()
        .map_err(|e| format!("is incomplete ({e})"))?;
    let ranks: HashMap<&[u8], u32> = tokens.iter().map(Vec::as_slice).zip(0..).collect();
    let mut merges = Vec::with_capacity(tokens.len());
    for (token, rank) in tokens.iter().zip(0..).filter(|(token, _)| token.len() > 1) {
        let at = parts(token, rank, &ranks).ok_or_else(|| format!("has no merge for token {rank}"))?;
        merges.push((to_chars(&token[..at]), to_chars(&token[at..])));
    }
    let mut vocab: BTreeMap<String, u32> = tokens.iter().map(|token| to_chars(token)).zip(0..).collect();
    vocab.insert(ENDOFTEXT.into(), EOT);
    let added = vec![Added { id: EOT, content: ENDOFTEXT.into(), special: true }];
    let (level, scheme) = (Level::Gpt2, Scheme::Gpt2);
    ByteTokenizer::new(Vocabulary { level, scheme, tokens: vocab, merges, added, eot: EOT })
}

/// Where the last merge of a token joins its two parts: merging its bytes by the tokens of lower rank, the lowest
/// first, must leave exactly two.
fn parts(token: &[u8], rank: u32, ranks: &HashMap<&[u8], u32>) -> Option<usize> {
    let mut starts: Vec<usize> = (0..=token.len()).collect();
    while starts.len() > 3 {
        let merged = starts.windows(3).zip(1..).filter_map(|(w, i)| Some((*ranks.get(&token[w[0]..w[2]])?, i)));
        let (_, i) = merged.min().filter(|&(lowest, _)| lowest < rank)?;
        starts.remove(i);
    }
    starts.get(1).copied()
}

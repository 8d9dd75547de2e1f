//! GPT-2's published vocabulary, out of the crate `tiktoken-rs`: ids 0 to 50255 are the ranks, 50256 is end-of-text.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use xxhash_rust::xxh3::Xxh3;

use super::bytes::{Added, ByteTokenizer, Vocabulary, owned_pairs, owned_tokens, to_chars};
use super::split::Scheme;
use super::{ENDOFTEXT, Level};
use crate::{Error, Result};

/// The id of GPT-2's end-of-text token, its last.
pub(super) const EOT: u32 = 50256;

/// Of the published tokens and merges; see [`published`].
const FINGERPRINT: u64 = 0xb44f_7e50_edd6_1887;

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
    let named = owned_tokens(tokens.iter().map(|token| to_chars(token)).zip(0..));
    let added = vec![Added { id: EOT, content: ENDOFTEXT.into(), special: true }];
    // It is known again by its fingerprint, as those that are read are.
    let (level, scheme) = (Level::Bpe, Scheme::Gpt2);
    ByteTokenizer::new(Vocabulary { level, scheme, tokens: named, merges: owned_pairs(merges), added, eot: EOT })
}

/// Whether a vocabulary is the published one: the bytes of all tokens with where each begins, the merges, the added
/// tokens, sorted, and end-of-text. The answer rests on a hash, which takes a hundredth of the time of making the
/// published one to compare with.
pub(super) fn published((bytes, starts): (&[u8], &[u32]), merges: &[(u32, u32)], added: &[Added], eot: u32) -> bool {
    let expected = [Added { id: EOT, content: ENDOFTEXT.into(), special: true }];
    if (starts.len(), merges.len(), eot) != (EOT as usize + 2, 50_000, EOT) || added != expected {
        return false;
    }
    let mut hash = Xxh3::new();
    hash.update(bytes);
    let numbers = starts.iter().copied().chain(merges.iter().flat_map(|&(a, b)| [a, b]));
    hash.update(&numbers.flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    hash.digest() == FINGERPRINT
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

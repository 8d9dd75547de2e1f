//! The word level: a vocabulary of words by frequency; a word that is not in it is spelled by characters and bytes.
//!
//! The units are cut by [`split::WORD_PATTERN`]. Ids: end-of-text, the 256 bytes, the text's characters of several
//! bytes (and their beginnings), then the units, the most frequent first. Units seen once are left out, so that the
//! model learns from them how words are spelled; of text that is cut into words already every unit is one, since its
//! rare words have been replaced.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rayon::prelude::*;

use super::bpe::SMALLEST;
use super::bytes::{Added, ByteTokenizer, Vocabulary, byte_char, owned_pairs, owned_tokens, to_chars};
use super::split::{self, Scheme};
use super::{ENDOFTEXT, Level, MAX_VOCAB};
use crate::{Error, Result};

/// At most so many units unless the size of the vocabulary is given.
const WORDS: usize = 10_000;
/// At most so many characters of several bytes are tokens for spelling.
const CHARS: usize = 2048;
/// Bytes of text that are counted.
const SAMPLE: usize = 256 << 20;

/// `scheme` is one of words.
pub(super) fn train(texts: &[&str], vocab_size: Option<usize>, scheme: Scheme) -> Result<ByteTokenizer> {
    if let Some(size) = vocab_size.filter(|size| !(SMALLEST..=MAX_VOCAB).contains(size)) {
        return Err(Error::setting("vocab-size", format!("{size} is not from {SMALLEST} to {MAX_VOCAB}; try 8192")));
    }
    let counts = count(&split::sample(texts, SAMPLE), scheme);
    let room = vocab_size.map(|size| size - SMALLEST);
    let spelling = spelling(&counts, room.map_or(CHARS, |room| CHARS.min(room / 4)));

    let mut tokens: BTreeMap<String, u32> = BTreeMap::from([(ENDOFTEXT.into(), 0)]);
    let mut add = |token: String| {
        let id = tokens.len() as u32;
        tokens.entry(token).or_insert(id);
        tokens.len()
    };
    (0..=255).for_each(|byte| _ = add(byte_char(byte).into()));
    let mut size = SMALLEST;
    for token in &spelling {
        size = add(to_chars(token));
    }
    let (least, most) = if scheme == Scheme::Ptb { (1, MAX_VOCAB) } else { (2, size + WORDS) };
    let limit = vocab_size.unwrap_or(most);
    for unit in by_frequency(&counts, least) {
        if size >= limit {
            break;
        }
        size = add(to_chars(unit.as_bytes()));
    }
    // Shorter tokens first; each grows by one byte.
    let merges = spelling.iter().filter_map(|token| token.split_last());
    let merges = merges.map(|(last, first)| (to_chars(first), byte_char(*last).into()));
    let (tokens, merges) = (owned_tokens(tokens), owned_pairs(merges));
    let added = vec![Added { id: 0, content: ENDOFTEXT.into(), special: true }];
    ByteTokenizer::new(Vocabulary { level: Level::Word, scheme, tokens, merges, added, eot: 0 })
        .map_err(|e| Error::Unsupported(format!("the word vocabulary could not be made: it {e}")))
}

/// How often each unit occurs.
fn count<'a>(parts: &[&'a str], scheme: Scheme) -> HashMap<&'a str, u64> {
    let add = |mut counts: HashMap<&'a str, u64>, more: HashMap<&'a str, u64>| {
        more.into_iter().for_each(|(unit, n)| *counts.entry(unit).or_default() += n);
        counts
    };
    let one = |part: &&'a str| {
        let mut counts = HashMap::new();
        split::pieces(part, scheme).for_each(|unit| *counts.entry(unit).or_default() += 1);
        counts
    };
    parts.par_iter().map(one).reduce(HashMap::new, add)
}

/// What occurs at least so often, the most frequent first.
fn by_frequency<'a, T: Ord + Copy + 'a>(counts: impl IntoIterator<Item = (&'a T, &'a u64)>, least: u64) -> Vec<T> {
    let mut all: Vec<(T, u64)> = counts.into_iter().map(|(&t, &n)| (t, n)).filter(|&(_, n)| n >= least).collect();
    all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    all.into_iter().map(|(t, _)| t).collect()
}

/// The most frequent characters of several bytes, and their beginnings of two bytes and more; the shorter first.
fn spelling(counts: &HashMap<&str, u64>, limit: usize) -> Vec<Vec<u8>> {
    let mut chars: BTreeMap<char, u64> = BTreeMap::new();
    for (unit, n) in counts {
        unit.chars().filter(|c| !c.is_ascii()).for_each(|c| *chars.entry(c).or_default() += n);
    }
    let mut tokens: BTreeSet<(usize, Vec<u8>)> = BTreeSet::new();
    for c in by_frequency(&chars, 2) {
        let mut buffer = [0; 4];
        let bytes = c.encode_utf8(&mut buffer).as_bytes();
        let new = (2..=bytes.len()).filter_map(|n| bytes.get(..n)).map(|token| (token.len(), token.to_vec()));
        let new: Vec<_> = new.filter(|token| !tokens.contains(token)).collect();
        if tokens.len() + new.len() > limit {
            break;
        }
        tokens.extend(new);
    }
    tokens.into_iter().map(|(_, token)| token).collect()
}

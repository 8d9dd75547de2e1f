//! Estimation. The n-grams of length k + 1 are those of length k, each group of equal ones split by the token that
//! follows: the positions of the text are sorted once, a token further at each level.

use std::ops::Range;

use rayon::prelude::*;

use super::{Level, NgramConfig};
use crate::memory::free_memory;
use crate::{Error, Result};

/// D1, D2 and D3+ where the counts of counts allow no estimate, as in very small or very regular texts; KenLM's too.
const FALLBACK: [f64; 3] = [0.5, 1.0, 1.5];

/// Work is shared in parts of about so many tokens, whatever the number of threads.
const PART: usize = 1 << 16;

/// The levels of lengths 1 to `order` and their discounts.
pub(super) fn levels(config: &NgramConfig, tokens: &[u32], eot: u32) -> Result<(Vec<Level>, Vec<[f32; 3]>)> {
    check_stream(config, tokens, eot)?;
    let mut groups = Groups::unigrams(tokens, config.vocab);
    // Below the lowest order stands one n-gram of no tokens, with the uniform distribution.
    let uniform = (1.0 / config.vocab as f64) as f32;
    let root = Level { prob: vec![uniform], children: vec![0, config.vocab as u32], ..Level::default() };
    let (mut levels, mut discounts) = (vec![root], Vec::new());
    let mut token: Vec<u32> = (0..config.vocab as u32).collect();
    // For each n-gram, the place of its last k − 1 tokens in the level below.
    let mut suffix = vec![0; config.vocab];
    // The n-grams that begin with the end-of-text token; none of length 1, where it is a prediction like any other.
    let mut begun = 0..0;
    for depth in 1..=config.order {
        let below = &mut levels[depth - 1];
        let mut level = Level::default();
        let (mut next_token, mut next_suffix) = (Vec::new(), Vec::new());
        let counts = if depth < config.order {
            check_memory(groups.positions.len())?;
            let raw = groups.counts(begun.clone());
            (next_token, level.children) = groups.split(tokens, depth, |node| depth > 1 && token[node] == eot);
            next_suffix = suffixes(&suffix, &below.children, &token, &level.children, &next_token);
            let mut counts = vec![0u32; token.len()];
            next_suffix.iter().for_each(|&node| counts[node as usize] += 1);
            counts[begun.clone()].copy_from_slice(&raw);
            counts
        } else {
            let mut counts = groups.counts(0..token.len());
            if depth == 1 {
                counts[eot as usize] -= 1; // the first token of the stream is no prediction
            }
            counts
        };
        let d = estimate_discounts(&counts);
        discounts.push(d.map(|d| d as f32));
        (level.prob, below.backoff) = estimate(&below.children, &counts, &suffix, &below.prob, d);
        if depth < config.order {
            let first = if depth == 1 { eot as usize..eot as usize + 1 } else { begun };
            begun = level.children[first.start] as usize..level.children[first.end] as usize;
        }
        level.token = std::mem::replace(&mut token, next_token);
        suffix = next_suffix;
        levels.push(level);
    }
    levels.remove(0);
    Ok((levels, discounts))
}

fn check_stream(config: &NgramConfig, tokens: &[u32], eot: u32) -> Result<()> {
    let problem = if eot as usize >= config.vocab {
        "the end-of-text token is outside the vocabulary; use the tokenizer that made the tokens"
    } else if tokens.first() != Some(&eot) {
        "the tokens do not begin with the end-of-text token; put it before each document"
    } else if tokens.len() < 2 {
        "the text is empty, there is nothing to learn from; give a longer one"
    } else if tokens.len() >= u32::MAX as usize {
        "the text has 2³² tokens or more, which is too many for an n-gram model; give a shorter one"
    } else {
        return Ok(());
    };
    Err(Error::Text(problem.into()))
}

/// What one more level can take: the trie's arrays, counts, suffixes and the parts before they are joined.
fn check_memory(positions: usize) -> Result<()> {
    const BYTES: u64 = 32;
    let needed = BYTES * positions as u64;
    let free = if needed > 1 << 26 { free_memory() } else { u64::MAX };
    if needed > free {
        let what = "the n-gram model".to_string();
        return Err(Error::Memory { what, needed, free, remedy: "--order or a shorter text" });
    }
    Ok(())
}

/// The places in the text where the n-grams of one length begin, grouped by n-gram.
struct Groups {
    positions: Vec<u32>,
    /// Where each n-gram's positions begin, and at last their number.
    starts: Vec<u32>,
}

/// What one part of the n-grams becomes: the tokens that follow, how often, and how many to each n-gram.
#[derive(Default)]
struct Part {
    token: Vec<u32>,
    count: Vec<u32>,
    children: Vec<u32>,
    kept: usize,
}

impl Groups {
    fn unigrams(tokens: &[u32], vocab: usize) -> Groups {
        let mut starts = vec![0u32; vocab + 1];
        tokens.iter().for_each(|&t| starts[t as usize + 1] += 1);
        accumulate(&mut starts);
        let mut free = starts.clone();
        let mut positions = vec![0; tokens.len()];
        for (i, &t) in tokens.iter().enumerate() {
            positions[free[t as usize] as usize] = i as u32;
            free[t as usize] += 1;
        }
        Groups { positions, starts }
    }

    /// How often the n-grams of a range occur.
    fn counts(&self, nodes: Range<usize>) -> Vec<u32> {
        nodes.map(|node| self.starts[node + 1] - self.starts[node]).collect()
    }

    /// Splits the groups of n-grams of `depth` tokens by the next token; those that have `ended` vanish. Returns the
    /// next level's tokens and where the children of each n-gram begin in it.
    fn split(&mut self, tokens: &[u32], depth: usize, ended: impl Fn(usize) -> bool + Sync) -> (Vec<u32>, Vec<u32>) {
        let starts = &self.starts;
        let ranges = parts(starts);
        let mut slices = split_by(&mut self.positions, starts, &ranges);
        let split: Vec<Part> = ranges
            .par_iter()
            .zip(&mut slices)
            .map(|(range, slice)| split_part(tokens, depth, &ended, starts, range.clone(), slice))
            .collect();
        let mut kept = 0;
        for (part, range) in split.iter().zip(&ranges) {
            let start = starts[range.start] as usize;
            self.positions.copy_within(start..start + part.kept, kept);
            kept += part.kept;
        }
        self.positions.truncate(kept);
        let next = split.iter().map(|part| part.token.len()).sum::<usize>();
        let (mut token, mut counts, mut children) =
            (Vec::with_capacity(next), Vec::with_capacity(next + 1), Vec::with_capacity(starts.len()));
        counts.push(0);
        children.push(0);
        for part in split {
            token.extend(part.token);
            counts.extend(part.count);
            children.extend(part.children);
        }
        accumulate(&mut counts);
        accumulate(&mut children);
        self.starts = counts;
        (token, children)
    }
}

/// Sorts the positions of each group by the token `depth` further; those kept move to the front of the slice.
fn split_part(
    tokens: &[u32],
    depth: usize,
    ended: &(impl Fn(usize) -> bool + Sync),
    starts: &[u32],
    nodes: Range<usize>,
    slice: &mut [u32],
) -> Part {
    let first = starts[nodes.start];
    let mut part = Part::default();
    let mut keys: Vec<u64> = Vec::new();
    for node in nodes {
        keys.clear();
        if !ended(node) {
            let group = &slice[(starts[node] - first) as usize..(starts[node + 1] - first) as usize];
            let next = |&i: &u32| tokens.get(i as usize + depth).map(|&t| u64::from(t) << 32 | u64::from(i));
            keys.extend(group.iter().filter_map(next));
            if keys.len() > PART { keys.par_sort_unstable() } else { keys.sort_unstable() }
        }
        let before = part.token.len();
        for equal in keys.chunk_by(|a, b| a >> 32 == b >> 32) {
            part.token.push((equal[0] >> 32) as u32);
            part.count.push(equal.len() as u32);
            for &key in equal {
                slice[part.kept] = key as u32;
                part.kept += 1;
            }
        }
        part.children.push((part.token.len() - before) as u32);
    }
    part
}

/// The place of each n-gram's suffix in the level below: of `c w` it is the child `w` of the suffix of `c`.
///
/// `suffix` and `token` are the level's that `children` lead on from to the n-grams `next_token`; `siblings` are the
/// children in that level of the level below it.
fn suffixes(suffix: &[u32], siblings: &[u32], token: &[u32], children: &[u32], next_token: &[u32]) -> Vec<u32> {
    let mut found = vec![0; next_token.len()];
    let ranges = parts(children);
    let mut slices = split_by(&mut found, children, &ranges);
    ranges.par_iter().zip(&mut slices).for_each(|(nodes, slice)| {
        let first = children[nodes.start];
        for node in nodes.clone() {
            let own = children[node] as usize..children[node + 1] as usize;
            let end = siblings[suffix[node] as usize + 1] as usize;
            let mut place = siblings[suffix[node] as usize] as usize;
            for child in own {
                // All are there, in the same order.
                place += token[place..end].partition_point(|&t| t < next_token[child]);
                slice[child - first as usize] = place as u32;
            }
        }
    });
    found
}

/// D1, D2 and D3+ from the numbers n_i of n-grams with the count i (Chen and Goodman 1999):
/// `D_i = i − (i + 1) Y n_(i+1) / n_i` with `Y = n_1 / (n_1 + 2 n_2)`; all three the fallback when one is impossible.
/// A discount of zero would leave nothing for what was never seen.
fn estimate_discounts(counts: &[u32]) -> [f64; 3] {
    let mut n = [0u64; 5];
    counts.iter().filter(|&&c| c < 5).for_each(|&c| n[c as usize] += 1);
    let n = n.map(|n| n as f64);
    let y = n[1] / (n[1] + 2.0 * n[2]);
    let d = [1, 2, 3].map(|i| i as f64 - (i + 1) as f64 * y * n[i + 1] / n[i]);
    let possible = n[1..].iter().all(|&n| n > 0.0) && (1..).zip(d).all(|(i, d)| d > 0.0 && d <= f64::from(i));
    if possible { d } else { FALLBACK }
}

/// Interpolated probabilities of all n-grams of a level, and γ of their contexts, whose `children` they are.
/// `lower` are the probabilities of the level below.
fn estimate(
    children: &[u32],
    counts: &[u32],
    suffix: &[u32],
    lower: &[f32],
    discounts: [f64; 3],
) -> (Vec<f32>, Vec<f32>) {
    let mut prob = vec![0f32; counts.len()];
    let mut backoff = vec![1f32; children.len() - 1];
    let ranges = parts(children);
    let probs = split_by(&mut prob, children, &ranges);
    let mut rest = backoff.as_mut_slice();
    let backoffs: Vec<_> = ranges.iter().map(|r| rest.split_off_mut(..r.len()).unwrap_or_default()).collect();
    let discount = |count: u32| if count == 0 { 0.0 } else { discounts[(count as usize).min(3) - 1] };
    ranges.par_iter().zip(probs).zip(backoffs).for_each(|((nodes, probs), backoffs)| {
        let first = children[nodes.start] as usize;
        for (node, backoff) in nodes.clone().zip(backoffs) {
            let own = children[node] as usize..children[node + 1] as usize;
            let total: f64 = counts[own.clone()].iter().map(|&c| f64::from(c)).sum();
            if total > 0.0 {
                let taken: f64 = counts[own.clone()].iter().map(|&c| discount(c)).sum();
                *backoff = ((taken / total) as f32).max(f32::MIN_POSITIVE);
            }
            for child in own {
                let count = counts[child];
                let own = if count == 0 { 0.0 } else { (f64::from(count) - discount(count)) / total };
                let p = own + f64::from(*backoff) * f64::from(lower[suffix[child] as usize]);
                probs[child - first] = (p as f32).clamp(f32::MIN_POSITIVE, 1.0);
            }
        }
    });
    (prob, backoff)
}

/// Counts to the places where each begins, in place; the first is zero.
fn accumulate(counts: &mut [u32]) {
    let mut sum = 0;
    for count in counts {
        sum += *count;
        *count = sum;
    }
}

/// Ranges of groups that have about [`PART`] members together; `begins` is where each group begins, and their end.
fn parts(begins: &[u32]) -> Vec<Range<usize>> {
    let groups = begins.len() - 1;
    let (mut ranges, mut start) = (Vec::new(), 0);
    for group in 0..groups {
        let members = (begins[group + 1] - begins[start]) as usize;
        if members >= PART || group + 1 - start >= PART || group + 1 == groups {
            ranges.push(start..group + 1);
            start = group + 1;
        }
    }
    ranges
}

/// Cuts what belongs to groups as the groups are cut into ranges.
fn split_by<'a, T>(mut members: &'a mut [T], begins: &[u32], ranges: &[Range<usize>]) -> Vec<&'a mut [T]> {
    let cut = |range: &Range<usize>| {
        let length = (begins[range.end] - begins[range.start]) as usize;
        members.split_off_mut(..length).unwrap_or_default()
    };
    ranges.iter().map(cut).collect()
}

//! Byte-pair merges (Sennrich et al. 2016) of one piece of text: of all pairs of neighbours that merge, the one of the
//! lowest rank does, the leftmost of several, until none is left.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Which pairs of tokens merge: the rank of the pair, and the token that it becomes.
pub(super) struct Merges {
    pairs: HashMap<(u32, u32), (u32, u32)>,
    /// Pieces that are tokens and become just that, whatever would merge; none unless there are.
    whole: HashMap<Box<[u8]>, u32>,
}

/// What is kept between pieces, so that none allocates.
#[derive(Default)]
pub(super) struct Work {
    /// The tokens, each with the places of its neighbours; `None` when it has gone into the one before.
    parts: Vec<(Option<u32>, usize, usize)>,
    /// The rank of a pair and the place of its first token.
    queue: BinaryHeap<Reverse<(u32, usize)>>,
}

/// The place before the first and after the last token.
const NONE: usize = usize::MAX;

impl Merges {
    /// Pairs in the order of their ranks, with what they become; of a pair that comes twice the last counts.
    pub(super) fn new(pairs: &[(u32, u32)], joined: &[u32], whole: HashMap<Box<[u8]>, u32>) -> Self {
        let ranked = pairs.iter().zip(joined).zip(0..);
        Merges { pairs: ranked.map(|((&pair, &joined), rank)| (pair, (rank, joined))).collect(), whole }
    }

    /// The two tokens that each of a vocabulary's is merged from.
    pub(super) fn halves(&self, vocab: usize) -> Vec<Option<(u32, u32)>> {
        let mut halves = vec![None; vocab];
        for (&pair, &(_, joined)) in &self.pairs {
            if let Some(halves) = halves.get_mut(joined as usize) {
                // Of several ways to the same token one, whatever the order of the map.
                *halves = Some(halves.map_or(pair, |other: (u32, u32)| other.min(pair)));
            }
        }
        halves
    }

    /// Adds the tokens of a piece to `to`.
    pub(super) fn encode(&self, piece: &[u8], byte_ids: &[u32; 256], work: &mut Work, to: &mut Vec<u32>) {
        if let Some(&id) = self.whole.get(piece) {
            return to.push(id);
        }
        let Work { parts, queue } = work;
        parts.clear();
        parts.extend(piece.iter().enumerate().map(|(i, &byte)| {
            let next = if i + 1 < piece.len() { i + 1 } else { NONE };
            (Some(byte_ids[usize::from(byte)]), i.wrapping_sub(1), next)
        }));
        queue.extend((0..parts.len()).filter_map(|at| Some(Reverse((self.at(parts, at)?.0, at)))));
        while let Some(Reverse((rank, at))) = queue.pop() {
            // What stood there may have merged with another since.
            let Some((_, joined)) = self.at(parts, at).filter(|&(now, _)| now == rank) else { continue };
            let (_, before, gone) = parts[at];
            let after = parts[gone].2;
            parts[gone].0 = None;
            parts[at] = (Some(joined), before, after);
            if after != NONE {
                parts[after].1 = at;
            }
            for at in [before, at].into_iter().filter(|&at| at != NONE) {
                queue.extend(self.at(parts, at).map(|(rank, _)| Reverse((rank, at))));
            }
        }
        to.extend(parts.iter().filter_map(|part| part.0));
    }

    /// The rank of the pair that begins at a place and what it becomes, if it merges.
    fn at(&self, parts: &[(Option<u32>, usize, usize)], at: usize) -> Option<(u32, u32)> {
        let &(first, _, next) = parts.get(at)?;
        self.pairs.get(&(first?, parts.get(next)?.0?)).copied()
    }
}

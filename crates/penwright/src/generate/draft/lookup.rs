//! Where the end of a text stood before.

use std::collections::HashMap;

use crate::layers::random;

/// Lengths of the ends that are looked up, longest first.
const GRAMS: [usize; 3] = [8, 4, 2];
/// Places that are compared with the end, newest first.
const PLACES: usize = 16;
/// Tokens that are compared.
const LONGEST: usize = 32;

/// For each of the [`GRAMS`] where every sequence of so many tokens ended last.
#[derive(Default)]
pub(super) struct Lookup {
    last: [HashMap<u64, u32>; GRAMS.len()],
    /// Where the sequence that ends at each place had ended before, 0 for nowhere.
    before: [Vec<u32>; GRAMS.len()],
}

impl Lookup {
    /// Takes up what the text has more than at the last call.
    pub(super) fn read(&mut self, text: &[u32]) {
        for ((last, before), size) in self.last.iter_mut().zip(&mut self.before).zip(GRAMS) {
            for end in before.len()..=text.len() {
                let gram = end.checked_sub(size).and_then(|begin| text.get(begin..end));
                before.push(gram.and_then(|gram| last.insert(key(gram), end as u32)).unwrap_or(0));
            }
        }
    }

    /// Where the longest end of the text that stood before ended there, and its length.
    pub(super) fn longest(&self, text: &[u32]) -> Option<(usize, usize)> {
        self.before.iter().zip(GRAMS).find_map(|(before, size)| {
            let mut best = None;
            let mut place = before.get(text.len()).map_or(0, |&place| place as usize);
            for _ in 0..PLACES {
                if place == 0 {
                    break;
                }
                let pairs = text[..place].iter().rev().zip(text.iter().rev()).take(LONGEST);
                let length = pairs.take_while(|(a, b)| a == b).count();
                if length >= size && best.is_none_or(|(_, longest)| length > longest) {
                    best = Some((place, length));
                }
                place = before[place] as usize;
            }
            best
        })
    }
}

/// Sequences with equal keys are compared, so equal keys of others do no harm.
fn key(gram: &[u32]) -> u64 {
    gram.iter().fold(0, |key, &token| random(key, token.into()))
}

/// The kind of a guess after what was found has so many tokens.
pub(super) fn kind(length: usize) -> usize {
    match length {
        0..=8 => length.saturating_sub(2),
        9..=12 => 7,
        13..=16 => 8,
        17..=24 => 9,
        25..=31 => 10,
        _ => 11,
    }
}

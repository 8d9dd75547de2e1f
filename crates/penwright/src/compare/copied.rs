//! The longest passage of a sample that stands word for word in another text.
//!
//! A suffix automaton of the sample (Blumer et al. 1985) accepts exactly its passages, in at most two states a
//! character. The other text runs through it once: time grows with the sum of both lengths, memory with the sample's.

use std::collections::BTreeMap;
use std::ops::Range;

struct State {
    /// Length of the longest passage of this state.
    length: usize,
    /// State of the longest suffix that is in another state; the root's is itself.
    link: usize,
    /// Characters of the sample before the end of the passage's first occurrence.
    end: usize,
    next: BTreeMap<char, usize>,
}

/// The automaton of a sample.
pub(crate) struct Passages {
    states: Vec<State>,
}

impl Passages {
    pub(crate) fn new(sample: &str) -> Self {
        let root = State { length: 0, link: 0, end: 0, next: BTreeMap::new() };
        let mut automaton = Passages { states: vec![root] };
        let mut last = 0;
        for c in sample.chars() {
            last = automaton.push(last, c);
        }
        automaton
    }

    /// Adds a character after the state `last` of the whole sample so far; returns the new state of the whole.
    fn push(&mut self, last: usize, c: char) -> usize {
        let length = self.states[last].length + 1;
        let new = self.states.len();
        self.states.push(State { length, link: 0, end: length, next: BTreeMap::new() });
        let mut at = Some(last);
        while let Some(p) = at {
            let Some(&q) = self.states[p].next.get(&c) else {
                self.states[p].next.insert(c, new);
                at = (p != 0).then(|| self.states[p].link);
                continue;
            };
            self.states[new].link =
                if self.states[q].length == self.states[p].length + 1 { q } else { self.split(p, q, c) };
            break;
        }
        new
    }

    /// Parts the shorter passages of `q`, reached from `p` by `c`, from the longer: they occur at the new end too.
    fn split(&mut self, p: usize, q: usize, c: char) -> usize {
        let clone = self.states.len();
        self.states.push(State {
            length: self.states[p].length + 1,
            link: self.states[q].link,
            end: self.states[q].end,
            next: self.states[q].next.clone(),
        });
        self.states[q].link = clone;
        let mut at = Some(p);
        while let Some(p) = at.filter(|&p| self.states[p].next.get(&c) == Some(&q)) {
            self.states[p].next.insert(c, clone);
            at = (p != 0).then(|| self.states[p].link);
        }
        clone
    }

    /// The longest passage of the sample in `text`, as a range of the sample's characters; of equals the first in
    /// `text`.
    pub(crate) fn longest_in(&self, text: &str) -> Range<usize> {
        let (mut state, mut length, mut best) = (0, 0, 0..0);
        for c in text.chars() {
            loop {
                if let Some(&next) = self.states[state].next.get(&c) {
                    (state, length) = (next, length + 1);
                    break;
                }
                if state == 0 {
                    length = 0;
                    break;
                }
                state = self.states[state].link;
                length = self.states[state].length;
            }
            if length > best.len() {
                let end = self.states[state].end;
                best = end - length..end;
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(sample: &[char], text: &[char]) -> usize {
        let starts = (0..sample.len()).flat_map(|i| (0..text.len()).map(move |j| (i, j)));
        let common = |(i, j): (usize, usize)| sample[i..].iter().zip(&text[j..]).take_while(|(a, b)| a == b).count();
        starts.map(common).max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn finds_what_a_naive_scan_finds(sample in "[abü]{0,40}", text in "[abü海]{0,60}") {
            let found = Passages::new(&sample).longest_in(&text);
            let (sample, chars): (Vec<char>, Vec<char>) = (sample.chars().collect(), text.chars().collect());
            prop_assert_eq!(found.len(), naive(&sample, &chars));
            let passage: String = sample[found].iter().collect();
            prop_assert!(text.contains(&passage));
        }
    }

    #[test]
    fn states_stay_few() {
        let sample = "abcbc".repeat(200);
        assert!(Passages::new(&sample).states.len() <= 2 * sample.len());
        assert_eq!(Passages::new(&sample).longest_in(&format!("xx{}yy", &sample[7..600])), 2..595);
    }
}

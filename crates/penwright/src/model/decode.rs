//! What the decoding sessions share: the precision of the weights, memory, and the places of the streams.

use penwright_kernels::decode::{Format, Shape, Weights};
use penwright_kernels::{chunks_mut, each};

use crate::layers::log_softmax;
use crate::memory::free_memory;
use crate::{Error, Result};

/// How the weights are stored while writing. Whatever it is, a text depends on neither the other texts that are written
/// beside it nor the number of threads, and a prompt is read with the same arithmetic as what follows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DecodePrecision {
    /// f32 for models of up to 16 million parameters, bf16 for larger ones.
    #[default]
    Auto,
    /// As they are.
    F32,
    /// Rounded to bf16; the inputs of products and a GPT-2's keys and values too. Sums are f32.
    Bf16,
    /// Whole numbers of 8 bits with a scale for each 64; inputs of products likewise. Keys and values are bf16.
    Int8,
    /// One of 16 numbers with a scale for each 32, 4.5 bits a weight; else as [`DecodePrecision::Int8`].
    Int4,
}

/// Parameters up to which [`DecodePrecision::Auto`] is f32.
pub(super) const SMALL: u64 = 16 << 20;

impl DecodePrecision {
    /// What it means for a model of `params` parameters.
    pub(crate) fn format(self, params: u64) -> Format {
        match self {
            DecodePrecision::Auto if params <= SMALL => Format::F32,
            DecodePrecision::F32 => Format::F32,
            DecodePrecision::Auto | DecodePrecision::Bf16 => Format::Bf16,
            DecodePrecision::Int8 => Format::Int8,
            DecodePrecision::Int4 => Format::Int4,
        }
    }
}

/// Keeps the `count` likeliest of ids with their log-probabilities, likeliest first; of equals the lower id first.
pub fn keep_likeliest(tokens: &mut Vec<(u32, f32)>, count: usize) {
    let likelier = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if (1..tokens.len()).contains(&count) {
        tokens.select_nth_unstable_by(count - 1, likelier);
    }
    tokens.truncate(count);
    tokens.sort_unstable_by(likelier);
}

/// Logits to natural-log probabilities, row by row.
pub(crate) fn log_softmax_rows(logits: &mut [f32], vocab: usize) {
    each(chunks_mut(logits, vocab), |_, row| log_softmax(row));
}

/// # Errors
/// When `streams` times `bytes` are more than the memory that is free.
pub(super) fn check_memory(streams: usize, bytes: u64) -> Result<()> {
    let needed = (streams as u64).saturating_mul(bytes);
    let free = free_memory();
    if needed > free {
        let what = format!("writing {streams} texts at once");
        return Err(Error::Memory { what, needed, free, remedy: "--samples, --beams or --streams" });
    }
    Ok(())
}

/// Room for matrices.
///
/// # Errors
/// When they are more than the memory that is free.
pub(super) fn hold(shapes: Vec<Shape>) -> Result<Weights> {
    let (needed, free) = (shapes.iter().map(|shape| shape.bytes() as u64).sum(), free_memory());
    let refuse = || {
        let what = "a copy of the weights to write with".to_string();
        Error::Memory { what, needed, free, remedy: "--precision" }
    };
    if needed > free {
        return Err(refuse());
    }
    Weights::new(shapes).map_err(|_| refuse())
}

/// Where each stream's state lies: selecting beams renames places and copies only what is continued twice.
pub(super) struct Places {
    streams: usize,
    /// Empty until the streams have memory.
    place: Vec<usize>,
    old: Vec<usize>,
    used: Vec<bool>,
}

impl Places {
    pub(super) fn new(streams: usize) -> Self {
        Places { streams, place: Vec::new(), old: Vec::new(), used: Vec::new() }
    }

    /// Number of streams.
    pub(super) fn len(&self) -> usize {
        self.streams
    }

    /// Finds a place for each stream. Call after [`check_memory`].
    pub(super) fn allocate(&mut self) {
        (self.place, self.old) = ((0..self.streams).collect(), vec![0; self.streams]);
        self.used = vec![false; self.streams];
    }

    /// The place of a stream.
    pub(super) fn of(&self, stream: usize) -> usize {
        self.place.get(stream).copied().unwrap_or(stream)
    }

    /// Stream `i` becomes what `parents[i]` was; `copy(from, to)` copies between places.
    pub(super) fn select(&mut self, parents: &[usize], mut copy: impl FnMut(usize, usize)) {
        const NONE: usize = usize::MAX;
        if self.place.is_empty() {
            return;
        }
        self.old.copy_from_slice(&self.place);
        self.used.fill(false);
        // The first child of a stream keeps its place.
        for (place, &parent) in self.place.iter_mut().zip(parents) {
            let old = self.old[parent];
            *place = if std::mem::replace(&mut self.used[old], true) { NONE } else { old };
        }
        let mut free = 0;
        for (i, &parent) in parents.iter().enumerate() {
            if self.place[i] == NONE {
                while self.used[free] {
                    free += 1;
                }
                self.used[free] = true;
                copy(self.old[parent], free);
                self.place[i] = free;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selection_renames_and_copies_what_is_needed() {
        let (mut places, mut values) = (Places::new(4), vec![10, 11, 12, 13]);
        places.allocate();
        let mut copies = 0;
        for (parents, expected) in
            [([2, 2, 0, 2], [12, 12, 10, 12]), ([3, 2, 1, 0], [12, 10, 12, 12]), ([1, 1, 1, 1], [10; 4])]
        {
            places.select(&parents, |from, to| {
                values[to] = values[from];
                copies += 1;
            });
            assert_eq!([0, 1, 2, 3].map(|i| values[places.of(i)]), expected);
        }
        assert_eq!(copies, 5);
    }
}

//! What the decoding sessions share: products of a few rows, memory, and the places of the streams.

use penwright_kernels::{linear_in_out, linear_out_in};
use rayon::prelude::*;

use crate::layers::{Layout, Linear, log_softmax};
use crate::memory::free_memory;
use crate::{Error, Result};

/// Rows from which on a prompt is worth packing its matrices for; steps are never packed.
pub(super) const PACKED: usize = 8;

/// `y = x W + b` for a few rows, each summed as if it were alone.
pub(super) fn linear(layer: &Linear, params: &[f32], x: &[f32], y: &mut [f32], rows: usize, scratch: &mut Vec<f32>) {
    let (w, bias) = (&params[layer.weight.clone()], layer.bias.clone().map(|range| &params[range]));
    let (x, y) = (&x[..rows * layer.inputs], &mut y[..rows * layer.outputs]);
    match layer.layout {
        Layout::InOut => linear_in_out(y, x, w, bias, rows, scratch),
        Layout::OutIn => linear_out_in(y, x, w, bias, rows, scratch),
    }
}

/// Logits to natural-log probabilities, row by row.
pub(super) fn log_softmax_rows(logits: &mut [f32], vocab: usize) {
    if logits.len() < 1 << 13 {
        logits.chunks_exact_mut(vocab).for_each(log_softmax);
    } else {
        logits.par_chunks_exact_mut(vocab).for_each(log_softmax);
    }
}

/// Runs inside the thread pool, so that the many small parallel passes of a step do not each enter it anew.
pub(super) fn in_pool<R: Send>(run: impl FnOnce() -> R + Send) -> R {
    if rayon::current_thread_index().is_some() { run() } else { rayon::scope(|_| run()) }
}

/// # Errors
/// When `floats` numbers are more than the memory that is free.
pub(super) fn check_memory(floats: [usize; 3]) -> Result<()> {
    let needed = floats.iter().try_fold(4u64, |product, &n| product.checked_mul(n as u64)).unwrap_or(u64::MAX);
    let free = free_memory();
    if needed > free {
        let what = format!("writing {} texts at once", floats[0]);
        return Err(Error::Memory { what, needed, free, remedy: "--samples or --beams" });
    }
    Ok(())
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

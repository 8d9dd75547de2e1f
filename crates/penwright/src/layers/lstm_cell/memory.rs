//! What a layer keeps for its backward, and working memory.

use bytemuck::Zeroable;
use penwright_kernels::{Element, Packed, PackedLeft};

use super::mogrifier::{Mogrified, RoundsWork};

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// A row's length in memory, in elements: whole lines, an odd number of them, so that neighbouring rows do not fall on
/// the same places of the cache.
pub(crate) fn width_of<E>(len: usize) -> usize {
    ((len * size_of::<E>()).div_ceil(LINE) | 1) * LINE / size_of::<E>()
}

/// Memory that begins on a line of the cache. A copy begins anew.
pub(crate) struct Lines<E>(Vec<E>);

impl<E> Default for Lines<E> {
    fn default() -> Self {
        Lines(Vec::new())
    }
}

impl<E> Clone for Lines<E> {
    fn clone(&self) -> Self {
        Lines::default()
    }
}

impl<E: Copy + Zeroable> Lines<E> {
    /// `len` elements, whatever they were; grown, never shrunk.
    pub(crate) fn take(&mut self, len: usize) -> &mut [E] {
        let more = LINE / size_of::<E>();
        if self.0.len() < len + more {
            // With some to spare, for what differs a little from step to step.
            self.0 = vec![E::zeroed(); len + len / 8 + more];
        }
        let first = self.0.as_ptr().align_offset(LINE).min(more);
        &mut self.0[first..][..len]
    }

    /// The same to read, of memory that was taken.
    pub(crate) fn get(&self, len: usize) -> &[E] {
        let first = self.0.as_ptr().align_offset(LINE).min(LINE / size_of::<E>());
        &self.0[first..][..len]
    }
}

/// What a layer keeps for its backward.
#[derive(Clone)]
pub(crate) struct Kept<E: Element> {
    /// Activated gates i, f, g, o, and then the gradient of the sums, `[T · B, 4H]`.
    pub(super) gates: Lines<E>,
    /// Hidden state before the first step and after each, `[(T + 1) · B, H]`; and the cell state.
    pub(super) hidden: Lines<E>,
    pub(super) cell: Lines<f32>,
    /// `W_ih` for the layer below.
    pub(super) down: Packed<E>,
    pub(super) mogrified: Mogrified<E>,
}

impl<E: Element> Default for Kept<E> {
    fn default() -> Self {
        let (gates, hidden, cell) = (Lines::default(), Lines::default(), Lines::default());
        Kept { gates, hidden, cell, down: Packed::default(), mogrified: Mogrified::default() }
    }
}

/// Working memory of one layer at a time.
#[derive(Clone)]
pub(crate) struct Work<E: Element> {
    /// Each gate's part of the weights, to be multiplied from the left by inputs and hidden states.
    pub(super) input: [Packed<E>; 4],
    pub(super) recurrent: [Packed<E>; 4],
    /// `W_hh` whole, to be multiplied by the gradient of the sums.
    pub(super) back: Packed<E>,
    /// `W_hh` with some of it dropped, then the gradient of that; empty where nothing is dropped.
    pub(super) dropped: Vec<f32>,
    /// `b_ih + b_hh`, each gate's filled up to whole blocks.
    pub(super) bias: Vec<f32>,
    /// Each block's sums.
    pub(super) sums: Lines<f32>,
    /// Gradient of the cell state, `[B, H]`.
    pub(super) dcell: Lines<f32>,
    /// Gradients of the sums by input, `[rows of the table, 4H]`, and of the inputs of the first layer.
    pub(super) by_input: Vec<E>,
    pub(super) dtable: Vec<f32>,
    /// Factors of the gradients of the weights.
    pub(super) left: PackedLeft<E>,
    pub(super) right: Packed<E>,
    pub(super) rounds: RoundsWork<E>,
}

impl<E: Element> Default for Work<E> {
    fn default() -> Self {
        Work {
            input: Default::default(),
            recurrent: Default::default(),
            back: Packed::default(),
            dropped: Vec::new(),
            bias: Vec::new(),
            sums: Lines::default(),
            dcell: Lines::default(),
            by_input: Vec::new(),
            dtable: Vec::new(),
            left: PackedLeft::default(),
            right: Packed::default(),
            rounds: RoundsWork::default(),
        }
    }
}

impl<E: Element> Work<E> {
    /// The gradient of the table that the layer read, or of the rows ([`super::LstmLayer::rows_back`]).
    pub(crate) fn dinputs(&mut self) -> &mut Vec<f32> {
        &mut self.dtable
    }
}

//! An LSTM layer (Hochreiter and Schmidhuber 1997; forget gate of Gers, Schmidhuber and Cummins 2000):
//!
//! ```text
//! i = σ(a_i)   what is written          c = f ⊙ c' + i ⊙ g
//! f = σ(a_f)   what of the old stays    h = o ⊙ tanh(c)
//! g = tanh(a_g) the candidate values
//! o = σ(a_o)   what is shown            a = W_ih x + b_ih + W_hh h' + b_hh
//! ```
//!
//! All matrices are time-major: row `t · B + b`. A task owns a block of hidden units with all four gates, so that a
//! time step is one parallel pass: the block's part of the recurrent product, in the first cache, then the cell. What
//! comes from the layer's input is computed for some steps at once, by the same task, just before the first of them.
//!
//! E is what products multiply; sums, cell states and gradients of weights are f32.

mod backward;
mod forward;
mod memory;
mod mogrifier;
mod weight_drop;

use std::ops::Range;

use penwright_kernels::{Cut, Element, LSTM_UNITS as UNITS, Matrix, Packed};

use super::{Dropout, Linear, LockedRows};
pub(crate) use memory::{Kept, Lines, Work, width_of};
pub(crate) use mogrifier::Round;

/// Sums of a text in a block.
const ROW: usize = 4 * UNITS;

/// A layer: where its weights lie in the arena.
#[derive(Clone)]
pub(crate) struct LstmLayer {
    /// `W_ih` and `b_ih`.
    pub(crate) input: Linear,
    /// `W_hh`, `[4H, H]`.
    pub(crate) recurrent: Range<usize>,
    /// `b_hh`, `[4H]`.
    pub(crate) recurrent_bias: Range<usize>,
    /// H.
    pub(crate) hidden: usize,
    /// The Mogrifier's rounds before the cell, if it has any.
    pub(crate) rounds: Vec<Round>,
}

/// What a layer reads.
#[derive(Clone, Copy)]
pub(crate) enum Below<'a, E> {
    /// `[T · B, inputs]`.
    Rows(Matrix<'a, E>),
    /// Few rows, each of which many texts and steps have: the rows, how many, and which each row of `[T · B]` is.
    Table(Matrix<'a, E>, usize, &'a [u32]),
}

impl<E> Below<'_, E> {
    fn table_rows(&self) -> usize {
        match self {
            Below::Rows(_) => 0,
            Below::Table(_, rows, _) => *rows,
        }
    }
}

/// Where the gradient of a layer's outputs comes from.
#[derive(Clone, Copy)]
pub(crate) enum Above<'a, E: Element> {
    /// From the layer above: the gradient of its sums `[T · B, 4H]` is multiplied by its `W_ih`.
    Product(Matrix<'a, E>, &'a Packed<E>),
    /// It is computed, `[T · B, H]`.
    Ready(&'a [E]),
}

/// What is dropped of a layer in a step of training.
#[derive(Clone, Copy)]
pub(crate) struct LayerDrop<'a> {
    /// Of its outputs on their way up, the same for all time steps.
    pub(crate) outputs: Option<LockedRows<'a>>,
    /// Of its recurrent weights (`weight_drop`).
    pub(crate) weights: Dropout,
}

/// Sizes of a pass.
#[derive(Clone, Copy)]
struct Shape {
    batch: usize,
    time: usize,
    hidden: usize,
}

impl Shape {
    fn rows(self) -> usize {
        self.batch * self.time
    }

    /// Blocks of hidden units, the last filled up.
    fn blocks(self) -> usize {
        self.hidden.div_ceil(UNITS)
    }

    /// How a step's `[B, 4H]` is cut into blocks.
    fn gates(self) -> Cut {
        Cut { rows: self.batch, cols: 4 * self.hidden, block_rows: self.batch, groups: 4, block_cols: UNITS }
    }

    /// The same for `[B, H]`, filled up.
    fn units(self) -> Cut {
        Cut { rows: self.batch, cols: self.blocks() * UNITS, block_rows: self.batch, groups: 1, block_cols: UNITS }
    }
}

//! The recurrent part of an LSTM layer (Hochreiter and Schmidhuber 1997; forget gate of Gers, Schmidhuber and
//! Cummins 2000):
//!
//! ```text
//! i = σ(a_i)   what is written          c = f ⊙ c' + i ⊙ g
//! f = σ(a_f)   what of the old stays    h = o ⊙ tanh(c)
//! g = tanh(a_g) the candidate values
//! o = σ(a_o)   what is shown            a = W_ih x + b_ih + W_hh h' + b_hh
//! ```
//!
//! A task owns some hidden units with all four gates, so that a time step is one parallel pass: its part of the
//! recurrent product, then the cell. The weights are packed once a window.

use penwright_kernels::{self as kernels, Cut, Init, Matrix, Packed, blocks_mut, each, product};

/// Hidden units a task: a whole panel of packed weights.
const UNITS: usize = 32;

/// `W_hh` `[4H, H]`, packed for the steps forward or backward.
#[derive(Clone, Default)]
pub struct Recurrent {
    /// Forward: each gate's `W_hhᵀ`, `[H, H]`. Backward: the first is the whole `W_hh`.
    packed: [Packed; 4],
    /// Whether the forward uses `packed`.
    is_packed: bool,
}

/// Below so many steps the weight is not packed.
const MANY_STEPS: usize = 4;

/// A block of hidden units in a `[B, H]` matrix, or with `groups` = 4 in `[B, 4H]`.
fn units(batch: usize, h: usize, groups: usize) -> Cut {
    Cut { rows: batch, cols: groups * h, block_rows: batch, groups, block_cols: UNITS }
}

impl Recurrent {
    /// Packs the weight for `steps` calls of [`Recurrent::step`]; for a few it is used as it lies.
    pub fn pack_forward(&mut self, weight: &[f32], h: usize, steps: usize) {
        self.is_packed = steps >= MANY_STEPS;
        if !self.is_packed {
            return;
        }
        for (gate, packed) in self.packed.iter_mut().enumerate() {
            packed.pack(Matrix::new(&weight[gate * h * h..], h, h).t());
        }
    }

    /// Packs the weight for [`Recurrent::step_back`].
    pub fn pack_backward(&mut self, weight: &[f32], h: usize) {
        self.packed[0].pack(Matrix::new(weight, 4 * h, h));
    }

    /// One time step of B texts. `gates` `[B, 4H]` holds `W_ih x + b_ih + b_hh` in the order i, f, g, o and is
    /// replaced by the activated gates; `hidden_before`, `cell_before`, `cell`, `hidden` are `[B, H]`.
    pub fn step(
        &self,
        weight: &[f32],
        gates: &mut [f32],
        (hidden_before, cell_before): (&[f32], &[f32]),
        (hidden, cell): (&mut [f32], &mut [f32]),
        h: usize,
    ) {
        let batch = hidden.len() / h;
        let before = Matrix::new(hidden_before, batch, h);
        if !self.is_packed {
            product(gates, Init::Add, before, Matrix::new(weight, 4 * h, h).t());
        }
        let packed = if self.is_packed { &self.packed[..] } else { &[] };
        let parts = (
            blocks_mut(gates, units(batch, h, 4)),
            blocks_mut(cell, units(batch, h, 1)),
            blocks_mut(hidden, units(batch, h, 1)),
        );
        each(parts, |i, (mut gates, mut cell, mut hidden)| {
            for (gate, packed) in packed.iter().enumerate() {
                packed.multiply(&mut gates.group(gate), Init::Add, before, i * UNITS);
            }
            kernels::lstm_cell(&mut gates, cell_before, i * UNITS, &mut cell, &mut hidden);
        });
    }

    /// The step backward. `dh` `[B, H]` holds the gradient of the outputs and is completed by what comes from the
    /// step after, whose gradients of the sums are `gates_after` (empty at the last step): `dh += da W_hh`.
    /// `dcell` holds the gradient that comes from the step after and becomes that for the step before; `gates`
    /// becomes the gradient of the sums a.
    pub fn step_back(
        &self,
        gates: &mut [f32],
        gates_after: &[f32],
        (cell_before, cell): (&[f32], &[f32]),
        dh: &mut [f32],
        dcell: &mut [f32],
        h: usize,
    ) {
        let batch = dh.len() / h;
        let parts = (
            blocks_mut(gates, units(batch, h, 4)),
            blocks_mut(dh, units(batch, h, 1)),
            blocks_mut(dcell, units(batch, h, 1)),
        );
        each(parts, |i, (mut gates, mut dh, mut dcell)| {
            if !gates_after.is_empty() {
                let after = Matrix::new(gates_after, batch, 4 * h);
                self.packed[0].multiply(&mut dh, Init::Add, after, i * UNITS);
            }
            kernels::lstm_cell_backward(&mut gates, cell_before, cell, i * UNITS, &mut dh, &mut dcell);
        });
    }
}

/// The cell alone, for decoding: `gates` `[B, 4H]` holds the sums a and becomes the activated gates; `cell_before`,
/// `cell`, `hidden` are `[B, H]`.
pub fn lstm_cell(gates: &mut [f32], cell_before: &[f32], cell: &mut [f32], hidden: &mut [f32], h: usize) {
    if hidden.is_empty() {
        return; // all streams have ended
    }
    let batch = hidden.len() / h;
    let parts = (
        blocks_mut(gates, units(batch, h, 4)),
        blocks_mut(cell, units(batch, h, 1)),
        blocks_mut(hidden, units(batch, h, 1)),
    );
    each(parts, |i, (mut gates, mut cell, mut hidden)| {
        kernels::lstm_cell(&mut gates, cell_before, i * UNITS, &mut cell, &mut hidden);
    });
}

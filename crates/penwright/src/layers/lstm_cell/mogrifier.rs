//! The Mogrifier LSTM (Melis, Kočiský and Blunsom 2020, arXiv 1909.01792): before the cell, the input x and the hidden
//! state before h gate each other in rounds,
//!
//! ```text
//! x ← 2 σ(Q_i h) ⊙ x    in rounds i = 1, 3, 5, …      Q_i [inputs, H]
//! h ← 2 σ(R_i x) ⊙ h    in rounds i = 2, 4, 6, …      R_i [H, inputs]
//! ```
//!
//! and what came of them is what the cell reads. A matrix may be the product of two, `[out, k] · [k, in]`; it is
//! multiplied out once a pass. Nothing of a step can be computed before the step that came before it, so that this pass
//! stands beside the layer's own.

use std::ops::Range;

use penwright_kernels::{
    self as kernels, BlockMut, Cut, Element, Factor, Init, LSTM_UNITS as UNITS, LstmGradients, LstmSums, Matrix,
    Output, Packed, add, chunks, chunks_mut, each, product_into, strided_blocks_mut,
};

use super::backward::{block_sums, outputs_back};
use super::forward::{begin, end};
use super::{Above, Kept, LayerDrop, Lines, LstmLayer, ROW, Work, width_of};
use crate::layers::{Dropout, TASK};

/// The matrix of a round, `[outputs, inputs]`, or `[outputs, k]` with a second, `[k, inputs]`.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    pub(crate) weight: Range<usize>,
    /// k and the second matrix.
    pub(crate) right: Option<(usize, Range<usize>)>,
}

impl Round {
    /// The matrix, multiplied out in `memory` where it is a product.
    pub(crate) fn matrix<'a>(&self, p: &'a [f32], memory: &'a mut Vec<f32>) -> &'a [f32] {
        let Some((k, right)) = self.right.clone() else { return &p[self.weight.clone()] };
        memory.resize(self.outputs * self.inputs, 0.0);
        let (left, right) = self.factors(p, k, right);
        let to: Output<'_, f32> = Output::sums(memory, Init::Zero);
        product_into::<f32, _, _>(to, left, right);
        memory
    }

    fn factors<'a>(&self, p: &'a [f32], k: usize, right: Range<usize>) -> (Matrix<'a>, Matrix<'a>) {
        (Matrix::new(&p[self.weight.clone()], self.outputs, k), Matrix::new(&p[right], k, self.inputs))
    }

    /// Adds the gradient `da^T · by` of the matrix, or overwrites what was there.
    fn backward<E: Factor>(
        &self,
        p: &[f32],
        (grads, init): (&mut [f32], Init<'_>),
        (da, by): (Matrix<'_, E>, Matrix<'_, E>),
        memory: &mut Vec<f32>,
    ) {
        let Some((k, right)) = self.right.clone() else {
            return product_into::<E, _, _>(Output::sums(&mut grads[self.weight.clone()], init), da.t(), by);
        };
        memory.resize(self.outputs * self.inputs, 0.0);
        product_into::<E, _, _>(Output::sums(memory, Init::Zero), da.t(), by);
        let whole = Matrix::new(memory, self.outputs, self.inputs);
        let (left, second) = self.factors(p, k, right.clone());
        let to: Output<'_, f32> = Output::sums(&mut grads[self.weight.clone()], init);
        product_into::<f32, _, _>(to, whole, second.t());
        let to: Output<'_, f32> = Output::sums(&mut grads[right], init);
        product_into::<f32, _, _>(to, left.t(), whole);
    }
}

/// What the rounds of a layer keep for the backward.
#[derive(Clone)]
pub(super) struct Mogrified<E: Element> {
    rounds: Vec<RoundKept<E>>,
    /// Gradient of the layer's input, `[T · B, inputs]`.
    pub(super) dx: Vec<E>,
}

/// The open gates σ of a round and what came of it, `[T · B, outputs]`; the gates become the gradients of their sums.
#[derive(Clone)]
struct RoundKept<E: Element> {
    gate: Lines<E>,
    value: Lines<E>,
}

impl<E: Element> Default for Mogrified<E> {
    fn default() -> Self {
        Mogrified { rounds: Vec::new(), dx: Vec::new() }
    }
}

/// Working memory of the rounds.
#[derive(Clone)]
pub(super) struct RoundsWork<E: Element> {
    packed: Vec<Packed<E>>,
    memory: Vec<f32>,
    dx: Vec<f32>,
    dh: Vec<f32>,
}

impl<E: Element> Default for RoundsWork<E> {
    fn default() -> Self {
        RoundsWork { packed: Vec::new(), memory: Vec::new(), dx: Vec::new(), dh: Vec::new() }
    }
}

/// Rows of a step and of what stands in memory: the pass at hand.
#[derive(Clone, Copy)]
struct Pass<'a, E> {
    batch: usize,
    time: usize,
    x: Matrix<'a, E>,
    /// Hidden state before the steps, `[(T + 1) · B, H]`; how wide and far apart its rows are.
    hidden: (usize, usize),
}

impl<'a, E: Factor> Pass<'a, E> {
    /// What round `j` of those counted from 0 has put out, at the rows `first .. first + rows`.
    fn value(
        &self,
        rounds: &'a [RoundKept<E>],
        sizes: &[Round],
        j: usize,
        (first, rows): (usize, usize),
    ) -> Matrix<'a, E> {
        let (width, all) = (sizes[j].outputs, self.batch * self.time);
        let stride = width_of::<E>(width);
        Matrix::strided(rounds[j].value.get(all * stride), all, width, stride).rows(first, rows)
    }

    /// What is gated in round `j`, and by what; for j the number of rounds and one more, what the cell reads.
    fn operand(
        &self,
        rounds: &'a [RoundKept<E>],
        sizes: &[Round],
        j: usize,
        hidden: &'a [E],
        rows: (usize, usize),
    ) -> (Matrix<'a, E>, Matrix<'a, E>) {
        let h = || {
            let (width, stride) = self.hidden;
            Matrix::strided(&hidden[rows.0 * stride..], rows.1, width, stride)
        };
        let operand = match j.checked_sub(2) {
            Some(k) => self.value(rounds, sizes, k, rows),
            None if j == 0 => self.x.rows(rows.0, rows.1),
            None => h(),
        };
        let by = match j.checked_sub(1) {
            Some(k) => self.value(rounds, sizes, k, rows),
            None => h(),
        };
        (operand, by)
    }

    /// x and h as the cell reads them.
    fn cell_reads(
        &self,
        rounds: &'a [RoundKept<E>],
        sizes: &[Round],
        hidden: &'a [E],
        rows: (usize, usize),
    ) -> (Matrix<'a, E>, Matrix<'a, E>) {
        let (gated, by) = self.operand(rounds, sizes, sizes.len(), hidden, rows);
        if sizes.len().is_multiple_of(2) { (gated, by) } else { (by, gated) }
    }
}

/// `c (+)= a · w`, c `[rows, cols]`, its columns on all threads.
fn by_columns<E: Factor>(c: &mut [f32], cols: usize, init: Init<'_>, a: Matrix<'_, E>, rows: usize, w: &Packed<E>) {
    let cut = Cut { rows, cols, block_rows: rows, groups: 1, block_cols: UNITS };
    each(strided_blocks_mut(c, cut, cols), |i, mut block| w.multiply(&mut block, init, a, i * UNITS));
}

impl LstmLayer {
    /// [`LstmLayer::forward`] with rounds before the cell; x `[T · B, inputs]`.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn mogrified_forward<E: Factor>(
        &self,
        p: &[f32],
        kept: &mut Kept<E>,
        work: &mut Work<E>,
        x: Matrix<'_, E>,
        (hidden, cell): (&mut [f32], &mut [f32]),
        time: usize,
        drop: Dropout,
    ) {
        let (h, shape) = (self.hidden, self.shape(hidden.len() / self.hidden, time));
        let (batch, rows, filled) = (shape.batch, shape.rows(), shape.blocks() * UNITS);
        let (hidden_width, cell_width, gates_width) =
            (width_of::<E>(filled), width_of::<f32>(filled), width_of::<E>(4 * h));
        let hiddens = kept.hidden.take((rows + batch) * hidden_width);
        let cells = kept.cell.take((rows + batch) * cell_width);
        let gates = kept.gates.take(rows * gates_width);
        begin(&mut hiddens[..batch * hidden_width], hidden_width, hidden, h);
        begin(&mut cells[..batch * cell_width], cell_width, cell, h);
        self.pack_forward(p, work, drop);
        let new = || RoundKept { gate: Lines::default(), value: Lines::default() };
        kept.mogrified.rounds.resize_with(self.rounds.len(), new);
        work.rounds.packed.resize_with(self.rounds.len(), Packed::default);
        for (round, packed) in self.rounds.iter().zip(&mut work.rounds.packed) {
            let matrix = round.matrix(p, &mut work.rounds.memory);
            packed.pack(Matrix::new(matrix, round.outputs, round.inputs).t());
        }
        let pass = Pass { batch, time, x, hidden: (h, hidden_width) };
        let one = 2 * batch * ROW;
        let most = self.rounds.iter().map(|round| round.outputs.div_ceil(UNITS) * batch * UNITS).max().unwrap_or(0);
        let sums = work.sums.take((shape.blocks() * one).max(most));
        for t in 0..time {
            let at = (t * batch, batch);
            let (before, now) = hiddens.split_at_mut((t + 1) * batch * hidden_width);
            for (j, round) in self.rounds.iter().enumerate() {
                let (done, rest) = kept.mogrified.rounds.split_at_mut(j);
                let ((operand, by), now) = (pass.operand(done, &self.rounds, j, before, at), &mut rest[0]);
                let (width, packed) = (width_of::<E>(round.outputs), &work.rounds.packed[j]);
                let cut = Cut { rows: batch, cols: round.outputs, block_rows: batch, groups: 1, block_cols: UNITS };
                let parts = (
                    chunks_mut(sums, batch * UNITS),
                    strided_blocks_mut(&mut now.gate.take(rows * width)[at.0 * width..], cut, width),
                    strided_blocks_mut(&mut now.value.take(rows * width)[at.0 * width..], cut, width),
                );
                each(parts, |i, (sums, mut gate, mut value)| {
                    let mut block = BlockMut::whole(sums, batch, gate.width());
                    packed.multiply(&mut block, Init::Zero, by, i * UNITS);
                    kernels::mogrify(sums, operand, i * UNITS, &mut gate, &mut value);
                });
            }
            let (x, before) = pass.cell_reads(&kept.mogrified.rounds, &self.rounds, before, at);
            let (cell_before, cell_now) = cells[t * batch * cell_width..].split_at_mut(batch * cell_width);
            let parts = (
                chunks_mut(sums, one),
                strided_blocks_mut(&mut gates[at.0 * gates_width..], shape.gates(), gates_width),
                strided_blocks_mut(cell_now, shape.units(), cell_width),
                strided_blocks_mut(now, shape.units(), hidden_width),
            );
            each(parts, |i, (sums, mut gates, mut cell, mut hidden)| {
                let (below, recurrent) = sums.split_at_mut(batch * ROW);
                let mut block = BlockMut::grouped(below, batch, ROW, 4);
                for (gate, packed) in work.input.iter().enumerate() {
                    let bias = Init::Bias(&work.bias[gate * filled + i * UNITS..]);
                    packed.multiply(&mut block.group(gate), bias, x, i * UNITS);
                }
                let mut block = BlockMut::grouped(recurrent, batch, ROW, 4);
                for (gate, packed) in work.recurrent.iter().enumerate() {
                    packed.multiply(&mut block.group(gate), Init::Zero, before, i * UNITS);
                }
                let sums = LstmSums { below, which: None, recurrent };
                kernels::lstm_forward(sums, &cell_before[i * UNITS..], &mut gates, &mut cell, &mut hidden);
            });
        }
        end(hidden, h, &hiddens[rows * hidden_width..], hidden_width);
        end(cell, h, &cells[rows * cell_width..], cell_width);
    }

    /// [`LstmLayer::backward`] with rounds before the cell; the gradient of x is in `kept` then.
    pub(super) fn mogrified_backward<E: Factor>(
        &self,
        p: &[f32],
        (grads, fresh): (&mut [f32], bool),
        (kept, work): (&mut Kept<E>, &mut Work<E>),
        (x, above): (Matrix<'_, E>, Above<'_, E>),
        (batch, time): (usize, usize),
        drop: LayerDrop<'_>,
    ) {
        let (h, inputs, shape) = (self.hidden, self.input.inputs, self.shape(batch, time));
        let recurrent = self.recurrent_weights(p, drop.weights, &mut work.dropped);
        work.back.pack(Matrix::new(recurrent, 4 * h, h));
        kept.down.pack(Matrix::new(&p[self.input.weight.clone()], 4 * h, inputs));
        for (round, packed) in self.rounds.iter().zip(&mut work.rounds.packed) {
            let matrix = round.matrix(p, &mut work.rounds.memory);
            packed.pack(Matrix::new(matrix, round.outputs, round.inputs));
        }
        let pass = Pass { batch, time, x, hidden: (h, width_of::<E>(shape.blocks() * UNITS)) };
        work.rounds.dx.resize(batch * inputs, 0.0);
        work.rounds.dh.clear();
        work.rounds.dh.resize(batch * h, 0.0);
        kept.mogrified.dx.resize(time * batch * inputs, E::default());
        for t in (0..time).rev() {
            self.mogrified_step_back((&mut *kept, &mut *work), above, (pass, t), drop);
        }
        self.biases_back(grads, work, shape, 0);
        self.mogrified_weights_back(p, (grads, fresh), (kept, work), pass, drop.weights);
    }

    /// Step `t`: its gates and those of its rounds become the gradients of their sums.
    fn mogrified_step_back<E: Factor>(
        &self,
        (kept, work): (&mut Kept<E>, &mut Work<E>),
        above: Above<'_, E>,
        (pass, t): (Pass<'_, E>, usize),
        drop: LayerDrop<'_>,
    ) {
        let (h, inputs, batch, time) = (self.hidden, self.input.inputs, pass.batch, pass.time);
        let (shape, rows, at) = (self.shape(batch, time), batch * time, (t * batch, batch));
        let (cell_width, gates_width) = (width_of::<f32>(shape.blocks() * UNITS), width_of::<E>(4 * h));
        let cells = kept.cell.get((rows + batch) * cell_width);
        let (before, cell) = cells[at.0 * cell_width..][..2 * batch * cell_width].split_at(batch * cell_width);
        let gates = &mut kept.gates.take(rows * gates_width)[at.0 * gates_width..][..batch * gates_width];
        let dcell = work.dcell.take(batch * cell_width);
        if t + 1 == time {
            dcell.fill(0.0);
        }
        let one = block_sums(shape, 0);
        let (dx, dh) = (&mut work.rounds.dx, &mut work.rounds.dh);
        let later = &dh[..];
        let parts = (
            chunks_mut(work.sums.take(shape.blocks() * one), one),
            strided_blocks_mut(gates, shape.gates(), gates_width),
            strided_blocks_mut(dcell, shape.units(), cell_width),
        );
        each(parts, |i, (sums, mut gates, mut dcell)| {
            let (totals, dh) = sums.split_at_mut(ROW);
            if t + 1 == time {
                totals.fill(0.0);
            }
            outputs_back(above, dh, at, i, h, drop.outputs);
            for (dh, later) in dh.chunks_exact_mut(UNITS).zip(later.chunks_exact(h)) {
                add(dh, &later[i * UNITS..h.min((i + 1) * UNITS)]);
            }
            let mut totals = LstmGradients { bias: totals, by_input: None };
            let dh = &dh[..batch * UNITS];
            kernels::lstm_backward(&mut gates, &before[i * UNITS..], &cell[i * UNITS..], dh, &mut dcell, &mut totals);
        });
        let dsums = Matrix::strided(gates, batch, 4 * h, gates_width);
        by_columns(dx, inputs, Init::Zero, dsums, batch, &kept.down);
        by_columns(dh, h, Init::Zero, dsums, batch, &work.back);
        let hidden = kept.hidden.get((rows + batch) * pass.hidden.1);
        for (j, round) in self.rounds.iter().enumerate().rev() {
            let (done, rest) = kept.mogrified.rounds.split_at_mut(j);
            let operand = pass.operand(done, &self.rounds, j, hidden, at).0;
            let (d, other) = if j.is_multiple_of(2) { (&mut *dx, &mut *dh) } else { (&mut *dh, &mut *dx) };
            let (cols, width) = (round.outputs, width_of::<E>(round.outputs));
            let cut = Cut { rows: batch, cols, block_rows: batch, groups: 1, block_cols: UNITS };
            let gate = &mut rest[0].gate.take(rows * width)[at.0 * width..][..batch * width];
            let parts = (strided_blocks_mut(d, cut, cols), strided_blocks_mut(gate, cut, width));
            each(parts, |i, (mut d, mut gate)| kernels::mogrify_backward(&mut d, operand, i * UNITS, &mut gate));
            let da = Matrix::strided(gate, batch, cols, width);
            by_columns(other, round.inputs, Init::Add, da, batch, &work.rounds.packed[j]);
        }
        let to = &mut kept.mogrified.dx[at.0 * inputs..][..batch * inputs];
        each((chunks_mut(to, TASK), chunks(dx, TASK)), |_, (to, from)| kernels::narrow(from, to));
    }

    /// The gradients of all weights but the biases.
    fn mogrified_weights_back<E: Factor>(
        &self,
        p: &[f32],
        (grads, fresh): (&mut [f32], bool),
        (kept, work): (&Kept<E>, &mut Work<E>),
        pass: Pass<'_, E>,
        drop: Dropout,
    ) {
        let rows = pass.batch * pass.time;
        let (init, all) = (if fresh { Init::Zero } else { Init::Add }, (0, rows));
        let (hidden, rounds) = (kept.hidden.get((rows + pass.batch) * pass.hidden.1), &kept.mogrified.rounds);
        let dsums = self.dgates(kept, rows).t();
        let (x, before) = pass.cell_reads(rounds, &self.rounds, hidden, all);
        product_into::<E, _, _>(Output::sums(&mut grads[self.input.weight.clone()], init), dsums, x);
        let to = match drop.is_on() {
            true => Output::sums(&mut work.dropped, Init::Zero),
            false => Output::sums(&mut grads[self.recurrent.clone()], init),
        };
        product_into::<E, _, _>(to, dsums, before);
        self.recurrent_gradient(grads, fresh, drop, &mut work.dropped);
        for (j, round) in self.rounds.iter().enumerate() {
            let by = pass.operand(&rounds[..j], &self.rounds, j, hidden, all).1;
            let width = width_of::<E>(round.outputs);
            let da = Matrix::strided(rounds[j].gate.get(rows * width), rows, round.outputs, width);
            round.backward(p, (&mut *grads, init), (da, by), &mut work.rounds.memory);
        }
    }
}

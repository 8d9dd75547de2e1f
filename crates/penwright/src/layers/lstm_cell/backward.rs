//! A layer backward.

use std::ops::Range;

use penwright_kernels::{
    self as kernels, BlockMut, Cut, Factor, Init, LSTM_UNITS as UNITS, LstmGradients, Matrix, Output, add, blocks_mut,
    chunks, chunks_mut, each, product_into, product_of_packed, product_packed, strided_blocks_mut,
};

use super::forward::CHUNK;
use super::{Above, Below, Kept, LayerDrop, Lines, LstmLayer, ROW, Shape, Work, width_of};
use crate::layers::{Dropout, LockedRows, TASK};

/// Rows of which the gradients of the weights are computed at once.
const WINDOW: usize = 1536;

impl LstmLayer {
    /// The gradient of the sums as the layer below reads it.
    pub(crate) fn above<'a, E: Factor>(&self, kept: &'a Kept<E>, rows: usize) -> Above<'a, E> {
        match self.rounds.is_empty() {
            true => Above::Product(self.dgates(kept, rows), &kept.down),
            false => Above::Ready(&kept.mogrified.dx),
        }
    }

    pub(super) fn dgates<'a, E: Factor>(&self, kept: &'a Kept<E>, rows: usize) -> Matrix<'a, E> {
        let width = width_of::<E>(4 * self.hidden);
        Matrix::strided(kept.gates.get(rows * width), rows, 4 * self.hidden, width)
    }

    /// Adds the gradients of the weights; what the layer below needs is in `kept` then ([`LstmLayer::above`]), or,
    /// where that is a table, its gradient is in `work` ([`Work::dinputs`]). `drop` is that of the forward pass.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn backward<E: Factor>(
        &self,
        p: &[f32],
        (grads, fresh): (&mut [f32], bool),
        (kept, work): (&mut Kept<E>, &mut Work<E>),
        (below, above): (Below<'_, E>, Above<'_, E>),
        (batch, time): (usize, usize),
        drop: LayerDrop<'_>,
    ) {
        if let (Below::Rows(x), false) = (below, self.rounds.is_empty()) {
            return self.mogrified_backward(p, (grads, fresh), (kept, work), (x, above), (batch, time), drop);
        }
        let (h, inputs) = (self.hidden, self.input.inputs);
        let shape = Shape { batch, time, hidden: h };
        let recurrent = self.recurrent_weights(p, drop.weights, &mut work.dropped);
        work.back.pack(Matrix::new(recurrent, 4 * h, h));
        // Equal windows, of whole chunks of steps.
        let windows = shape.rows().div_ceil(WINDOW).max(1);
        let window = time.div_ceil(windows).next_multiple_of(steps(shape));
        for first in (0..time).step_by(window).rev() {
            let range = first..time.min(first + window);
            let init = if fresh && range.end == time { Init::Zero } else { Init::Add };
            self.steps_back(kept, work, (below, above), shape, range.clone(), drop.outputs);
            self.weights_back(grads, init, (kept, work), below, (shape, range), drop.weights);
        }
        self.recurrent_gradient(grads, fresh, drop.weights, &mut work.dropped);
        self.biases_back(grads, work, shape, below.table_rows());
        match below {
            Below::Rows(_) => kept.down.pack(Matrix::new(&p[self.input.weight.clone()], 4 * h, inputs)),
            Below::Table(x, n, _) => {
                let init = if fresh { Init::Zero } else { Init::Add };
                narrow_sums(&mut work.by_input, &mut work.sums, shape, n);
                let dsums = Matrix::new(&work.by_input, n, 4 * h);
                let to = Output::Sums { c: &mut grads[self.input.weight.clone()], init };
                product_into::<E, _, _>(to, dsums.t(), x);
                work.dtable.resize(n * inputs, 0.0);
                let to = Output::Sums { c: &mut work.dtable, init: Init::Zero };
                product_into::<E, _, _>(to, dsums, Matrix::new(&p[self.input.weight.clone()], 4 * h, inputs));
            }
        }
    }

    /// The gradient of the rows that the first layer read, into `work` ([`Work::dinputs`]); after
    /// [`LstmLayer::backward`].
    pub(crate) fn rows_back<E: Factor>(&self, kept: &Kept<E>, work: &mut Work<E>, rows: usize) {
        work.dtable.resize(rows * self.input.inputs, 0.0);
        if !self.rounds.is_empty() {
            let parts = (chunks_mut(&mut work.dtable, TASK), chunks(&kept.mogrified.dx, TASK));
            return each(parts, |_, (to, from)| kernels::widen(from, to));
        }
        let to: Output<'_, E> = Output::Sums { c: &mut work.dtable, init: Init::Zero };
        product_packed(to, self.dgates(kept, rows), &kept.down);
    }

    /// What some steps add to the gradients of the weights, while the gradients of their sums are still in the cache.
    fn weights_back<E: Factor>(
        &self,
        grads: &mut [f32],
        init: Init<'_>,
        (kept, work): (&Kept<E>, &mut Work<E>),
        below: Below<'_, E>,
        (Shape { batch, time, .. }, range): (Shape, Range<usize>),
        drop: Dropout,
    ) {
        let (first, rows) = (range.start * batch, range.len() * batch);
        work.left.pack(self.dgates(kept, time * batch).rows(first, rows).t());
        work.right.pack(self.outputs(kept, batch, time, true).rows(first, rows));
        let to = match drop.is_on() {
            true => Output::Sums { c: &mut work.dropped, init: if range.end == time { Init::Zero } else { Init::Add } },
            false => Output::Sums { c: &mut grads[self.recurrent.clone()], init },
        };
        product_of_packed(to, &work.left, &work.right);
        if let Below::Rows(x) = below {
            work.right.pack(x.rows(first, rows));
            let to = Output::Sums { c: &mut grads[self.input.weight.clone()], init };
            product_of_packed(to, &work.left, &work.right);
        }
    }

    /// Each block's sums begin with those of the biases.
    pub(super) fn biases_back<E: Factor>(&self, grads: &mut [f32], work: &Work<E>, shape: Shape, table_rows: usize) {
        let (h, one) = (self.hidden, block_sums(shape, table_rows));
        for (i, sums) in work.sums.get(shape.blocks() * one).chunks_exact(one).enumerate() {
            for (gate, sums) in sums[..ROW].chunks_exact(UNITS).enumerate() {
                let units = UNITS.min(h - i * UNITS);
                for bias in self.input.bias.iter().chain([&self.recurrent_bias]) {
                    add(&mut grads[bias.start + gate * h + i * UNITS..][..units], &sums[..units]);
                }
            }
        }
    }

    /// Some steps, from the last to the first: the gates become the gradients of their sums.
    fn steps_back<E: Factor>(
        &self,
        kept: &mut Kept<E>,
        work: &mut Work<E>,
        (below, above): (Below<'_, E>, Above<'_, E>),
        shape: Shape,
        range: Range<usize>,
        mask: Option<LockedRows<'_>>,
    ) {
        let Shape { batch, time, hidden: h } = shape;
        let (rows, filled) = (shape.rows(), shape.blocks() * UNITS);
        let (cell_width, gates_width) = (width_of::<f32>(filled), width_of::<E>(4 * h));
        let gates = kept.gates.take(rows * gates_width);
        let cells = kept.cell.get((rows + batch) * cell_width);
        let dcell = work.dcell.take(batch * cell_width);
        if range.end == time {
            dcell.fill(0.0);
        }
        let table_rows = below.table_rows();
        let which = match below {
            Below::Rows(_) => None,
            Below::Table(_, _, which) => Some(which),
        };
        let steps = steps(shape);
        let one = block_sums(shape, table_rows);
        let sums = work.sums.take(shape.blocks() * one);
        for t in range.rev() {
            let (gates, after) = gates.split_at_mut((t + 1) * batch * gates_width);
            let (before, cell) = cells[t * batch * cell_width..][..2 * batch * cell_width].split_at(batch * cell_width);
            let parts = (
                chunks_mut(sums, one),
                strided_blocks_mut(&mut gates[t * batch * gates_width..], shape.gates(), gates_width),
                strided_blocks_mut(dcell, shape.units(), cell_width),
            );
            each(parts, |i, (sums, mut gates, mut dcell)| {
                let (totals, dh) = sums.split_at_mut((1 + table_rows) * ROW);
                if t + 1 == time {
                    totals.fill(0.0);
                }
                let first = t / steps * steps;
                if t + 1 == time || t + 1 == first + steps {
                    outputs_back(above, dh, (first * batch, (t + 1 - first) * batch), i, h, mask);
                }
                let dh = &mut dh[(t - first) * batch * UNITS..][..batch * UNITS];
                if t + 1 < time {
                    let after = Matrix::strided(after, batch, 4 * h, gates_width);
                    let mut dh = BlockMut::whole(dh, batch, UNITS);
                    work.back.multiply(&mut dh, Init::Add, after, i * UNITS);
                }
                let (bias, by_input) = totals.split_at_mut(ROW);
                let by_input = which.map(|which| (by_input, &which[t * batch..]));
                let at = i * UNITS;
                let mut totals = LstmGradients { bias, by_input };
                kernels::lstm_backward(&mut gates, &before[at..], &cell[at..], dh, &mut dcell, &mut totals);
            });
        }
    }
}

/// Each block's gradients of the sums by input, rounded, `[rows, 4H]`.
fn narrow_sums<E: Factor>(to: &mut Vec<E>, sums: &mut Lines<f32>, shape: Shape, rows: usize) {
    let (width, one) = (4 * shape.hidden, block_sums(shape, rows));
    to.resize(rows * width, E::default());
    let cut = Cut { rows, block_rows: rows, ..shape.gates() };
    let parts = (chunks_mut(sums.take(shape.blocks() * one), one), blocks_mut(to, cut));
    each(parts, |_, (sums, mut to)| {
        for (row, sums) in sums[ROW..].chunks_exact(ROW).enumerate().take(rows) {
            let gates: [&mut [E]; 4] = to.row(row);
            gates.into_iter().zip(sums.chunks_exact(UNITS)).for_each(|(to, sums)| kernels::narrow(sums, to));
        }
    });
}

/// Steps for which the gradient of the outputs is computed at once.
fn steps(shape: Shape) -> usize {
    (CHUNK / shape.batch).clamp(1, shape.time.max(1))
}

/// A block's part of the sums: gradient of the biases, of the table's rows, and of the hidden states of some steps.
pub(super) fn block_sums(shape: Shape, table_rows: usize) -> usize {
    (1 + table_rows) * ROW + steps(shape) * shape.batch * UNITS
}

/// The gradient of a block's outputs, for `(first, number)` of the rows, `[rows, UNITS]`.
pub(super) fn outputs_back<E: Factor>(
    above: Above<'_, E>,
    dh: &mut [f32],
    (first, rows): (usize, usize),
    block: usize,
    h: usize,
    mask: Option<LockedRows<'_>>,
) {
    match above {
        Above::Product(dsums, weight) => {
            let mut dh = BlockMut::whole(dh, rows, UNITS);
            weight.multiply(&mut dh, Init::Zero, dsums.rows(first, rows), block * UNITS);
        }
        Above::Ready(d) => {
            for (to, from) in dh.chunks_exact_mut(UNITS).zip(d[first * h..].chunks_exact(h)).take(rows) {
                let from = &from[block * UNITS..h.min((block + 1) * UNITS)];
                to.iter_mut().zip(from).for_each(|(t, f)| *t = f.get());
                to[from.len()..].fill(0.0);
            }
        }
    }
    if let Some(mask) = mask {
        for (i, row) in dh.chunks_exact_mut(UNITS).enumerate().take(rows) {
            kernels::multiply(row, &mask.of(first + i)[block * UNITS..]);
        }
    }
}

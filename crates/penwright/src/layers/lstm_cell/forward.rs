//! A layer forward.

use penwright_kernels::{
    self as kernels, BlockMut, Factor, Init, LSTM_UNITS as UNITS, LstmSums, Matrix, chunks_mut, each,
    strided_blocks_mut,
};

use super::{Below, Kept, LstmLayer, ROW, Shape, Work, width_of};
use crate::layers::Dropout;

/// Rows of the input product that are computed at once.
pub(super) const CHUNK: usize = 256;

/// The state before the first step into the first rows of `[(T + 1) · B, H]`.
pub(super) fn begin<E: Factor>(to: &mut [E], width: usize, state: &[f32], h: usize) {
    for (to, from) in to.chunks_exact_mut(width).zip(state.chunks_exact(h)) {
        to.fill(E::default());
        to.iter_mut().zip(from).for_each(|(t, f)| *t = E::of(*f));
    }
}

/// The state after the last step.
pub(super) fn end<E: Factor>(state: &mut [f32], h: usize, from: &[E], width: usize) {
    for (to, from) in state.chunks_exact_mut(h).zip(from.chunks_exact(width)) {
        to.iter_mut().zip(from).for_each(|(t, f)| *t = f.get());
    }
}

impl LstmLayer {
    pub(super) fn shape(&self, batch: usize, time: usize) -> Shape {
        Shape { batch, time, hidden: self.hidden }
    }

    /// What the layer put out, `[T · B, H]`, or with `before` what it had put out before each step.
    pub(crate) fn outputs<'a, E: Factor>(
        &self,
        kept: &'a Kept<E>,
        batch: usize,
        time: usize,
        before: bool,
    ) -> Matrix<'a, E> {
        let width = width_of::<E>(self.shape(batch, time).blocks() * UNITS);
        let first = if before { 0 } else { batch * width };
        let hidden = &kept.hidden.get((time + 1) * batch * width)[first..];
        Matrix::strided(hidden, time * batch, self.hidden, width)
    }

    /// The outputs as they lie, and how far apart their rows begin.
    pub(crate) fn output_rows<'a, E: Factor>(&self, kept: &'a Kept<E>, batch: usize, time: usize) -> (&'a [E], usize) {
        let width = width_of::<E>(self.shape(batch, time).blocks() * UNITS);
        (&kept.hidden.get((time + 1) * batch * width)[batch * width..], width)
    }

    pub(super) fn pack_forward<E: Factor>(&self, p: &[f32], work: &mut Work<E>, drop: Dropout) {
        let (h, inputs) = (self.hidden, self.input.inputs);
        let filled = h.next_multiple_of(UNITS);
        work.bias.clear();
        work.bias.resize(4 * filled, 0.0);
        let input_bias = self.input.bias.clone().map_or(&[][..], |bias| &p[bias]);
        let recurrent = self.recurrent_weights(p, drop, &mut work.dropped);
        for gate in 0..4 {
            work.input[gate].pack(Matrix::new(&p[self.input.weight.clone()][gate * h * inputs..], h, inputs).t());
            work.recurrent[gate].pack(Matrix::new(&recurrent[gate * h * h..], h, h).t());
            let biases = input_bias[gate * h..].iter().zip(&p[self.recurrent_bias.clone()][gate * h..]);
            work.bias[gate * filled..][..h].iter_mut().zip(biases).for_each(|(to, (a, b))| *to = a + b);
        }
    }

    /// T steps of B texts: what the backward needs goes into `kept`; `hidden` and `cell`, `[B, H]`, move on. `drop` is
    /// for the recurrent weights.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn forward<E: Factor>(
        &self,
        p: &[f32],
        kept: &mut Kept<E>,
        work: &mut Work<E>,
        below: Below<'_, E>,
        (hidden, cell): (&mut [f32], &mut [f32]),
        time: usize,
        drop: Dropout,
    ) {
        if let (Below::Rows(x), false) = (below, self.rounds.is_empty()) {
            return self.mogrified_forward(p, kept, work, x, (hidden, cell), time, drop);
        }
        let h = self.hidden;
        let shape = self.shape(hidden.len() / h, time);
        let Shape { batch, .. } = shape;
        let (rows, filled) = (shape.rows(), shape.blocks() * UNITS);
        let (hidden_width, cell_width, gates_width) =
            (width_of::<E>(filled), width_of::<f32>(filled), width_of::<E>(4 * h));
        let hiddens = kept.hidden.take((rows + batch) * hidden_width);
        let cells = kept.cell.take((rows + batch) * cell_width);
        let gates = kept.gates.take(rows * gates_width);
        begin(&mut hiddens[..batch * hidden_width], hidden_width, hidden, h);
        begin(&mut cells[..batch * cell_width], cell_width, cell, h);
        self.pack_forward(p, work, drop);

        // Of each block: what comes from the input for some steps, and what from the state for one.
        let (steps, input_rows) = match below {
            Below::Rows(_) => {
                let steps = (CHUNK / batch).clamp(1, time.max(1));
                (steps, steps * batch)
            }
            Below::Table(_, rows, _) => (time, rows),
        };
        let one = (input_rows + batch) * ROW;
        let sums = work.sums.take(shape.blocks() * one);
        for t in 0..time {
            let (before, now) = hiddens[t * batch * hidden_width..].split_at_mut(batch * hidden_width);
            let before = Matrix::strided(before, batch, h, hidden_width);
            let (cell_before, cell_now) = cells[t * batch * cell_width..].split_at_mut(batch * cell_width);
            let parts = (
                chunks_mut(sums, one),
                strided_blocks_mut(&mut gates[t * batch * gates_width..], shape.gates(), gates_width),
                strided_blocks_mut(cell_now, shape.units(), cell_width),
                strided_blocks_mut(now, shape.units(), hidden_width),
            );
            each(parts, |i, (sums, mut gates, mut cell, mut hidden)| {
                let (input, recurrent) = sums.split_at_mut(input_rows * ROW);
                if t % steps == 0 {
                    let (x, n) = match below {
                        Below::Rows(x) => {
                            let n = input_rows.min(rows - t * batch);
                            (x.rows(t * batch, n), n)
                        }
                        Below::Table(x, n, _) => (x, n),
                    };
                    let mut input = BlockMut::grouped(input, n, ROW, 4);
                    for (gate, packed) in work.input.iter().enumerate() {
                        let bias = Init::Bias(&work.bias[gate * filled + i * UNITS..]);
                        packed.multiply(&mut input.group(gate), bias, x, i * UNITS);
                    }
                }
                let mut sums = BlockMut::grouped(recurrent, batch, ROW, 4);
                for (gate, packed) in work.recurrent.iter().enumerate() {
                    packed.multiply(&mut sums.group(gate), Init::Zero, before, i * UNITS);
                }
                let (below, which) = match below {
                    Below::Rows(_) => (&input[t % steps * batch * ROW..], None),
                    Below::Table(_, _, which) => (&*input, Some(&which[t * batch..])),
                };
                let sums = LstmSums { below, which, recurrent };
                kernels::lstm_forward(sums, &cell_before[i * UNITS..], &mut gates, &mut cell, &mut hidden);
            });
        }
        end(hidden, h, &hiddens[rows * hidden_width..], hidden_width);
        end(cell, h, &cells[rows * cell_width..], cell_width);
    }
}

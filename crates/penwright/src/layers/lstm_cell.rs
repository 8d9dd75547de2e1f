//! The LSTM cell (Hochreiter and Schmidhuber 1997; forget gate of Gers, Schmidhuber and Cummins 2000):
//!
//! ```text
//! i = σ(a_i)   what is written          c = f ⊙ c' + i ⊙ g
//! f = σ(a_f)   what of the old stays    h = o ⊙ tanh(c)
//! g = tanh(a_g) the candidate values
//! o = σ(a_o)   what is shown            a = W_ih x + b_ih + W_hh h' + b_hh
//! ```

use penwright_kernels::{sigmoid, tanh};
use rayon::prelude::*;

/// One time step of B texts. `gates` `[B, 4H]` holds the sums a in the order i, f, g, o and is replaced by the
/// gates; `cell_before`, `cell`, `hidden` are `[B, H]`.
pub fn lstm_cell(gates: &mut [f32], cell_before: &[f32], cell: &mut [f32], hidden: &mut [f32], h: usize) {
    let rows = gates.par_chunks_mut(4 * h).zip(cell_before.par_chunks(h));
    rows.zip(cell.par_chunks_mut(h)).zip(hidden.par_chunks_mut(h)).with_min_len(8).for_each(
        |(((gates, before), cell), hidden)| {
            let (i, rest) = gates.split_at_mut(h);
            let (f, rest) = rest.split_at_mut(h);
            let (g, o) = rest.split_at_mut(h);
            for n in 0..h {
                i[n] = sigmoid(i[n]);
                f[n] = sigmoid(f[n]);
                g[n] = tanh(g[n]);
                o[n] = sigmoid(o[n]);
                cell[n] = f[n] * before[n] + i[n] * g[n];
                hidden[n] = o[n] * tanh(cell[n]);
            }
        },
    );
}

/// The step backward: `dh` `[B, H]` is the whole gradient of the hidden state; `dcell` holds the gradient that
/// comes from the next step and becomes that for the step before; `gates` becomes the gradient of the sums a.
pub fn lstm_cell_backward(
    gates: &mut [f32],
    cell_before: &[f32],
    cell: &[f32],
    dh: &[f32],
    dcell: &mut [f32],
    h: usize,
) {
    let rows = gates.par_chunks_mut(4 * h).zip(cell_before.par_chunks(h)).zip(cell.par_chunks(h));
    rows.zip(dh.par_chunks(h)).zip(dcell.par_chunks_mut(h)).with_min_len(8).for_each(
        |((((gates, before), cell), dh), dc)| {
            let (gi, rest) = gates.split_at_mut(h);
            let (gf, rest) = rest.split_at_mut(h);
            let (gg, go) = rest.split_at_mut(h);
            for n in 0..h {
                let (i, f, g, o) = (gi[n], gf[n], gg[n], go[n]);
                let shown = tanh(cell[n]);
                let d = dc[n] + dh[n] * o * (1.0 - shown * shown);
                gi[n] = d * g * i * (1.0 - i);
                gf[n] = d * before[n] * f * (1.0 - f);
                gg[n] = d * i * (1.0 - g * g);
                go[n] = dh[n] * shown * o * (1.0 - o);
                dc[n] = d * f;
            }
        },
    );
}

//! The element-wise part of an LSTM step, on the block of hidden units that one task owns.

use crate::bf16::Element;
use crate::isa::dispatched;
use crate::math::{fma, sigmoid_by, tanh_by};
use crate::parts::BlockMut;

/// Hidden units of a block: whole panels of packed weights. Where the last block of a layer has fewer, its buffers of
/// f32 are filled up.
pub const LSTM_UNITS: usize = 32;
const UNITS: usize = LSTM_UNITS;
/// The sums of a block's four gates, i, f, g, o, side by side.
const ROW: usize = 4 * UNITS;

/// What goes into the gates of a block at one step of B texts: rows of `4 · LSTM_UNITS` sums.
#[derive(Clone, Copy, Debug)]
pub struct LstmSums<'a> {
    /// What comes from the layer's input, biases in it.
    pub below: &'a [f32],
    /// Which row of `below` each text has; without it, each its own.
    pub which: Option<&'a [u32]>,
    /// What comes from the hidden state before, `[B, 4 · LSTM_UNITS]`.
    pub recurrent: &'a [f32],
}

#[inline(always)]
fn part(row: &[f32], gate: usize) -> &[f32; UNITS] {
    row[gate * UNITS..].first_chunk().unwrap_or(&[0.0; UNITS])
}

#[inline(always)]
fn narrow<E: Element>(to: &mut [E], from: &[f32; UNITS]) {
    if let Ok(to) = <&mut [E; UNITS]>::try_from(&mut *to) {
        for j in 0..UNITS {
            to[j] = E::of(from[j]);
        }
    } else {
        to.iter_mut().zip(from).for_each(|(t, f)| *t = E::of(*f));
    }
}

#[inline(always)]
fn wide<E: Element>(from: &[E]) -> [f32; UNITS] {
    let mut to = [0.0; UNITS];
    if let Some(from) = from.first_chunk::<UNITS>() {
        for j in 0..UNITS {
            to[j] = from[j].get();
        }
    } else {
        to.iter_mut().zip(from).for_each(|(t, f)| *t = f.get());
    }
    to
}

dispatched! {
    /// A step of the block of B texts. `gates` (four groups) becomes the activated gates; `cell ← f ⊙ before + i ⊙ g`,
    /// `hidden ← o ⊙ tanh(cell)`. `before` is the cell state of the step before from the block's first unit on, its
    /// rows as far apart as `cell`'s. The blocks of `cell` and `hidden` are `LSTM_UNITS` wide; that of `gates` may be
    /// narrower. Panics when the shapes differ.
    pub fn lstm_forward<E: Element>(
        sums: LstmSums<'_>,
        before: &[f32],
        gates: &mut BlockMut<'_, E>,
        cell: &mut BlockMut<'_>,
        hidden: &mut BlockMut<'_, E>,
    ) = lstm_forward_body;
}

#[inline(always)]
fn lstm_forward_body<E: Element, const FMA: bool>(
    sums: LstmSums<'_>,
    before: &[f32],
    gates: &mut BlockMut<'_, E>,
    cell: &mut BlockMut<'_>,
    hidden: &mut BlockMut<'_, E>,
) {
    for row in 0..gates.rows() {
        let from = sums.which.map_or(row, |which| which[row] as usize);
        let (below, recurrent) = (&sums.below[from * ROW..][..ROW], &sums.recurrent[row * ROW..][..ROW]);
        let before = part(&before[row * cell.stride..][..UNITS], 0);
        let [mut i, mut f, mut g, mut o, mut c, mut h] = [[0.0f32; UNITS]; 6];
        for j in 0..UNITS {
            let a = |gate: usize| part(below, gate)[j] + part(recurrent, gate)[j];
            i[j] = sigmoid_by::<FMA>(a(0));
            f[j] = sigmoid_by::<FMA>(a(1));
            g[j] = tanh_by::<FMA>(a(2));
            o[j] = sigmoid_by::<FMA>(a(3));
            c[j] = fma::<FMA>(f[j], before[j], i[j] * g[j]);
            h[j] = o[j] * tanh_by::<FMA>(c[j]);
        }
        let [to_i, to_f, to_g, to_o] = gates.row(row);
        narrow(to_i, &i);
        narrow(to_f, &f);
        narrow(to_g, &g);
        narrow(to_o, &o);
        let ([cell], [hidden]) = (cell.row(row), hidden.row(row));
        cell.copy_from_slice(&c);
        narrow(hidden, &h);
    }
}

/// Sums of a block's gradients over the texts and the steps, f32: rows of `4 · LSTM_UNITS`.
#[derive(Debug)]
pub struct LstmGradients<'a> {
    /// Of all.
    pub bias: &'a mut [f32],
    /// Of those with the same input: a row for each, and which of them each text has.
    pub by_input: Option<(&'a mut [f32], &'a [u32])>,
}

dispatched! {
    /// Backward of [`lstm_forward`]: `dh` `[B, LSTM_UNITS]` is the whole gradient of the block's hidden state; `dcell`
    /// holds the gradient from the step after and becomes that for the step before; `gates` becomes the gradient of
    /// the sums, which is added to `sums` also. `before` and `cell` are the cell states before and after the step, from
    /// the block's first unit on, their rows as far apart as `dcell`'s. Panics when the shapes differ.
    pub fn lstm_backward<E: Element>(
        gates: &mut BlockMut<'_, E>,
        before: &[f32],
        cell: &[f32],
        dh: &[f32],
        dcell: &mut BlockMut<'_>,
        sums: &mut LstmGradients<'_>,
    ) = lstm_backward_body;
}

#[inline(always)]
fn lstm_backward_body<E: Element, const FMA: bool>(
    gates: &mut BlockMut<'_, E>,
    before: &[f32],
    cell: &[f32],
    dh: &[f32],
    dcell: &mut BlockMut<'_>,
    sums: &mut LstmGradients<'_>,
) {
    let mut bias = [0.0; ROW];
    for row in 0..gates.rows() {
        let stride = dcell.stride;
        let (before, cell) = (part(&before[row * stride..][..UNITS], 0), part(&cell[row * stride..][..UNITS], 0));
        let dh = part(&dh[row * UNITS..][..UNITS], 0);
        let [to_i, to_f, to_g, to_o] = gates.row(row);
        let (i, f, g, o) = (wide(to_i), wide(to_f), wide(to_g), wide(to_o));
        let [mut di, mut df, mut dg, mut d_o, mut dc] = [[0.0f32; UNITS]; 5];
        let [dcell] = dcell.row(row);
        let after = wide(dcell);
        for j in 0..UNITS {
            let shown = tanh_by::<FMA>(cell[j]);
            let d = fma::<FMA>(dh[j] * o[j], fma::<FMA>(-shown, shown, 1.0), after[j]);
            di[j] = d * g[j] * i[j] * (1.0 - i[j]);
            df[j] = d * before[j] * f[j] * (1.0 - f[j]);
            dg[j] = d * i[j] * fma::<FMA>(-g[j], g[j], 1.0);
            d_o[j] = dh[j] * shown * o[j] * (1.0 - o[j]);
            dc[j] = d * f[j];
        }
        narrow(to_i, &di);
        narrow(to_f, &df);
        narrow(to_g, &dg);
        narrow(to_o, &d_o);
        dcell.copy_from_slice(&dc);
        add_to(&mut bias, &di, &df, &dg, &d_o);
        if let Some((rows, which)) = &mut sums.by_input
            && let Some(sums) = rows[which[row] as usize * ROW..].first_chunk_mut::<ROW>()
        {
            add_to(sums, &di, &df, &dg, &d_o);
        }
    }
    sums.bias.iter_mut().zip(bias).for_each(|(sum, x)| *sum += x);
}

#[inline(always)]
fn add_to(sums: &mut [f32; ROW], i: &[f32; UNITS], f: &[f32; UNITS], g: &[f32; UNITS], o: &[f32; UNITS]) {
    for j in 0..UNITS {
        sums[j] += i[j];
        sums[UNITS + j] += f[j];
        sums[2 * UNITS + j] += g[j];
        sums[3 * UNITS + j] += o[j];
    }
}

#[cfg(test)]
mod tests;

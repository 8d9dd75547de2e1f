//! The element-wise part of an LSTM step, on the block of hidden units that one task owns.

use crate::isa::dispatched;
use crate::math::{fma, sigmoid_by, tanh_by};
use crate::parts::BlockMut;

/// `gates` (four groups: i, f, g, o) holds sums and becomes the activated gates; `cell ← f ⊙ before + i ⊙ g`,
/// `hidden ← o ⊙ tanh(cell)`. `before` is the whole `[rows, H]` cell state of the step before, of which the block
/// begins at column `first`. Panics when the blocks' shapes differ.
pub fn lstm_cell(
    gates: &mut BlockMut<'_>,
    before: &[f32],
    first: usize,
    cell: &mut BlockMut<'_>,
    hidden: &mut BlockMut<'_>,
) {
    let h = cell.stride;
    for row in 0..gates.rows() {
        let [i, f, g, o] = gates.row(row);
        let ([cell], [hidden]) = (cell.row(row), hidden.row(row));
        cell_row(i, f, g, o, &before[row * h + first..], cell, hidden);
    }
}

dispatched! {
    /// A row of units. Separate slices in a called function's signature are known not to overlap; inlined into the
    /// loop over rows, their interleaved rows would look as if they did, and no vectors would be used.
    fn cell_row(
        i: &mut [f32],
        f: &mut [f32],
        g: &mut [f32],
        o: &mut [f32],
        before: &[f32],
        cell: &mut [f32],
        hidden: &mut [f32],
    ) = cell_row_body;
}

#[inline(always)]
fn cell_row_body<const FMA: bool>(
    i: &mut [f32],
    f: &mut [f32],
    g: &mut [f32],
    o: &mut [f32],
    before: &[f32],
    cell: &mut [f32],
    hidden: &mut [f32],
) {
    let values = i.iter_mut().zip(f).zip(g).zip(o).zip(before).zip(cell).zip(hidden);
    for ((((((i, f), g), o), before), cell), hidden) in values {
        *i = sigmoid_by::<FMA>(*i);
        *f = sigmoid_by::<FMA>(*f);
        *g = tanh_by::<FMA>(*g);
        *o = sigmoid_by::<FMA>(*o);
        *cell = fma::<FMA>(*f, *before, *i * *g);
        *hidden = *o * tanh_by::<FMA>(*cell);
    }
}

/// Backward of [`lstm_cell`]: `dh` is the whole gradient of the block's hidden state; `dcell` holds the gradient
/// from the step after and becomes that for the step before; `gates` becomes the gradient of the sums.
/// `before` and `cell` are whole `[rows, H]` cell states, of which the block begins at column `first`.
pub fn lstm_cell_backward(
    gates: &mut BlockMut<'_>,
    before: &[f32],
    cell: &[f32],
    first: usize,
    dh: &mut BlockMut<'_>,
    dcell: &mut BlockMut<'_>,
) {
    let h = dcell.stride;
    for row in 0..gates.rows() {
        let [i, f, g, o] = gates.row(row);
        let ([dh], [dcell]) = (dh.row(row), dcell.row(row));
        let at = row * h + first;
        cell_row_backward(i, f, g, o, &before[at..], &cell[at..], dh, dcell);
    }
}

dispatched! {
    /// A row of units, as [`cell_row`].
    fn cell_row_backward(
        gi: &mut [f32],
        gf: &mut [f32],
        gg: &mut [f32],
        go: &mut [f32],
        before: &[f32],
        cell: &[f32],
        dh: &[f32],
        dcell: &mut [f32],
    ) = cell_row_backward_body;
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn cell_row_backward_body<const FMA: bool>(
    gi: &mut [f32],
    gf: &mut [f32],
    gg: &mut [f32],
    go: &mut [f32],
    before: &[f32],
    cell: &[f32],
    dh: &[f32],
    dcell: &mut [f32],
) {
    let values = gi.iter_mut().zip(gf).zip(gg).zip(go).zip(before).zip(cell).zip(dh).zip(dcell);
    for (((((((gi, gf), gg), go), before), cell), dh), dcell) in values {
        let (i, f, g, o) = (*gi, *gf, *gg, *go);
        let shown = tanh_by::<FMA>(*cell);
        let d = fma::<FMA>(*dh * o, fma::<FMA>(-shown, shown, 1.0), *dcell);
        *gi = d * g * i * (1.0 - i);
        *gf = d * *before * f * (1.0 - f);
        *gg = d * i * fma::<FMA>(-g, g, 1.0);
        *go = *dh * shown * o * (1.0 - o);
        *dcell = d * f;
    }
}

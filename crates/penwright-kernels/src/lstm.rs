//! The element-wise part of an LSTM step, on the block of hidden units that one task owns.

use crate::isa::dispatched;
use crate::math::{fma, sigmoid_by, tanh_by};
use crate::parts::BlockMut;

dispatched! {
    /// `gates` (four groups: i, f, g, o) holds sums and becomes the activated gates; `cell ← f ⊙ before + i ⊙ g`,
    /// `hidden ← o ⊙ tanh(cell)`. `before` is the whole `[rows, H]` cell state of the step before, of which the
    /// block begins at column `first`. Panics when the blocks' shapes differ.
    pub fn lstm_cell(
        gates: &mut BlockMut<'_>,
        before: &[f32],
        first: usize,
        cell: &mut BlockMut<'_>,
        hidden: &mut BlockMut<'_>,
    ) = lstm_cell_body;
}

#[inline(always)]
fn lstm_cell_body<const FMA: bool>(
    gates: &mut BlockMut<'_>,
    before: &[f32],
    first: usize,
    cell: &mut BlockMut<'_>,
    hidden: &mut BlockMut<'_>,
) {
    let h = cell.stride;
    for row in 0..gates.rows() {
        let [i, f, g, o] = gates.row::<4>(row);
        let ([cell], [hidden]) = (cell.row::<1>(row), hidden.row::<1>(row));
        let before = &before[row * h + first..][..i.len()];
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
}

dispatched! {
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
    ) = lstm_cell_backward_body;
}

#[inline(always)]
fn lstm_cell_backward_body<const FMA: bool>(
    gates: &mut BlockMut<'_>,
    before: &[f32],
    cell: &[f32],
    first: usize,
    dh: &mut BlockMut<'_>,
    dcell: &mut BlockMut<'_>,
) {
    let h = dcell.stride;
    for row in 0..gates.rows() {
        let [gi, gf, gg, go] = gates.row::<4>(row);
        let ([dh], [dcell]) = (dh.row::<1>(row), dcell.row::<1>(row));
        let before = &before[row * h + first..][..gi.len()];
        let cell = &cell[row * h + first..][..gi.len()];
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
}

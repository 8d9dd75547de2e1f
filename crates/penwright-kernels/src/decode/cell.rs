//! The cell of an LSTM on sums that lie as a group does, so that one task has all gates of its units.

use super::LANES;
use crate::isa::dispatched;
use crate::math::{fma, sigmoid_by, tanh_by};

/// Units of a group: each has four gates.
pub const UNITS: usize = LANES / 4;

/// The output of [`lstm_units`]'s matrix that is a gate of a unit (gates i, f, g, o).
pub fn gate_at(unit: usize, gate: usize) -> usize {
    unit / UNITS * LANES + gate * UNITS + unit % UNITS
}

dispatched! {
    /// Groups of eight units: `sums` (i, f, g, o of each, see [`gate_at`]) without their `bias` become the new hidden
    /// states (the first eight of 32) and cell states (the next eight) in `y`; `before` are the old cell states, eight a
    /// group: `c = σ(f) c' + σ(i) tanh(g)`, `h = σ(o) tanh(c)`. Slices that end early end the work.
    pub fn lstm_units(sums: &[f32], bias: &[f32], before: &[f32], y: &mut [f32]) = lstm_units_body;
}

#[inline(always)]
fn lstm_units_body<const FMA: bool>(sums: &[f32], bias: &[f32], before: &[f32], y: &mut [f32]) {
    let groups = sums.as_chunks::<LANES>().0.iter().zip(bias.as_chunks::<LANES>().0);
    let states = before.as_chunks::<UNITS>().0.iter().zip(y.as_chunks_mut::<LANES>().0);
    for ((sums, bias), (before, y)) in groups.zip(states) {
        for u in 0..UNITS {
            let [i, f, g, o] = [0, 1, 2, 3].map(|gate| sums[gate * UNITS + u] + bias[gate * UNITS + u]);
            let cell = fma::<FMA>(sigmoid_by::<FMA>(f), before[u], sigmoid_by::<FMA>(i) * tanh_by::<FMA>(g));
            y[u] = sigmoid_by::<FMA>(o) * tanh_by::<FMA>(cell);
            y[UNITS + u] = cell;
        }
    }
}

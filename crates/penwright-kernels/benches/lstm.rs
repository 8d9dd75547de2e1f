//! The element-wise part of an LSTM step, on one thread: a block of units of all texts.
//!
//!     cargo bench -p penwright-kernels --bench lstm

use criterion::{Criterion, criterion_group, criterion_main};
use penwright_kernels::{Bf16, BlockMut, Element, LSTM_UNITS, LstmGradients, LstmSums, lstm_backward, lstm_forward};

mod common;
use common::{group, measure, noise};

/// Texts side by side.
const TEXTS: usize = 64;

fn blocks<E: Element>(criterion: &mut Criterion, kind: &str) {
    let mut group = group(criterion, &format!("lstm {kind}"));
    let (n, row) = (TEXTS * LSTM_UNITS, 4 * LSTM_UNITS);
    let (below, recurrent) = (noise::<f32>(TEXTS * row, 1), noise::<f32>(TEXTS * row, 2));
    let (before, dh) = (noise::<f32>(n, 3), noise::<f32>(n, 4));
    let (mut gates, mut cell, mut hidden) = (noise::<E>(TEXTS * row, 5), before.clone(), noise::<E>(n, 6));
    measure(&mut group, "forward", n, || {
        let sums = LstmSums { below: &below, which: None, recurrent: &recurrent };
        let mut gates = BlockMut::grouped(&mut gates, TEXTS, row, 4);
        let mut cell = BlockMut::whole(&mut cell, TEXTS, LSTM_UNITS);
        lstm_forward(sums, &before, &mut gates, &mut cell, &mut BlockMut::whole(&mut hidden, TEXTS, LSTM_UNITS));
    });
    let (activated, mut dcell, mut bias) = (gates.clone(), vec![0.0; n], vec![0.0; row]);
    measure(&mut group, "backward", n, || {
        // What it overwrites is set anew, so that the numbers stay what they are in training.
        gates.copy_from_slice(&activated);
        dcell.fill(0.0);
        let mut gates = BlockMut::grouped(&mut gates, TEXTS, row, 4);
        let mut dcell = BlockMut::whole(&mut dcell, TEXTS, LSTM_UNITS);
        let mut sums = LstmGradients { bias: &mut bias, by_input: None };
        lstm_backward(&mut gates, &before, &cell, &dh, &mut dcell, &mut sums);
    });
    group.finish();
}

fn all(criterion: &mut Criterion) {
    blocks::<f32>(criterion, "f32");
    blocks::<Bf16>(criterion, "bf16");
}

criterion_group!(benches, all);
criterion_main!(benches);

//! The element-wise part of an LSTM step, on one thread.
//!
//!     cargo bench -p penwright-kernels --bench lstm

use criterion::{Criterion, criterion_group, criterion_main};
use penwright_kernels::{BlockMut, lstm_cell};

mod common;
use common::{group, measure, noise};

fn cells(criterion: &mut Criterion) {
    let mut group = group(criterion, "lstm");
    for (name, rows, hidden) in [("cell 64 × 512", 64, 512), ("cell 20 × 1150", 20, 1150)] {
        let (sums, before) = (noise::<f32>(rows * 4 * hidden, 1), noise::<f32>(rows * hidden, 2));
        let (mut gates, mut cell, mut state) = (sums.clone(), before.clone(), before.clone());
        measure(&mut group, name, rows * hidden, || {
            let mut gates = BlockMut::grouped(&mut gates, rows, 4 * hidden, 4);
            let mut cell = BlockMut::whole(&mut cell, rows, hidden);
            lstm_cell(&mut gates, &before, 0, &mut cell, &mut BlockMut::whole(&mut state, rows, hidden));
        });
    }
    group.finish();
}

criterion_group!(benches, cells);
criterion_main!(benches);

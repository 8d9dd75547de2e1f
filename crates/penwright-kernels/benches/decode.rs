//! Products of a few rows with GPT-2's matrices, as decoding needs them, on all threads.
//!
//!     cargo bench -p penwright-kernels --bench decode

use criterion::{Criterion, criterion_group, criterion_main};
use penwright_kernels::{linear_in_out, linear_out_in};

mod common;
use common::{group, measure, noise};

fn linears(criterion: &mut Criterion) {
    let mut group = group(criterion, "decode");
    let mut scratch = Vec::new();
    for rows in [1, 16] {
        for (name, inputs, outputs) in [("qkv", 768, 2304), ("up", 768, 3072), ("down", 3072, 768)] {
            let (w, x, mut y) = (noise(inputs * outputs, 1), noise(rows * inputs, 2), vec![0.0; rows * outputs]);
            measure(&mut group, &format!("{name}, {rows} rows"), 2 * rows * inputs * outputs, || {
                linear_in_out(&mut y, &x, &w, None, rows, &mut scratch);
            });
        }
        let (inputs, outputs) = (768, 50257);
        let (w, x, mut y) = (noise(inputs * outputs, 1), noise(rows * inputs, 2), vec![0.0; rows * outputs]);
        measure(&mut group, &format!("head, {rows} rows"), 2 * rows * inputs * outputs, || {
            linear_out_in(&mut y, &x, &w, None, rows, &mut scratch);
        });
    }
    group.finish();
}

criterion_group!(benches, linears);
criterion_main!(benches);

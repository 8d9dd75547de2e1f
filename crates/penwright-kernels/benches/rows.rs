//! The passes over rows, on one thread, on data that stays in the caches; AdamW on data that does not.
//!
//!     cargo bench -p penwright-kernels --bench rows

use criterion::{Criterion, criterion_group, criterion_main};
use penwright_kernels::{
    AdamStep, Bf16, adamw, add, add_columns, cross_entropy, dropout, gelu, gelu_backward, layer_norm, log_softmax,
    narrow, sum_squares,
};

mod common;
use common::{group, measure, noise};

/// A strip of rows of GPT-2's width.
const ROWS: usize = 16;
const WIDTH: usize = 768;
const VOCAB: usize = 50257;
/// AdamW's numbers: 64 MB of each array.
const MANY: usize = 16 << 20;

fn passes(criterion: &mut Criterion) {
    let mut group = group(criterion, "rows");
    let n = ROWS * WIDTH;
    let (x, gain, bias) = (noise::<f32>(n, 1), noise::<f32>(WIDTH, 2), noise::<f32>(WIDTH, 3));
    let (mut y, mut half, mut sums) = (noise::<f32>(n, 4), vec![Bf16::default(); n], vec![0.0; WIDTH]);
    measure(&mut group, "add", n, || add(&mut y, &x));
    measure(&mut group, "add_columns", n, || add_columns(&mut sums, &x, WIDTH, 0));
    measure(&mut group, "gelu", n, || gelu(&x, &mut y));
    // Where the slope is one, so that the gradient stays what it is.
    let far = vec![10.0; n];
    measure(&mut group, "gelu_backward", n, || gelu_backward(&far, &mut y));
    y.copy_from_slice(&x);
    measure(&mut group, "dropout", n, || dropout(&mut y, 7, 0, 0.0));
    measure(&mut group, "layer_norm f32", n, || layer_norm(&x, &gain, &bias, 1e-5, &mut y));
    measure(&mut group, "layer_norm bf16", n, || layer_norm(&x, &gain, &bias, 1e-5, &mut half));
    measure(&mut group, "narrow", n, || narrow(&x, &mut half));
    measure(&mut group, "sum_squares", n, || {
        std::hint::black_box(sum_squares(&x));
    });
    group.finish();
}

fn vocabulary(criterion: &mut Criterion) {
    let mut group = group(criterion, "vocabulary");
    let logits = noise::<f32>(VOCAB, 1);
    let (mut row, mut d) = (logits.clone(), vec![Bf16::default(); VOCAB]);
    measure(&mut group, "log_softmax", VOCAB, || log_softmax(&mut row));
    row.copy_from_slice(&logits);
    measure(&mut group, "cross_entropy bf16", VOCAB, || {
        std::hint::black_box(cross_entropy(&mut row, &[17], 1.0, &mut d));
    });
    group.finish();
}

fn optimizer(criterion: &mut Criterion) {
    let mut group = group(criterion, "optimizer");
    let (mut p, g) = (noise::<f32>(MANY, 1), noise::<f32>(MANY, 2));
    let (mut m, mut v) = (vec![0.0; MANY], vec![0.0; MANY]);
    let step = AdamStep { betas: (0.9, 0.99), unbias: (0.5, 0.5), lr: 1e-6, epsilon: 1e-8, scale: 1.0 };
    // Reads four numbers and writes three: 28 bytes an element.
    measure(&mut group, "adamw", MANY, || adamw(&mut p, &g, &mut m, &mut v, step, 1.0));
    group.finish();
}

criterion_group!(benches, passes, vocabulary, optimizer);
criterion_main!(benches);

//! Products of a few rows with GPT-2's matrices in each format, as decoding needs them, on all threads; the units of an
//! LSTM and attention over what was written, on one.
//!
//!     cargo bench -p penwright-kernels --bench decode

use criterion::{Criterion, criterion_group, criterion_main};
use penwright_kernels::decode::{ATTEND_ROWS, Format, Inputs, Shape, Source, Weights, attend, lstm_units};
use penwright_kernels::{Bf16, team};

mod common;
use common::{group, measure, noise};

const FORMATS: [(&str, Format); 4] =
    [("f32", Format::F32), ("bf16", Format::Bf16), ("int8", Format::Int8), ("int4", Format::Int4)];

fn linears(criterion: &mut Criterion) {
    for (kind, format) in FORMATS {
        let mut group = group(criterion, &format!("decode {kind}"));
        for (name, inputs, outputs) in
            [("qkv", 768, 2304), ("up", 768, 3072), ("down", 3072, 768), ("head", 768, 50257)]
        {
            let Ok(mut weights) = Weights::new([Shape { format, inputs, outputs }]) else { continue };
            weights.set(0, Source::OutIn(&noise(inputs * outputs, 1)));
            for rows in [1, 16] {
                let (x, mut y) = (noise(rows * inputs, 2), vec![0.0; rows * outputs]);
                let mut prepared = Inputs::default();
                team(|| {
                    measure(&mut group, &format!("{name}, {rows} rows"), 2 * rows * inputs * outputs, || {
                        prepared.set(format, &x, rows, inputs);
                        weights.multiply(0, &prepared, &mut y, |_, _, sums, y| y.copy_from_slice(sums));
                    });
                });
            }
        }
        group.finish();
    }
}

fn units(criterion: &mut Criterion) {
    let mut group = group(criterion, "decode units");
    let hidden = 512;
    let (sums, bias, before) = (noise::<f32>(4 * hidden, 1), noise::<f32>(4 * hidden, 2), noise::<f32>(hidden, 3));
    let mut y = vec![0.0; 4 * hidden];
    measure(&mut group, "lstm_units 512", hidden, || lstm_units(&sums, &bias, &before, &mut y));
    group.finish();
}

fn attention(criterion: &mut Criterion) {
    let mut group = group(criterion, "decode attention");
    let (positions, channels) = (512, 64);
    let (q, keys, values) =
        (noise::<f32>(channels, 1), noise::<Bf16>(positions * channels, 2), noise::<Bf16>(positions * channels, 3));
    let (mut scores, mut out) = (vec![0.0; ATTEND_ROWS * positions], vec![0.0; channels]);
    measure(&mut group, "one head over 512, bf16", 4 * positions * channels, || {
        attend(&q, (&keys, &values), channels, positions, 0.125, &mut scores, &mut out);
    });
    group.finish();
}

criterion_group!(benches, linears, units, attention);
criterion_main!(benches);

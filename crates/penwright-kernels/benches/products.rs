//! Matrix products of the sizes that training has, on all threads, packing included and packed before.
//!
//!     cargo bench -p penwright-kernels --bench products

use criterion::{Criterion, criterion_group, criterion_main};
use penwright_kernels::{Factor, Init, Matrix, Output, Packed, PackedLeft, product_into, product_of_packed, team};

mod common;
use common::{group, measure, noise};

/// Name, rows, columns, inner size, and whether the left or the right factor is transposed.
type Shape = (&'static str, [usize; 3], bool, bool);
const SHAPES: &[Shape] = &[
    ("gpt2-128 up", [768, 512, 128], false, false),
    ("gpt2-384 up", [4096, 1536, 384], false, false),
    ("gpt2-768 up", [256, 3072, 768], false, false),
    ("gpt2-768 up, gradient of weights", [768, 3072, 256], true, false),
    ("gpt2-768 up, gradient of input", [256, 768, 3072], false, true),
    ("lstm-512 input", [4096, 2048, 512], false, true),
    ("lstm-512 recurrent", [64, 2048, 512], false, true),
    ("lstm-1150 recurrent", [20, 4600, 1150], false, true),
];

fn products<E: Factor>(criterion: &mut Criterion, kind: &str) {
    let mut group = group(criterion, &format!("products {kind}"));
    for &(name, [m, n, k], turned_left, turned_right) in SHAPES {
        let (a, b, mut c) = (noise::<E>(m * k, 1), noise::<E>(k * n, 2), vec![0.0; m * n]);
        let left = if turned_left { Matrix::new(&a, k, m).t() } else { Matrix::new(&a, m, k) };
        let right = if turned_right { Matrix::new(&b, n, k).t() } else { Matrix::new(&b, k, n) };
        let (mut packed_left, mut packed) = (PackedLeft::<E>::default(), Packed::<E>::default());
        packed_left.pack(left);
        packed.pack(right);
        team(|| {
            measure(&mut group, &format!("{name}, packing"), 2 * m * n * k, || {
                product_into::<E, _, _>(Output::sums(&mut c, Init::Zero), left, right);
            });
            measure(&mut group, &format!("{name}, packed"), 2 * m * n * k, || {
                product_of_packed(Output::sums(&mut c, Init::Zero), &packed_left, &packed);
            });
        });
    }
}

fn all(criterion: &mut Criterion) {
    products::<f32>(criterion, "f32");
    products::<penwright_kernels::Bf16>(criterion, "bf16");
}

criterion_group!(benches, all);
criterion_main!(benches);

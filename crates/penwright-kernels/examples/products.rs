//! Times matrix products of the shapes that training has, own and by the crate `gemm`, on all threads.
//!
//!     cargo run --release -p penwright-kernels --example products

use std::time::Instant;

use penwright_kernels::{Bf16, Element, Init, Matrix, Output, Packed, product, product_into, product_packed, team};

fn best(mut f: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..7 {
        let start = Instant::now();
        for _ in 0..10 {
            f();
        }
        best = best.min(start.elapsed().as_secs_f64() / 10.0);
    }
    best
}

fn theirs(c: &mut [f32], a: &[f32], b: &[f32], (m, n, k): (usize, usize, usize), ta: bool, tb: bool) {
    let (a_row, a_col) = if ta { (1, m) } else { (k, 1) };
    let (b_row, b_col) = if tb { (1, k) } else { (n, 1) };
    // SAFETY: the slices are as long as the shapes say.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.as_ptr(),
            a_col as isize,
            a_row as isize,
            b.as_ptr(),
            b_col as isize,
            b_row as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::Rayon(0),
        );
    }
}

fn main() {
    let shapes = [
        ("forward qkv", 768, 384, 128, false, false),
        ("forward up", 768, 512, 128, false, false),
        ("forward down", 768, 128, 512, false, false),
        ("forward out", 768, 128, 128, false, false),
        ("input up", 768, 128, 512, false, true),
        ("input down", 768, 512, 128, false, true),
        ("input qkv", 768, 128, 384, false, true),
        ("weights up", 128, 512, 768, true, false),
        ("weights down", 512, 128, 768, true, false),
        ("weights out", 128, 128, 768, true, false),
        ("lstm input", 4096, 1024, 256, false, true),
        ("lstm weights", 1024, 256, 4096, true, false),
        ("gpt2-small up", 256, 3072, 768, false, false),
        ("gpt2-small weights", 768, 3072, 256, true, false),
        ("square", 1024, 1024, 1024, false, false),
    ];
    for (name, m, n, k, ta, tb) in shapes {
        let fill = |len: usize| (0..len).map(|i| (i % 17) as f32 / 17.0).collect::<Vec<_>>();
        let (a, b, mut c) = (fill(m * k), fill(k * n), fill(m * n));
        let left = if ta { Matrix::new(&a, k, m).t() } else { Matrix::new(&a, m, k) };
        let right = if tb { Matrix::new(&b, n, k).t() } else { Matrix::new(&b, k, n) };
        let own = team(|| best(|| product(&mut c, Init::Zero, left, right)));
        let gemm = best(|| theirs(&mut c, &a, &b, (m, n, k), ta, tb));
        let rate = |seconds: f64| 2.0 * (m * n * k) as f64 / seconds / 1e9;
        let narrow = |x: &[f32]| x.iter().map(|&x| Bf16::of(x)).collect::<Vec<_>>();
        let (a, b) = (narrow(&a), narrow(&b));
        let left = if ta { Matrix::new(&a, k, m).t() } else { Matrix::new(&a, m, k) };
        let right = if tb { Matrix::new(&b, n, k).t() } else { Matrix::new(&b, k, n) };
        let mut packed = Packed::<Bf16>::default();
        packed.pack(right);
        fn sums(c: &mut [f32]) -> Output<'_, Bf16> {
            Output::Sums { c, init: Init::Zero }
        }
        let pairs = team(|| best(|| product_into::<Bf16, _, _>(sums(&mut c), left, right)));
        let ready = team(|| best(|| product_packed(sums(&mut c), left, &packed)));
        let mut short = narrow(&c);
        let rounded = team(|| best(|| product_packed(Output::Rounded { c: &mut short, bias: None }, left, &packed)));
        let [own, gemm, pairs, ready, rounded] = [own, gemm, pairs, ready, rounded].map(rate);
        println!(
            "{name:20} {m:5}×{n:5}×{k:5} GFLOP/s: own {own:6.1}  gemm {gemm:6.1}  bf16 {pairs:6.1}, packed {ready:6.1}, rounded {rounded:6.1}"
        );
    }
}

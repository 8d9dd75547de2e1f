//! Products against three loops.

use super::*;
use crate::bf16::{Bf16, Element};
use crate::isa::{Isa, with_each};
use proptest::prelude::*;

fn fill(len: usize, seed: u32) -> Vec<f32> {
    (0..len as u32).map(|i| ((i.wrapping_mul(2_654_435_761) ^ seed) % 1000) as f32 / 500.0 - 1.0).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn equals_three_loops(m in prop_oneof![1usize..6, 1usize..150], n in 1usize..150, k in 0usize..60, ta: bool, tb: bool, start in 0usize..3) {
        let (a, b, bias) = (fill(m * k, 1), fill(k * n, 2), fill(n, 4));
        let before = fill(m * n, 3);
        let mut expected = before.clone();
        for i in 0..m { for j in 0..n {
            let dot: f32 = (0..k).map(|l| {
                let x = if ta { a[l * m + i] } else { a[i * k + l] };
                let y = if tb { b[j * k + l] } else { b[l * n + j] };
                x * y
            }).sum();
            expected[i * n + j] = dot + [0.0, expected[i * n + j], bias[j]][start];
        }}
        let a = if ta { Matrix::new(&a, k, m).t() } else { Matrix::new(&a, m, k) };
        let b = if tb { Matrix::new(&b, n, k).t() } else { Matrix::new(&b, k, n) };
        let init = [Init::Zero, Init::Add, Init::Bias(&bias)][start];
        with_each(|isa| {
            let (mut c, mut here) = (before.clone(), before.clone());
            product(&mut c, init, a, b);
            product_here::<f32, _, _>(&mut BlockMut::whole(&mut here, m, n), init, a, b);
            for (i, x) in expected.iter().enumerate() {
                assert!((x - c[i]).abs() < 1e-4 && (x - here[i]).abs() < 1e-4, "{isa:?} {x} {} {}", c[i], here[i]);
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn half_of_a_symmetric_product_is_that_half_of_the_whole_and_its_mirror_image(side in 0usize..200, k in 0usize..80, transposed: bool) {
        let x = fill(side * k, 1);
        let rounded = narrow(&x);
        fn check<E: Factor>(isa: Isa, x: &[E], side: usize, k: usize, transposed: bool) {
            let x = if transposed { Matrix::new(x, k, side).t() } else { Matrix::new(x, side, k) };
            let [mut gram, mut square, mut half] = [(); 3].map(|()| vec![7.0; side * side]);
            let check = |half: &[f32], whole: &[f32]| {
                let at = |i: usize| (i / side).max(i % side) * side + (i / side).min(i % side);
                assert!((0..side * side).all(|i| half[i].to_bits() == whole[at(i)].to_bits()), "{isa:?}");
            };
            product_into::<E, _, _>(Output::sums(&mut gram, Init::Zero), x, x.t());
            symmetric_product::<E, _, _>(&mut half, x, x.t());
            check(&half, &gram);
            let gram = Matrix::new(&half, side, side);
            product_into::<E, _, _>(Output::sums(&mut square, Init::Zero), gram, gram);
            let mut half = vec![7.0; side * side];
            symmetric_product::<E, _, _>(&mut half, gram, gram);
            check(&half, &square);
        }
        with_each(|isa| {
            check(isa, &x, side, k, transposed);
            check(isa, &rounded, side, k, transposed);
        });
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for (m, n, k) in [(300, 517, 700), (96, 30, 32), (30, 96, 300), (65, 65, 40), (2000, 3, 64), (1, 2000, 900)] {
        thread_independent(m, n, k);
    }
}

fn thread_independent(m: usize, n: usize, k: usize) {
    let (a, b) = (fill(m * k, 1), fill(k * n, 2));
    let product = |threads, left: Matrix<'_>| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut c = vec![0.0; m * n];
        pool.install(|| crate::team(|| matmul(&mut c, false, left, Matrix::new(&b, k, n))));
        c
    };
    for left in [Matrix::new(&a, m, k), Matrix::new(&a, k, m).t()] {
        let one = product(1, left);
        for threads in [2, 3, 4] {
            assert_eq!(one, product(threads, left), "{threads} threads");
        }
    }
}

/// Values that bfloat16 has exactly, small enough that their products and sums are exact in f32 too.
fn exact(len: usize, seed: u32) -> Vec<f32> {
    fill(len, seed).into_iter().map(|x| (x * 8.0).round() / 8.0).collect()
}

fn narrow(x: &[f32]) -> Vec<Bf16> {
    x.iter().map(|&x| Bf16::of(x)).collect()
}

fn wide(x: &[Bf16]) -> Vec<f32> {
    x.iter().map(|x| x.get()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Rounding aside, which there is none of here, the order of the additions does not matter: equal to the bit.
    #[test]
    fn pairs_equal_three_loops(m in prop_oneof![1usize..6, 1usize..150], n in 1usize..150, k in 0usize..60, ta: bool, tb: bool, start in 0usize..3, from_f32: bool) {
        let (a, b, bias, before) = (exact(m * k, 1), exact(k * n, 2), exact(n, 4), exact(m * n, 3));
        let mut expected = before.clone();
        for i in 0..m { for j in 0..n {
            let dot: f32 = (0..k).map(|l| {
                let x = if ta { a[l * m + i] } else { a[i * k + l] };
                let y = if tb { b[j * k + l] } else { b[l * n + j] };
                x * y
            }).sum();
            expected[i * n + j] = dot + [0.0, expected[i * n + j], bias[j]][start];
        }}
        let init = [Init::Zero, Init::Add, Init::Bias(&bias)][start];
        let (na, nb) = (narrow(&a), narrow(&b));
        let bm = if tb { Matrix::new(&nb, n, k).t() } else { Matrix::new(&nb, k, n) };
        let am = if ta { Matrix::new(&na, k, m).t() } else { Matrix::new(&na, m, k) };
        let af = if ta { Matrix::new(&a, k, m).t() } else { Matrix::new(&a, m, k) };
        with_each(|isa| {
            let (mut c, mut here, mut packed) = (before.clone(), before.clone(), before.clone());
            let output = Output::Sums { c: &mut c, init };
            if from_f32 { product_into::<Bf16, _, _>(output, af, bm) } else { product_into::<Bf16, _, _>(output, am, bm) }
            product_here::<Bf16, _, _>(&mut BlockMut::whole(&mut here, m, n), init, am, bm);
            let (mut left, mut right) = (PackedLeft::default(), Packed::<Bf16>::default());
            left.pack(af);
            right.pack(bm);
            product_of_packed(Output::Sums { c: &mut packed, init }, &left, &right);
            assert!(c == expected && here == expected && packed == expected, "{isa:?}");
        });
    }

    #[test]
    fn what_becomes_of_the_sums(m in 1usize..70, n in 1usize..150, k in prop_oneof![1usize..40, 1100usize..1200], biased: bool, rate in prop_oneof![Just(0.0f32), Just(0.25)]) {
        let (a, b, bias, x) = (exact(m * k, 1), exact(k * n, 2), exact(n, 4), exact(m * n, 3));
        let sums: Vec<f32> = (0..m * n).map(|i| (0..k).map(|l| a[i / n * k + l] * b[l * n + i % n]).sum::<f32>()).collect();
        let bias = biased.then_some(&bias[..]);
        let y: Vec<f32> = sums.iter().enumerate().map(|(i, s)| s + bias.map_or(0.0, |b| b[i % n])).collect();
        with_each(|isa| {
            check_outputs::<f32>(isa, (&a, &b, bias), &x, (&sums, &y), k, rate);
            check_outputs::<Bf16>(isa, (&a, &b, bias), &x, (&sums, &y), k, rate);
        });
    }
}

fn check_outputs<E: Factor>(
    isa: crate::Isa,
    (a, b, bias): (&[f32], &[f32], Option<&[f32]>),
    x: &[f32],
    (sums, y): (&[f32], &[f32]),
    k: usize,
    rate: f32,
) {
    let (m, n) = (a.len() / k, b.len() / k);
    let (a, b) = (Matrix::new(a, m, k), Matrix::new(b, k, n));
    let zeros = || vec![E::default(); m * n];
    let (mut c, mut before, mut after, mut d, mut stream) = (zeros(), zeros(), zeros(), zeros(), vec![0.0; m * n]);
    product_into::<E, _, _>(Output::Rounded { c: &mut c, bias }, a, b);
    product_into::<E, _, _>(Output::Gelu { before: &mut before, after: &mut after, bias }, a, b);
    product_into::<E, _, _>(Output::GeluBackward { d: &mut d, before: &before }, a, b);
    let dropout = (rate > 0.0).then_some((7, rate));
    product_into::<E, _, _>(Output::Residual { c: &mut stream, x, bias, dropout }, a, b);
    let (mut gelu, mut dropped) = (vec![0.0; m * n], y.to_vec());
    let kept: Vec<f32> = before.iter().map(|x| x.get()).collect();
    crate::gelu(&kept, &mut gelu);
    if rate > 0.0 {
        crate::dropout(&mut dropped, 7, 0, rate);
    }
    let mut slope = sums.to_vec();
    crate::gelu_backward(&kept, &mut slope);
    // A last bit of f32 may differ, which can tip the rounding to a neighbouring bfloat16; there the slope is known to
    // 1e-4 of what it is a sum of.
    let (unit, part) = if E::GROUP == 1 { (1e-5, 0.0) } else { (0.008, 1e-4) };
    let close = |what: &str, ours: f32, exact: f32, sum: f32| {
        let most = unit * exact.abs() + part * sum.abs() + 1e-5;
        assert!((ours - exact).abs() <= most, "{isa:?} {what}: {ours} for {exact}");
    };
    for i in 0..m * n {
        assert_eq!(c[i].get(), E::of(y[i]).get(), "{isa:?} rounded");
        assert_eq!(before[i].get(), E::of(y[i]).get(), "{isa:?} before");
        close("after", after[i].get(), gelu[i], 0.0);
        close("d", d[i].get(), slope[i], sums[i]);
        assert!((stream[i] - (x[i] + dropped[i])).abs() < 1e-4, "{isa:?} residual");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// The last row is the sums of the right factor's columns.
    #[test]
    fn a_product_and_sums(m in 1usize..150, n in 1usize..150, k in 1usize..60, add: bool) {
        let (mut a, b, before) = (exact(m * k, 1), exact(k * n, 2), exact((m + 1) * n, 3));
        let init = if add { Init::Add } else { Init::Zero };
        let b = Matrix::new(&b, k, n);
        let rows = a.clone();
        let rows = Matrix::new(&rows, k, m).t();
        // The same with the ones written out, `[k, m + 1]`.
        a = a.chunks(m).flat_map(|row| row.iter().copied().chain([1.0])).collect();
        let mut expected = before.clone();
        product(&mut expected, init, Matrix::new(&a, k, m + 1).t(), b);
        with_each(|isa| {
            let (mut c, mut pairs) = (before.clone(), before.clone());
            product_and_sums::<f32, _, _>(Output::sums(&mut c, init), rows, b);
            product_and_sums::<Bf16, _, _>(Output::sums(&mut pairs, init), rows, b);
            assert!(c == expected && pairs == expected, "{isa:?}");
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Blocks as wide as the widest panel, whatever the panels of the instruction set are; what they have more is zeros.
    #[test]
    fn blocks_of_a_packed_factor(m in 1usize..20, n in 1usize..100, k in 1usize..60) {
        let (a, b) = (exact(m * k, 1), exact(k * n, 2));
        let mut product = vec![0.0; m * n];
        matmul(&mut product, false, Matrix::new(&a, m, k), Matrix::new(&b, k, n));
        with_each(|isa| {
            let blocks = |multiply: &dyn Fn(&mut BlockMut<'_>, usize)| {
                for first in (0..n).step_by(MAX_PANEL) {
                    let mut c = vec![7.0; m * MAX_PANEL];
                    multiply(&mut BlockMut::whole(&mut c, m, MAX_PANEL), first);
                    for (row, expected) in c.chunks(MAX_PANEL).zip(product.chunks(n)) {
                        let (product, more) = row.split_at(MAX_PANEL.min(n - first));
                        assert!(expected[first..].starts_with(product) && more.iter().all(|x| *x == 0.0), "{isa:?}");
                    }
                }
            };
            // Packed in memory that has held something else.
            let (mut floats, mut pairs) = (Packed::<f32>::default(), Packed::<Bf16>::default());
            floats.pack(Matrix::new(&[9.0; 6400], 64, 100));
            pairs.pack(Matrix::new(&[9.0; 6400], 64, 100));
            floats.pack(Matrix::new(&b, k, n));
            pairs.pack(Matrix::new(&b, k, n));
            let a = Matrix::new(&a, m, k);
            blocks(&|block, first| floats.multiply(block, Init::Zero, a, first));
            blocks(&|block, first| pairs.multiply(block, Init::Zero, a, first));
        });
    }
}

#[test]
fn a_long_inner_dimension_in_parts() {
    let (m, n, k) = (7, 40, 9001);
    let (a, b) = (narrow(&exact(k * m, 1)), narrow(&exact(k * n, 2)));
    let (mut c, mut whole) = (vec![1.0; m * n], vec![1.0; m * n]);
    product_into::<Bf16, _, _>(
        Output::Sums { c: &mut c, init: Init::Add },
        Matrix::new(&a, k, m).t(),
        Matrix::new(&b, k, n),
    );
    matmul(&mut whole, true, Matrix::new(&wide(&a), k, m).t(), Matrix::new(&wide(&b), k, n));
    c.iter().zip(&whole).for_each(|(x, y)| assert!((x - y).abs() < 1e-3 * y.abs().max(1.0), "{x} {y}"));
}

proptest! {
    /// Whatever the bits are.
    #[test]
    fn panels_in_vectors_equal_those_without(k in 1usize..100, n in 1usize..=32, seed: u32) {
        let bits = (0..(k * n) as u32).map(|i| (i ^ seed).wrapping_mul(2_654_435_761));
        let floats: Vec<f32> = bits.map(f32::from_bits).collect();
        let pairs = narrow(&floats);
        let (floats, pairs) = (Matrix::new(&floats, n, k).t(), Matrix::new(&pairs, n, k).t());
        with_each(|isa| {
            let width = panel(isa);
            let b = n.min(width);
            let (mut expected, mut ours) = (vec![1; k.div_ceil(2) * width], vec![2; k.div_ceil(2) * width]);
            pack::pair_columns(floats.columns(0, b), &mut expected, width);
            for from_pairs in [false, true] {
                let done = match from_pairs {
                    true => pairs::panel(pairs.columns(0, b), &mut ours, width),
                    false => pairs::panel(floats.columns(0, b), &mut ours, width),
                };
                assert!(!done || ours == expected, "{isa:?}, from pairs: {from_pairs}");
            }
        });
    }

    /// The instruction takes numbers below the normal ones for zeros, which these are not; NaN are quiet.
    #[test]
    fn rows_and_tiles_in_vectors_equal_those_without(k in 1usize..40, n in 1usize..150, step in 1usize..=12, seed: u32) {
        let bits = (0..(k * n) as u32).map(|i| (i ^ seed).wrapping_mul(2_654_435_761));
        let floats: Vec<f32> = bits.map(f32::from_bits).map(|x| if x.is_normal() { x } else { 1.0 }).collect();
        let pairs = narrow(&floats);
        let (floats, pairs) = (Matrix::new(&floats, k, n), Matrix::new(&pairs, k, n));
        let groups = k.div_ceil(2);
        with_each(|isa| {
            let width = panel(isa);
            let len = n.div_ceil(width) * groups * width;
            let (mut expected, mut ours) = (vec![1; len], vec![2; len]);
            pack::pair_rows(floats, &mut expected, width);
            for from_pairs in [false, true] {
                let done = match from_pairs {
                    true => pairs::rows(pairs, &mut ours, width),
                    false => pairs::rows(floats, &mut ours, width),
                };
                assert!(!done || ours == expected, "{isa:?}, from pairs: {from_pairs}");
            }
            let (tiles, one) = (n.div_ceil(step), 2 * step);
            let zeros = || vec![Bf16::default(); tiles * groups * one];
            let (mut expected, mut ours) = (zeros(), zeros());
            pack::pair_tiles(pairs.t(), &mut BlockMut::whole(&mut expected, tiles, groups * one), step);
            let done = pairs::tiles(pairs.t(), &mut BlockMut::whole(&mut ours, tiles, groups * one), step);
            assert!(!done || ours == expected, "{isa:?}, tiles");
        });
    }
}

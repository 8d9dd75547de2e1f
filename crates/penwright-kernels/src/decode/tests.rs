use super::*;
use crate::bf16::{Bf16, Element};
use crate::isa::with_each;
use proptest::prelude::*;

const FORMATS: [Format; 4] = [Format::F32, Format::Bf16, Format::Int8, Format::Int4];

/// Numbers that look like weights: most small, a few large.
fn fill(len: usize, seed: u64) -> Vec<f32> {
    let number = |i| (crate::math::random(seed, i) >> 40) as f32 / (1 << 23) as f32 - 1.0;
    (0..len as u64).map(|i| number(i) * number(i + 7).abs() * number(i + 99).abs()).collect()
}

fn turned(w: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
    (0..w.len()).map(|i| w[i % inputs * outputs + i / inputs]).collect()
}

fn product(weights: &Weights, x: &[f32], rows: usize) -> Vec<f32> {
    let Shape { format, inputs, outputs } = weights.shape(0);
    let (mut prepared, mut y) = (Inputs::default(), vec![9.0; rows * outputs]);
    prepared.set(format, x, rows, inputs);
    weights.multiply(0, &prepared, &mut y, |row, first, sums, y| {
        for (i, (y, sum)) in y.iter_mut().zip(sums).enumerate() {
            *y = *sum + ((row + first + i) % 7) as f32; // as a bias would
        }
    });
    for (i, y) in y.iter_mut().enumerate() {
        *y -= ((i / outputs + i % outputs) % 7) as f32;
    }
    y
}

fn weights(format: Format, w: Source<'_>, inputs: usize, outputs: usize) -> Weights {
    let mut weights = Weights::new([Shape { format, inputs, outputs }]).unwrap();
    weights.set(0, w);
    weights
}

/// How far a sum of products may be off when each factor is rounded to 8 binary digits, so by 2⁻⁸ of it at most: all in
/// one direction, or, as errors are independent and of 0.41 · 2⁻⁷ of a product at most (standard deviation), seven of
/// those; and sums in f32 of numbers up to 8.
fn rounded_error(terms: &[f64]) -> f64 {
    let (whole, squares) = terms.iter().fold((0.0, 0.0), |(whole, squares), t| (whole + t.abs(), squares + t * t));
    whole.min(3.0 * squares.sqrt()) / 127.0 + 1e-5
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn close_to_the_exact_product(rows in 1usize..30, inputs in 1usize..200, outputs in 1usize..150) {
        let (x, w) = (fill(rows * inputs, 1), fill(inputs * outputs, 2));
        let exact: Vec<(f64, f64)> = (0..rows * outputs).map(|i| {
            let (row, n) = (i / outputs, i % outputs);
            let term = |k| f64::from(x[row * inputs + k]) * f64::from(w[k * outputs + n]);
            let terms: Vec<f64> = (0..inputs).map(term).collect();
            (terms.iter().sum(), rounded_error(&terms))
        }).collect();
        let other = turned(&w, inputs, outputs);
        let scale = 0.1 * (inputs as f64).sqrt();
        for format in FORMATS {
            let mut first: Option<Vec<f32>> = None;
            with_each(|isa| {
                for w in [Source::InOut(&w), Source::OutIn(&other)] {
                    let y = product(&weights(format, w, inputs, outputs), &x, rows);
                    for (y, (exact, rounded)) in y.iter().zip(&exact) {
                        let bound = match format {
                            Format::F32 => 1e-3 * scale,
                            Format::Bf16 => *rounded,
                            Format::Int8 => 4e-2 * scale,
                            Format::Int4 => 0.25 * scale,
                        };
                        assert!((f64::from(*y) - exact).abs() <= bound, "{format:?} {isa:?} {y} {exact}");
                    }
                    // The same arithmetic on every processor, but for the order of sums.
                    for (y, first) in y.iter().zip(first.get_or_insert_with(|| y.clone())) {
                        assert!((y - *first).abs() < 1e-3, "{format:?} {isa:?}: {y} {first}");
                    }
                }
            });
        }
    }

    #[test]
    fn attention_is_softmax(channels in 1usize..150, positions in 1usize..70, rows in 1usize..12) {
        let rows = rows.min(positions);
        let (q, k, v) = (fill(rows * channels, 3), fill(positions * channels, 4), fill(positions * channels, 5));
        let mut exact = Vec::new();
        for (row, q) in q.chunks(channels).enumerate() {
            let seen = positions - rows + 1 + row;
            let scores: Vec<f64> = k.chunks(channels).take(seen)
                .map(|k| (3.0 * k.iter().zip(q).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()).exp()).collect();
            let total: f64 = scores.iter().sum();
            exact.extend((0..channels).map(|c| {
                scores.iter().zip(v.chunks(channels)).map(|(s, v)| s / total * f64::from(v[c])).sum::<f64>()
            }));
        }
        with_each(|isa| {
            attends::<f32>(&q, &k, &v, rows, |i, y| {
                assert!((f64::from(y) - exact[i]).abs() < 1e-5, "{isa:?} {y} {}", exact[i]);
            });
            attends::<Bf16>(&q, &k, &v, rows, |i, y| {
                assert!((f64::from(y) - exact[i]).abs() < 1e-2, "{isa:?} {y} {}", exact[i]);
            });
        });
    }
}

fn attends<T: Element>(q: &[f32], k: &[f32], v: &[f32], rows: usize, check: impl Fn(usize, f32)) {
    let channels = q.len() / rows;
    let positions = k.len() / channels;
    // What lies beyond the last position is not looked at.
    let mut keys = vec![T::of(f32::NAN); positions.next_multiple_of(16) * channels];
    for (i, &k) in k.iter().enumerate() {
        keys[key_at(i / channels, i % channels, channels)] = T::of(k);
    }
    let values: Vec<T> = v.iter().map(|&v| T::of(v)).collect();
    let (mut scores, mut out, mut one) =
        (vec![0.0; 4 * positions.next_multiple_of(16)], vec![0.0; q.len()], vec![0.0; channels]);
    let first = positions - rows + 1;
    attend(q, (&keys, &values), channels, first, 3.0, &mut scores, &mut out);
    out.iter().enumerate().for_each(|(i, &y)| check(i, y));
    for row in 0..rows {
        attend(&q[row * channels..][..channels], (&keys, &values), channels, first + row, 3.0, &mut scores, &mut one);
        assert_eq!(one, out[row * channels..][..channels], "a row alone");
    }
}

#[test]
fn neither_other_rows_nor_threads_change_a_bit() {
    let (inputs, outputs, rows) = (300, 517, 100);
    let (x, w) = (fill(rows * inputs, 1), fill(inputs * outputs, 2));
    for format in FORMATS {
        let all = product(&weights(format, Source::InOut(&w), inputs, outputs), &x, rows);
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let weights = pool.install(|| weights(format, Source::InOut(&w), inputs, outputs));
            for size in [1, 2, 5, 6, 7, 12, 13, 33, 100] {
                let part = pool.install(|| product(&weights, &x[..size * inputs], size));
                assert_eq!(all[..size * outputs], part, "{format:?}, {size} rows, {threads} threads");
            }
        }
    }
}

#[test]
fn weights_are_stored_alike_by_every_instruction_set() {
    let w = fill(150 * 70, 6);
    for format in FORMATS {
        let mut first: Option<Vec<u8>> = None;
        with_each(|isa| {
            let weights = weights(format, Source::InOut(&w), 150, 70);
            assert!(
                *first.get_or_insert_with(|| weights.pages.bytes().to_vec()) == weights.pages.bytes(),
                "{format:?} {isa:?}"
            );
        });
    }
}

#[test]
fn numbers_that_are_none_are_seen_wherever_they_lie() {
    let (inputs, outputs) = (130, 70);
    for format in FORMATS {
        let mut weights = Weights::new([Shape { format, inputs, outputs }]).unwrap();
        for place in [None, Some(0), Some(4_567), Some(inputs * outputs - 1)] {
            for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut w = fill(inputs * outputs, 6);
                place.into_iter().for_each(|place| w[place] = wrong);
                with_each(|isa| {
                    for w in [Source::InOut(&w), Source::OutIn(&w)] {
                        assert_eq!(weights.set(0, w), place.is_none(), "{format:?} {isa:?} {place:?} {wrong}");
                    }
                });
            }
        }
    }
}

#[test]
fn inputs_are_prepared_anew_for_fewer_rows() {
    let (inputs, outputs) = (96, 40);
    let (x, w) = (fill(9 * inputs, 1), fill(inputs * outputs, 2));
    for format in FORMATS {
        let weights = weights(format, Source::InOut(&w), inputs, outputs);
        let sums = |prepared: &mut Inputs, rows: usize| {
            let mut y = vec![0.0; rows * outputs];
            prepared.set(format, &x, rows, inputs);
            weights.multiply(0, prepared, &mut y, |_, _, sums, y| y.copy_from_slice(sums));
            y
        };
        let mut prepared = Inputs::default();
        for rows in [9, 2, 7, 1] {
            assert!(sums(&mut prepared, rows) == sums(&mut Inputs::default(), rows), "{format:?} {rows}");
        }
    }
}

#[test]
fn extreme_numbers_stay_numbers() {
    for format in FORMATS {
        for value in [0.0, 1e-38, -1e-20, 3e4, -1e9] {
            let w = vec![value; 70 * 33];
            let y = product(&weights(format, Source::InOut(&w), 70, 33), &vec![1.0; 70], 1);
            let exact = 70.0 * value;
            assert!(y.iter().all(|y| (y - exact).abs() <= 0.01 * exact.abs() + 1e-3), "{format:?} {value}: {y:?}");
        }
    }
}

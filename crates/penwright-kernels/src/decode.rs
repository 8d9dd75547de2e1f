//! Products of a few rows with a large matrix, as decoding needs them: the matrix is read once, in the order in which
//! it lies in memory, and every element of the output is summed in an order that depends on neither the number of
//! rows nor that of threads. So a text does not depend on which others are written beside it.

use rayon::prelude::*;

/// Multiplications worth a task of their own.
const TASK: usize = 1 << 17;
/// Rows of an `[inputs, outputs]` matrix whose products are summed by themselves, so that each task reads one
/// contiguous piece of the matrix.
const PART: usize = 128;
/// Rows of an `[inputs, outputs]` matrix that are added to the output in one pass over it.
const GROUP: usize = 8;
/// Columns that stay in the first cache while several rows of x pass over them.
const TILE: usize = 512;
/// Rows of an `[outputs, inputs]` matrix that are multiplied with a row of x at once.
const SIDE_BY_SIDE: usize = 4;
/// Partial sums of a dot product.
const LANES: usize = 8;

/// `y = x W + b`, W `[inputs, outputs]`; x `[rows, inputs]`, y `[rows, outputs]`. `scratch` is kept by the caller so
/// that a step allocates nothing. Panics when the slices do not fit each other.
pub fn linear_in_out(y: &mut [f32], x: &[f32], w: &[f32], bias: Option<&[f32]>, rows: usize, scratch: &mut Vec<f32>) {
    let Some((inputs, outputs)) = sizes(y, x, w, rows) else { return };
    let tile = if rows == 1 { outputs } else { TILE };
    let part = |(i, sums): (usize, &mut [f32])| add_part(sums, x, w, [inputs, outputs], i * PART, tile);
    if inputs <= PART {
        part((0, &mut *y));
    } else {
        let size = rows * outputs;
        scratch.resize(inputs.div_ceil(PART) * size, 0.0);
        if size * inputs < 2 * TASK {
            scratch.chunks_exact_mut(size).enumerate().for_each(part);
        } else {
            scratch.par_chunks_exact_mut(size).with_min_len(TASK.div_ceil(size * PART)).enumerate().for_each(part);
        }
        let (first, rest) = scratch.split_at(size);
        y.copy_from_slice(first);
        for sums in rest.chunks_exact(size) {
            y.iter_mut().zip(sums).for_each(|(y, sum)| *y += sum);
        }
    }
    if let Some(bias) = bias {
        for y in y.chunks_exact_mut(outputs) {
            y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
    }
}

/// The products of the rows of W from `begin` on, [`PART`] at most, with their inputs; `sums` is `[rows, outputs]`.
fn add_part(sums: &mut [f32], x: &[f32], w: &[f32], [inputs, outputs]: [usize; 2], begin: usize, tile: usize) {
    sums.fill(0.0);
    let end = (begin + PART).min(inputs);
    let groups = begin + (end - begin) / GROUP * GROUP;
    for first in (0..outputs).step_by(tile) {
        let columns = first..(first + tile).min(outputs);
        for k in (begin..groups).step_by(GROUP) {
            let w: [&[f32]; GROUP] = std::array::from_fn(|i| &w[(k + i) * outputs..][columns.clone()]);
            for (sums, x) in sums.chunks_exact_mut(outputs).zip(x.chunks_exact(inputs)) {
                add_group(&mut sums[columns.clone()], &x[k..], w);
            }
        }
        for k in groups..end {
            let w = &w[k * outputs..][columns.clone()];
            for (sums, x) in sums.chunks_exact_mut(outputs).zip(x.chunks_exact(inputs)) {
                sums[columns.clone()].iter_mut().zip(w).for_each(|(sum, w)| *sum += x[k] * w);
            }
        }
    }
}

/// `y += Σ x_i w_i`, one after another.
#[inline(always)]
fn add_group(y: &mut [f32], x: &[f32], w: [&[f32]; GROUP]) {
    let n = y.len();
    let w = w.map(|w| &w[..n]);
    let x = &x[..GROUP];
    for j in 0..n {
        let mut sum = y[j];
        for i in 0..GROUP {
            sum += x[i] * w[i][j];
        }
        y[j] = sum;
    }
}

/// `y = x Wᵀ + b`, W `[outputs, inputs]`; else as [`linear_in_out`].
pub fn linear_out_in(y: &mut [f32], x: &[f32], w: &[f32], bias: Option<&[f32]>, rows: usize, scratch: &mut Vec<f32>) {
    let Some((inputs, outputs)) = sizes(y, x, w, rows) else { return };
    let columns = (TASK / (rows * inputs)).max(1).next_multiple_of(SIDE_BY_SIDE);
    let block = |(i, y): (usize, &mut [f32])| {
        let width = y.len() / rows;
        let (w, bias) = (&w[i * columns * inputs..][..width * inputs], bias.map(|b| &b[i * columns..][..width]));
        dot_block(y, x, w, bias, inputs, width);
    };
    if 2 * columns >= outputs {
        return dot_block(y, x, w, bias, inputs, outputs);
    }
    if rows == 1 {
        return y.par_chunks_mut(columns).enumerate().for_each(block);
    }
    // Each task has a block [rows, columns] of its own, the last one perhaps narrower.
    scratch.resize(rows * outputs, 0.0);
    scratch.par_chunks_mut(rows * columns).enumerate().for_each(block);
    for (i, block) in scratch.chunks(rows * columns).enumerate() {
        let width = block.len() / rows;
        for (y, block) in y.chunks_exact_mut(outputs).zip(block.chunks_exact(width)) {
            y[i * columns..][..width].copy_from_slice(block);
        }
    }
}

/// `y = x Wᵀ + b` for a block of rows of W.
fn dot_block(y: &mut [f32], x: &[f32], w: &[f32], bias: Option<&[f32]>, inputs: usize, outputs: usize) {
    let mut n = 0;
    while n < outputs {
        let many = n + SIDE_BY_SIDE <= outputs;
        for (y, x) in y.chunks_exact_mut(outputs).zip(x.chunks_exact(inputs)) {
            if many {
                let [a, b, c, d] = std::array::from_fn(|i| &w[(n + i) * inputs..][..inputs]);
                y[n..n + SIDE_BY_SIDE].copy_from_slice(&four_dots(x, a, b, c, d));
            } else {
                y[n] = dot(x, &w[n * inputs..][..inputs]);
            }
        }
        n += if many { SIDE_BY_SIDE } else { 1 };
    }
    if let Some(bias) = bias {
        for y in y.chunks_exact_mut(outputs) {
            y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
    }
}

/// Four dot products with x, each as [`dot`] sums it.
#[inline(always)]
fn four_dots(x: &[f32], a: &[f32], b: &[f32], c: &[f32], d: &[f32]) -> [f32; 4] {
    let [(x, x_rest), (a, a_rest), (b, b_rest), (c, c_rest), (d, d_rest)] =
        [x, a, b, c, d].map(|row| row.as_chunks::<LANES>());
    let (mut sum_a, mut sum_b, mut sum_c, mut sum_d) = ([0.0; LANES], [0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for ((((x, a), b), c), d) in x.iter().zip(a).zip(b).zip(c).zip(d) {
        for i in 0..LANES {
            sum_a[i] += x[i] * a[i];
            sum_b[i] += x[i] * b[i];
            sum_c[i] += x[i] * c[i];
            sum_d[i] += x[i] * d[i];
        }
    }
    [(sum_a, a_rest), (sum_b, b_rest), (sum_c, c_rest), (sum_d, d_rest)].map(|(sums, rest)| total(sums, x_rest, rest))
}

#[inline(always)]
fn dot(x: &[f32], w: &[f32]) -> f32 {
    let ((x, x_rest), (w, w_rest)) = (x.as_chunks::<LANES>(), w.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (x, w) in x.iter().zip(w) {
        for i in 0..LANES {
            sums[i] += x[i] * w[i];
        }
    }
    total(sums, x_rest, w_rest)
}

#[inline(always)]
fn total(sums: [f32; LANES], x_rest: &[f32], w_rest: &[f32]) -> f32 {
    let rest: f32 = x_rest.iter().zip(w_rest).map(|(x, w)| x * w).sum();
    sums.iter().sum::<f32>() + rest
}

/// Inputs and outputs of the matrix; `None` when there is nothing to do.
fn sizes(y: &[f32], x: &[f32], w: &[f32], rows: usize) -> Option<(usize, usize)> {
    if rows == 0 || y.is_empty() {
        return None;
    }
    let (inputs, outputs) = (x.len() / rows, y.len() / rows);
    assert!(inputs > 0 && x.len() == rows * inputs && y.len() == rows * outputs, "not whole rows");
    assert_eq!(w.len(), inputs * outputs, "the matrix has another shape");
    Some((inputs, outputs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fill(len: usize, seed: u32) -> Vec<f32> {
        (0..len as u32).map(|i| ((i.wrapping_mul(2_654_435_761) ^ seed) % 1000) as f32 / 500.0 - 1.0).collect()
    }

    fn both(x: &[f32], w: &[f32], bias: Option<&[f32]>, rows: usize, outputs: usize) -> [Vec<f32>; 2] {
        let inputs = x.len() / rows;
        let turned: Vec<f32> = (0..w.len()).map(|i| w[i % inputs * outputs + i / inputs]).collect();
        let (mut y, mut t) = (vec![9.0; rows * outputs], vec![9.0; rows * outputs]);
        linear_in_out(&mut y, x, w, bias, rows, &mut Vec::new());
        linear_out_in(&mut t, x, &turned, bias, rows, &mut vec![5.0; 3]);
        [y, t]
    }

    proptest! {
        #[test]
        fn equals_three_loops(rows in 1usize..6, inputs in 1usize..70, outputs in 1usize..150, biased: bool) {
            let (x, w, bias) = (fill(rows * inputs, 1), fill(inputs * outputs, 2), fill(outputs, 3));
            for y in both(&x, &w, biased.then_some(&bias[..]), rows, outputs) {
                for (i, y) in y.iter().enumerate() {
                    let (row, n) = (i / outputs, i % outputs);
                    let sum: f32 = (0..inputs).map(|k| x[row * inputs + k] * w[k * outputs + n]).sum();
                    let expected = if biased { sum + bias[n] } else { sum };
                    prop_assert!((y - expected).abs() < 1e-4);
                }
            }
        }
    }

    #[test]
    fn neither_other_rows_nor_threads_change_a_bit() {
        let (inputs, outputs) = (700, 517);
        let (x, w) = (fill(9 * inputs, 1), fill(inputs * outputs, 2));
        let all = both(&x, &w, None, 9, outputs);
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(all, pool.install(|| both(&x, &w, None, 9, outputs)));
            for row in 0..9 {
                let alone = pool.install(|| both(&x[row * inputs..][..inputs], &w, None, 1, outputs));
                for (all, alone) in all.iter().zip(alone) {
                    assert_eq!(all[row * outputs..][..outputs], alone);
                }
            }
        }
    }
}

//! Products of a few rows with a large matrix, as decoding needs them: the matrix is read once, in the order in which
//! it lies in memory, and every element of the output is summed in an order that depends on neither the number of
//! rows nor that of threads. So a text does not depend on which others are written beside it.

use rayon::prelude::*;

/// Multiplications worth a task of their own.
const TASK: usize = 1 << 17;
/// The unit of columns in which the output is split.
const COLUMNS: usize = 64;
/// Rows of an `[inputs, outputs]` matrix that are added to the output in one pass over it.
const GROUP: usize = 8;
/// Rows of an `[outputs, inputs]` matrix that are multiplied with a row of x at once.
const SIDE_BY_SIDE: usize = 4;

/// `y = x W + b`, W `[inputs, outputs]`; x `[rows, inputs]`, y `[rows, outputs]`. `scratch` is kept by the caller so
/// that a step allocates nothing. Panics when a slice is too short.
pub fn linear_in_out(y: &mut [f32], x: &[f32], w: &[f32], bias: Option<&[f32]>, rows: usize, scratch: &mut Vec<f32>) {
    let Some((inputs, outputs)) = sizes(y, x, w, rows) else { return };
    by_columns(y, rows, inputs, outputs, scratch, |y, first, columns| {
        begin(y, bias, first, columns);
        let groups = inputs / GROUP * GROUP;
        for k in (0..groups).step_by(GROUP) {
            let w: [&[f32]; GROUP] = std::array::from_fn(|i| &w[(k + i) * outputs + first..][..columns]);
            for (y, x) in y.chunks_exact_mut(columns).zip(x.chunks_exact(inputs)) {
                add_group(y, &x[k..], w);
            }
        }
        for k in groups..inputs {
            let w = &w[k * outputs + first..][..columns];
            for (y, x) in y.chunks_exact_mut(columns).zip(x.chunks_exact(inputs)) {
                y.iter_mut().zip(w).for_each(|(y, w)| *y += x[k] * w);
            }
        }
    });
}

/// `y = x Wᵀ + b`, W `[outputs, inputs]`; else as [`linear_in_out`].
pub fn linear_out_in(y: &mut [f32], x: &[f32], w: &[f32], bias: Option<&[f32]>, rows: usize, scratch: &mut Vec<f32>) {
    let Some((inputs, outputs)) = sizes(y, x, w, rows) else { return };
    by_columns(y, rows, inputs, outputs, scratch, |y, first, columns| {
        begin(y, bias, first, columns);
        let groups = columns / SIDE_BY_SIDE * SIDE_BY_SIDE;
        for n in (0..groups).step_by(SIDE_BY_SIDE) {
            let w: [&[f32]; SIDE_BY_SIDE] = std::array::from_fn(|i| &w[(first + n + i) * inputs..][..inputs]);
            for (y, x) in y.chunks_exact_mut(columns).zip(x.chunks_exact(inputs)) {
                y[n..].iter_mut().zip(dots(x, w)).for_each(|(y, dot)| *y += dot);
            }
        }
        for n in groups..columns {
            let w = &w[(first + n) * inputs..][..inputs];
            for (y, x) in y.chunks_exact_mut(columns).zip(x.chunks_exact(inputs)) {
                y[n] += dots(x, [w])[0];
            }
        }
    });
}

/// Inputs and outputs of the matrix; `None` when there is nothing to do.
fn sizes(y: &[f32], x: &[f32], w: &[f32], rows: usize) -> Option<(usize, usize)> {
    if rows == 0 || y.is_empty() {
        return None;
    }
    let (inputs, outputs) = (x.len() / rows, y.len() / rows);
    assert!(x.len() == rows * inputs && y.len() == rows * outputs, "not whole rows");
    assert_eq!(w.len(), inputs * outputs, "the matrix has another shape");
    Some((inputs, outputs))
}

/// Runs `task(y, first, columns)` for blocks of columns, `y` being `[rows, columns]` of its own, and joins them.
fn by_columns(
    y: &mut [f32],
    rows: usize,
    inputs: usize,
    outputs: usize,
    scratch: &mut Vec<f32>,
    task: impl Fn(&mut [f32], usize, usize) + Sync,
) {
    let columns = (TASK / (rows * inputs).max(1)).next_multiple_of(COLUMNS).max(COLUMNS);
    if columns >= outputs {
        return task(y, 0, outputs);
    }
    if rows == 1 {
        let blocks = y.par_chunks_mut(columns).enumerate();
        return blocks.for_each(|(i, y)| task(y, i * columns, y.len()));
    }
    let blocks = outputs.div_ceil(columns);
    scratch.resize(blocks * rows * columns, 0.0);
    scratch.par_chunks_mut(rows * columns).enumerate().for_each(|(i, block)| {
        let width = columns.min(outputs - i * columns);
        task(&mut block[..rows * width], i * columns, width);
    });
    for (i, block) in scratch.chunks_exact(rows * columns).enumerate() {
        let width = columns.min(outputs - i * columns);
        for (y, block) in y.chunks_exact_mut(outputs).zip(block.chunks_exact(width)) {
            y[i * columns..][..width].copy_from_slice(block);
        }
    }
}

fn begin(y: &mut [f32], bias: Option<&[f32]>, first: usize, columns: usize) {
    match bias {
        Some(bias) => y.chunks_exact_mut(columns).for_each(|y| y.copy_from_slice(&bias[first..][..columns])),
        None => y.fill(0.0),
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

/// The dot products of x with several rows, each in sixteen partial sums of a fixed order.
#[inline(always)]
fn dots<const N: usize>(x: &[f32], w: [&[f32]; N]) -> [f32; N] {
    const LANES: usize = 16;
    let mut sums = [[0.0f32; LANES]; N];
    let (groups, rest) = x.as_chunks::<LANES>();
    let w_groups = w.map(|w| &w.as_chunks::<LANES>().0[..groups.len()]);
    for (g, x) in groups.iter().enumerate() {
        for n in 0..N {
            for i in 0..LANES {
                sums[n][i] += x[i] * w_groups[n][g][i];
            }
        }
    }
    std::array::from_fn(|n| {
        let tail: f32 = rest.iter().zip(&w[n][groups.len() * LANES..]).map(|(x, w)| x * w).sum();
        sums[n].iter().sum::<f32>() + tail
    })
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

//! Products of a few rows in f32: packing B would cost more than it saves.

use super::TASK_FLOPS;
use super::matrix::{Init, Matrix};
use crate::isa::dispatched;
use crate::math::{dot, fma};
use crate::parts::{Cut, blocks_mut, each};

/// Most rows.
pub(super) const FEW_ROWS: usize = 3;
/// Columns of a task there.
const FEW_ROWS_COLS: usize = 256;

/// A product of few rows, B read where it lies: as dot products when its columns are contiguous, else row by row.
pub(super) fn few_rows(c: &mut [f32], init: Init<'_>, a: Matrix<'_>, b: Matrix<'_>) {
    let (m, n) = (a.rows, b.cols);
    let task_cols = (TASK_FLOPS / 4 / (m * a.cols).max(1)).next_multiple_of(FEW_ROWS_COLS).max(FEW_ROWS_COLS);
    let cut = Cut { rows: m, cols: n, block_rows: m, groups: 1, block_cols: task_cols };
    each(blocks_mut(c, cut), |task, mut block| {
        for i in 0..m {
            let [c] = block.row(i);
            let first = task * task_cols;
            match init {
                Init::Zero => c.fill(0.0),
                Init::Add => {}
                Init::Bias(bias) => c.copy_from_slice(&bias[first..][..c.len()]),
            }
            let a = a.rows(i, 1);
            if b.row_stride == 1 && a.col_stride == 1 {
                for (j, c) in c.iter_mut().enumerate() {
                    *c += dot(&a.data[..a.cols], &b.data[(first + j) * b.col_stride..][..a.cols]);
                }
            } else if b.col_stride == 1 {
                add_rows_by(c, a, b, first);
            } else {
                for (j, c) in c.iter_mut().enumerate() {
                    let at =
                        |l: usize| a.data[l * a.col_stride] * b.data[l * b.row_stride + (first + j) * b.col_stride];
                    *c += (0..a.cols).map(at).sum::<f32>();
                }
            }
        }
    });
}

dispatched! {
    /// `c += Σ_l a_l · b[l, first..]`, for b of contiguous rows.
    fn add_rows_by(c: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, first: usize) = add_rows_by_body;
}

#[inline(always)]
fn add_rows_by_body<const FMA: bool>(c: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, first: usize) {
    const COLS: usize = 64;
    for (block, c) in c.chunks_mut(COLS).enumerate() {
        let mut sums = [0.0; COLS];
        for l in 0..a.cols {
            let (x, row) = (a.data[l * a.col_stride], &b.data[l * b.row_stride + first + block * COLS..]);
            if let Some(row) = row.first_chunk::<COLS>() {
                for j in 0..COLS {
                    sums[j] = fma::<FMA>(x, row[j], sums[j]);
                }
            } else {
                sums.iter_mut().zip(row).for_each(|(s, y)| *s += x * y);
            }
        }
        c.iter_mut().zip(sums).for_each(|(c, s)| *c += s);
    }
}

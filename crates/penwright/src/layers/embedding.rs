//! Embedding: row `token` of a table `[V, C]`.

use penwright_kernels::{self as kernels, Cut, blocks_mut, each};

/// Adds the gradient dx `[rows, C]` to that of the table: each task owns some columns and takes all rows in order.
pub(crate) fn embed_backward(dtable: &mut [f32], tokens: &[u32], dx: &[f32], width: usize) {
    const COLS: usize = 32;
    let cut = Cut { rows: dtable.len() / width, cols: width, block_rows: usize::MAX >> 1, groups: 1, block_cols: COLS };
    each(blocks_mut(dtable, cut), |i, mut block| {
        for (dx, &token) in dx.chunks_exact(width).zip(tokens) {
            let [row] = block.row(token as usize);
            kernels::add(row, &dx[i * COLS..]);
        }
    });
}

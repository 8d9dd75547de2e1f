//! A task's part of a product: the loops that keep panels and tiles in the caches.

use super::finish::{Sink, TileSums};
use super::matrix::Matrix;
use super::pack::{Packable, Packed, PackedLeft, step};
use crate::tile::{Start, Tile};

/// The inner dimension is cut into equal parts of at most this many groups.
pub(super) const INNER: usize = 512;
/// Groups of B that stay in the second cache.
pub(super) const SECOND_CACHE: usize = 1 << 16;

/// The left factor, a tile of rows at a time: where the tile of a row begins, and the steps within it, in elements.
#[derive(Clone, Copy)]
pub(super) struct Left<E> {
    a: *const E,
    rows: usize,
    /// From the beginning of one row to that of the next, for rows that begin a tile.
    tile_row: usize,
    row: usize,
    group: usize,
    /// Rows of a tile when it is packed.
    step: Option<usize>,
}

// SAFETY: it stands for a shared borrow that lasts until all tasks are done.
unsafe impl<E: Sync> Sync for Left<E> {}

impl<E: Packable> Left<E> {
    /// A matrix read where it lies, when a group of its columns is one piece.
    pub(super) fn of(a: Matrix<'_, E>) -> Option<Self> {
        let lies = E::GROUP == 1 || (a.col_stride == 1 && a.cols.is_multiple_of(E::GROUP));
        let (a_row, group) = (a.row_stride, E::GROUP * a.col_stride);
        lies.then_some(Left { a: a.data.as_ptr(), rows: a.rows, tile_row: a_row, row: a_row, group, step: None })
    }

    pub(super) fn packed(a: &PackedLeft<E>) -> Self {
        let k = a.k.next_multiple_of(E::GROUP);
        let (row, group) = (E::GROUP, E::GROUP * a.step);
        Left { a: a.pointer(), rows: a.rows, tile_row: k, row, group, step: Some(a.step) }
    }

    fn at(&self, row: usize, group: usize) -> *const E {
        self.a.wrapping_add(row * self.tile_row + group * self.group)
    }

    /// The rows from `row` on, which begins a tile.
    pub(super) fn starting_at(&self, row: usize) -> Self {
        Left { a: self.at(row, 0), rows: self.rows - row, ..*self }
    }

    /// Rows of the tiles into which some of the rows are cut.
    pub(super) fn step(&self, right: &Packed<E>, rows: usize) -> usize {
        self.step.unwrap_or_else(|| step(right.isa, rows))
    }
}

/// A block of a product: some rows of the left factor by some columns of the right one.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub(super) rows: usize,
    /// The first column, which begins a panel, and how many.
    pub(super) first: usize,
    pub(super) cols: usize,
    /// Inner size, in groups.
    pub(super) groups: usize,
}

/// Computes a block. `sink` begins at the block's first element.
///
/// # Safety
/// `left` has at least as many rows as the block and `groups` groups, no more than `right` has; the columns exist in
/// `right`; the block of `sink` is this thread's alone.
pub(super) unsafe fn multiply<E: Packable>(right: &Packed<E>, left: Left<E>, block: Block, sink: Sink<'_, E>) {
    let Block { rows, first, cols, groups } = block;
    let (width, step) = (right.width, left.step(right, rows));
    // Parts of equal size, so that a tile's part of A and a panel's part of B stay in the first cache.
    let parts = groups.div_ceil(INNER).max(1);
    let inner = groups.div_ceil(parts);
    let across = (SECOND_CACHE / (inner * width).max(1)).max(1) * width;
    let (mut tile, mut spare) = (TileSums::default(), TileSums::default());
    let mut sums = sink.sums((rows, cols), parts > 1, (tile.0.as_mut_ptr(), width));
    for part in 0..parts {
        let (from, to) = (part * inner, groups.min((part + 1) * inner));
        for begin in (0..cols).step_by(across) {
            let end = cols.min(begin + across);
            for row in (0..rows).step_by(step) {
                for col in (begin..end).step_by(width) {
                    let (c, c_row, init) = sums.at(row, col);
                    let (tile_rows, tile_cols) = (step.min(rows - row), width.min(cols - col));
                    let tile = Tile {
                        k: to - from,
                        a: left.at(row, from),
                        a_row: left.row,
                        a_group: left.group,
                        b: right.at((first + col) / width, from),
                        c,
                        c_row,
                        cols: tile_cols,
                        start: if part > 0 { Start::Add } else { init },
                    };
                    // SAFETY: rows and columns of the tile lie in the block, of the factors as promised; `right.isa`
                    // came from `isa()`.
                    unsafe { E::multiply_tile(right.isa, tile_rows, &tile) }
                    if part + 1 == parts {
                        // SAFETY: the tile lies in the block of the sink, and its sums have just been written.
                        unsafe { sink.finish((c, c_row), (row, tile_rows), (col, tile_cols), &mut spare) }
                    }
                }
            }
        }
    }
    sums.give_back();
}

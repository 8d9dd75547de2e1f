//! f32 matrix products behind a checked face: packed panels, register tiles ([`crate::tile`]), tasks cut by shape.

use std::cell::RefCell;

use crate::isa::{Isa, dispatched, isa};
use crate::math::{dot, fma};
use crate::parts::{BlockMut, Cut, blocks_mut, chunks_mut, each};
use crate::tile::{MAX_PANEL, Start, Tile, multiply_tile, panel, tile_rows};

/// A read-only matrix: `rows × cols` elements of a slice, by strides counted in elements.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix. Panics when the slice is shorter than `rows · cols`.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A row-major matrix whose rows begin `row_stride` elements apart. Panics when the slice is too short.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(rows == 0 || cols == 0 || (rows - 1) * row_stride + cols <= data.len(), "matrix exceeds its slice");
        Matrix { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose, without moving anything.
    pub fn t(self) -> Self {
        Matrix { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    /// Columns `first .. first + cols`. Panics when there are not so many.
    pub fn columns(self, first: usize, cols: usize) -> Self {
        assert!(first + cols <= self.cols, "no such columns");
        let data = if self.rows == 0 || cols == 0 { &[] } else { &self.data[first * self.col_stride..] };
        Matrix { data, cols, ..self }
    }

    /// Rows `first .. first + rows`. Panics when there are not so many.
    pub fn rows(self, first: usize, rows: usize) -> Self {
        self.t().columns(first, rows).t()
    }
}

/// What a product is added to.
#[derive(Clone, Copy, Debug)]
pub enum Init<'a> {
    /// Nothing: the output is overwritten.
    Zero,
    /// What the output holds.
    Add,
    /// The same row in each row of the output.
    Bias(&'a [f32]),
}

/// The right factor of products, its columns in panels as wide as a register tile, so that many products can use it.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    /// `[panels][k][width]`, the last panel filled up with zeros.
    data: Vec<f32>,
    k: usize,
    n: usize,
    width: usize,
    isa: Isa,
}

impl Packed {
    /// Takes up a matrix `[k, n]`, on all threads, in the memory of the one before.
    pub fn pack(&mut self, b: Matrix<'_>) {
        (self.k, self.n, self.isa) = (b.rows, b.cols, isa());
        self.width = panel(self.isa);
        let (k, width) = (self.k, self.width);
        let len = self.n.div_ceil(width) * k * width;
        if self.data.len() < len {
            self.data.resize(len, 0.0);
        }
        // Some panels a task, so that a small matrix stays on one thread.
        let group = (TASK_ELEMENTS / (k * width).max(1)).max(1);
        each(chunks_mut(&mut self.data[..len], group * k * width), |task, part| {
            for (i, out) in part.chunks_exact_mut((k * width).max(1)).enumerate() {
                let first = (task * group + i) * width;
                pack_panel(b.columns(first, width.min(b.cols - first)), out, width);
            }
        });
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.n
    }

    /// The unit in which [`Packed::multiply`] takes columns.
    pub fn panel(&self) -> usize {
        self.width
    }

    /// `c (+)= a · b[..a.cols, first .. first + c.width]` on this thread: `a` may have fewer columns than b has rows;
    /// `first` is a multiple of [`Packed::panel`]. Columns that fill up the last panel are zeros.
    /// Panics when the shapes do not fit.
    pub fn multiply(&self, c: &mut BlockMut<'_>, init: Init<'_>, a: Matrix<'_>, first: usize) {
        assert!(a.cols <= self.k && a.rows == c.rows() && first.is_multiple_of(self.width.max(1)), "shapes differ");
        assert!(first + c.width() <= self.n.next_multiple_of(self.width.max(1)), "no such columns");
        if let Init::Bias(bias) = init {
            assert!(bias.len() >= first + c.width(), "the bias is too short");
        }
        // SAFETY: `Matrix` holds what it says, `pack` laid the panels out, the columns were checked.
        unsafe { self.block(c, init, Left::of(a), a.cols, first) }
    }

    /// # Safety
    /// `a` has as many rows as `c`, and `k` columns, no more than `self` has rows; the columns of `c` exist from
    /// `first`, which begins a panel.
    unsafe fn block(&self, c: &mut BlockMut<'_>, init: Init<'_>, a: Left, k: usize, first: usize) {
        let (width, step) = (self.width, tile_rows(self.isa));
        // Inner parts of equal size, so that a tile's part of A and a panel's part of B stay in the first cache.
        let parts = k.div_ceil(INNER).max(1);
        let inner = k.div_ceil(parts);
        let across = (SECOND_CACHE / (inner * width).max(1)).max(1) * width;
        for part in 0..parts {
            let (from, to) = (part * inner, k.min((part + 1) * inner));
            for left in (0..c.width()).step_by(across) {
                let right = c.width().min(left + across);
                for row in (0..c.rows()).step_by(step) {
                    for col in (left..right).step_by(width) {
                        let start = match init {
                            _ if part > 0 => Start::Add,
                            Init::Zero => Start::Zero,
                            Init::Add => Start::Add,
                            Init::Bias(bias) => Start::Bias(bias.as_ptr().wrapping_add(first + col)),
                        };
                        let tile = Tile {
                            k: to - from,
                            a: a.at(row, from),
                            a_row: a.row,
                            a_col: a.col,
                            b: self.data.as_ptr().wrapping_add(((first + col) / width * self.k + from) * width),
                            c: c.data.wrapping_add(row * c.stride + col),
                            c_row: c.stride,
                            cols: width.min(c.width() - col),
                            start,
                        };
                        // SAFETY: rows and columns of the tile lie in `c`, `a` and `self` as promised; `self.isa`
                        // came from `isa()`; `c` is borrowed exclusively.
                        unsafe { multiply_tile(self.isa, step.min(c.rows() - row), &tile) }
                    }
                }
            }
        }
    }
}

/// The left factor, a tile of rows at a time: where the tile of a row begins, and the steps within it.
#[derive(Clone, Copy)]
struct Left {
    a: *const f32,
    /// Elements from the beginning of one row to that of the next, for rows that begin a tile.
    tile_row: usize,
    row: usize,
    col: usize,
}

// SAFETY: it stands for a shared borrow that lasts until all tasks are done.
unsafe impl Sync for Left {}

impl Left {
    fn of(a: Matrix<'_>) -> Self {
        Left { a: a.data.as_ptr(), tile_row: a.row_stride, row: a.row_stride, col: a.col_stride }
    }

    fn at(&self, row: usize, col: usize) -> *const f32 {
        self.a.wrapping_add(row * self.tile_row + col * self.col)
    }

    fn starting_at(&self, row: usize) -> Self {
        Left { a: self.at(row, 0), ..*self }
    }
}

/// Elements that a task of packing moves at least.
const TASK_ELEMENTS: usize = 1 << 14;
/// Multiplications and additions of a task of a product.
const TASK_FLOPS: usize = 1 << 20;
/// The inner dimension is cut into equal parts of at most this.
const INNER: usize = 512;
/// Elements of B that stay in the second cache.
const SECOND_CACHE: usize = 1 << 16;

/// Memory for packing, kept for the next product.
#[derive(Default)]
struct Scratch {
    right: Packed,
    left: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// `c = a · b`, or `c += a · b` when `accumulate`; `c` is row-major `[a.rows, b.cols]`.
/// Panics when the shapes do not fit.
pub fn matmul(c: &mut [f32], accumulate: bool, a: Matrix<'_>, b: Matrix<'_>) {
    product(c, if accumulate { Init::Add } else { Init::Zero }, a, b);
}

/// `c (+)= a · b` on all threads; `c` is row-major `[a.rows, b.cols]`. The output is cut into tasks by its shape
/// alone. Panics when the shapes do not fit.
pub fn product(c: &mut [f32], init: Init<'_>, a: Matrix<'_>, b: Matrix<'_>) {
    let (m, n, k) = (a.rows, b.cols, a.cols);
    assert_eq!(k, b.rows, "inner sizes differ");
    assert!(c.len() >= m * n, "output is too short");
    if let Init::Bias(bias) = init {
        assert!(bias.len() >= n, "the bias is too short");
    }
    if m == 0 || n == 0 {
        return;
    }
    if m <= FEW_ROWS {
        return few_rows(c, init, a, b);
    }
    let mut scratch = SCRATCH.take();
    scratch.right.pack(b);
    let isa = scratch.right.isa;
    let step = tile_rows(isa);
    let left = if a.col_stride != 1 && n > scratch.right.width {
        pack_left(&mut scratch.left, a, step);
        Left { a: scratch.left.as_ptr(), tile_row: k, row: 1, col: step }
    } else {
        Left::of(a)
    };
    let tasks = (m * n * k / TASK_FLOPS).clamp(1, 128);
    let tiles = m.div_ceil(step);
    let block_rows = tiles.div_ceil(tiles.min(tasks)) * step;
    let across = tasks.div_ceil(m.div_ceil(block_rows));
    let width = scratch.right.width;
    let block_cols = n.div_ceil(width).div_ceil(across) * width;
    let across = n.div_ceil(block_cols);
    let right = &scratch.right;
    let cut = Cut { rows: m, cols: n, block_rows, groups: 1, block_cols };
    each(blocks_mut(c, cut), |task, mut block| {
        let (row, col) = (task / across * block_rows, task % across * block_cols);
        // SAFETY: the block lies in the output, whose shape fits `a` and `b` as asserted above; its first row
        // begins a tile and its first column a panel.
        unsafe { right.block(&mut block, init, left.starting_at(row), k, col) }
    });
    SCRATCH.set(scratch);
}

/// With so few rows, packing B would cost more than it saves.
const FEW_ROWS: usize = 3;
/// Columns of a task there.
const FEW_ROWS_COLS: usize = 256;

/// A product of few rows, B read where it lies: as dot products when its columns are contiguous, else row by row.
fn few_rows(c: &mut [f32], init: Init<'_>, a: Matrix<'_>, b: Matrix<'_>) {
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

/// `c (+)= a · b` on this thread alone, for the small products inside a task.
/// Panics when the shapes do not fit.
pub fn product_here(c: &mut BlockMut<'_>, init: Init<'_>, a: Matrix<'_>, b: Matrix<'_>) {
    assert!(c.rows() == a.rows && c.width() == b.cols && a.cols == b.rows, "shapes differ");
    let mut scratch = SCRATCH.take();
    scratch.right.pack(b);
    scratch.right.multiply(c, init, a, 0);
    SCRATCH.set(scratch);
}

/// Tiles of `step` rows, each `[k][step]`; the last one's missing rows are left as they were.
fn pack_left(out: &mut Vec<f32>, a: Matrix<'_>, step: usize) {
    // A task reads some lines of each row of the transpose, and writes no more tiles than a cache set has ways.
    const TILES: usize = 8;
    const ROWS: usize = 128;
    let (tiles, k) = (a.rows.div_ceil(step), a.cols);
    let len = tiles * step * k;
    if out.len() < len {
        out.resize(len, 0.0);
    }
    let cut = Cut { rows: tiles, cols: k * step, block_rows: TILES, groups: 1, block_cols: ROWS * step };
    let across = k.div_ceil(ROWS);
    each(blocks_mut(&mut out[..len], cut), |task, mut block| {
        let (first_tile, first_k) = (task / across * TILES, task % across * ROWS);
        for l in 0..block.width() / step {
            for tile in 0..block.rows() {
                let first = (first_tile + tile) * step;
                let from = &a.data[(first_k + l) * a.col_stride + first * a.row_stride..];
                let [to] = block.row(tile);
                let to = &mut to[l * step..][..step.min(a.rows - first)];
                if a.row_stride == 1 {
                    copy(to, from);
                } else {
                    to.iter_mut().zip(from.iter().step_by(a.row_stride)).for_each(|(t, f)| *t = *f);
                }
            }
        }
    });
}

/// Copies the first values of `from`: the lengths that tiles have without a call.
#[inline(always)]
fn copy(to: &mut [f32], from: &[f32]) {
    macro_rules! of_length {
        ($($n:literal)+) => {
            $(if let (Ok(to), Some(from)) = (<&mut [f32; $n]>::try_from(&mut *to), from.first_chunk()) {
                *to = *from;
                return;
            })+
        };
    }
    of_length!(12 32 16);
    let len = to.len();
    to.copy_from_slice(&from[..len]);
}

/// `[k, n ≤ width]` to `[k][width]`, filled up with zeros.
fn pack_panel(b: Matrix<'_>, out: &mut [f32], width: usize) {
    const ROWS: usize = 16;
    if b.col_stride == 1 {
        for (l, out) in out.chunks_exact_mut(width).enumerate() {
            let (values, rest) = out.split_at_mut(b.cols);
            copy(values, &b.data[l * b.row_stride..]);
            rest.iter_mut().for_each(|x| *x = 0.0);
        }
        return;
    }
    for (block, out) in out.chunks_mut(ROWS * width).enumerate() {
        let mut square = [[0.0; MAX_PANEL]; ROWS];
        for j in 0..b.cols {
            let from = &b.data[block * ROWS * b.row_stride + j * b.col_stride..];
            match from.first_chunk::<ROWS>() {
                Some(from) if b.row_stride == 1 => {
                    for l in 0..ROWS {
                        square[l][j] = from[l];
                    }
                }
                _ => square.iter_mut().zip(from.iter().step_by(b.row_stride)).for_each(|(row, x)| row[j] = *x),
            }
        }
        out.chunks_exact_mut(width).zip(&square).for_each(|(out, row)| copy(out, row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::with_each;
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
                product_here(&mut BlockMut::whole(&mut here, m, n), init, a, b);
                for (i, x) in expected.iter().enumerate() {
                    assert!((x - c[i]).abs() < 1e-4 && (x - here[i]).abs() < 1e-4, "{isa:?} {x} {} {}", c[i], here[i]);
                }
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
}

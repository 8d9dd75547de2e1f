//! Matrix products behind a checked face, in f32 and bfloat16: packed panels ([`pack`]), register tiles
//! ([`crate::tile`]), tasks cut by shape, and what becomes of the sums ([`finish`]).

mod block;
mod few;
mod finish;
mod matrix;
mod pack;
pub(crate) mod pairs;
mod symmetric;

use std::cell::RefCell;

use crate::isa::isa;
use crate::parts::{BlockMut, chunks_mut, each};
use crate::team::run;
use crate::tile::{MAX_PANEL, MR, panel};
use block::{Block, INNER, Left, SECOND_CACHE, multiply};
use few::{FEW_ROWS, few_rows};
pub use finish::Output;
use finish::{Sink, TileSums};
pub use matrix::{Init, Matrix};
pub(crate) use pack::Aligned;
pub use pack::{Packable, Packed, PackedLeft};
pub use symmetric::symmetric_product;

/// Multiplications and additions of a task of a product.
const TASK_FLOPS: usize = 1 << 20;

/// Memory for packing, kept for the next product.
struct Scratch<E: Packable> {
    right: Packed<E>,
    left: PackedLeft<E>,
}

impl<E: Packable> Default for Scratch<E> {
    fn default() -> Self {
        Scratch { right: Packed::default(), left: PackedLeft::default() }
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch<f32>> = RefCell::default();
    static PAIRS: RefCell<Scratch<crate::bf16::Bf16>> = RefCell::default();
}

/// A kind of number that products multiply, with its memory for packing.
pub trait Factor: Packable {
    #[doc(hidden)]
    fn with_scratch<R>(f: impl FnOnce(&mut Packed<Self>, &mut PackedLeft<Self>) -> R) -> R;
}

macro_rules! factor {
    ($element:ty, $scratch:ident) => {
        impl Factor for $element {
            fn with_scratch<R>(f: impl FnOnce(&mut Packed<Self>, &mut PackedLeft<Self>) -> R) -> R {
                // Taken, so that a product within the closure would find memory of its own.
                let mut scratch = $scratch.take();
                let result = f(&mut scratch.right, &mut scratch.left);
                $scratch.set(scratch);
                result
            }
        }
    };
}
factor!(f32, SCRATCH);
factor!(crate::bf16::Bf16, PAIRS);

/// `c = a · b`, or `c += a · b` when `accumulate`; `c` is row-major `[a.rows, b.cols]`.
/// Panics when the shapes do not fit.
pub fn matmul(c: &mut [f32], accumulate: bool, a: Matrix<'_>, b: Matrix<'_>) {
    product(c, if accumulate { Init::Add } else { Init::Zero }, a, b);
}

/// `c (+)= a · b` on all threads; `c` is row-major `[a.rows, b.cols]`. The output is cut into tasks by its shape
/// alone. Panics when the shapes do not fit.
pub fn product(c: &mut [f32], init: Init<'_>, a: Matrix<'_>, b: Matrix<'_>) {
    if a.rows > FEW_ROWS || a.rows == 0 || b.cols == 0 {
        return product_into::<f32, _, _>(Output::Sums { c, init }, a, b);
    }
    assert_eq!(a.cols, b.rows, "inner sizes differ");
    assert!(c.len() >= a.rows * b.cols, "output is too short");
    if let Init::Bias(bias) = init {
        assert!(bias.len() >= b.cols, "the bias is too short");
    }
    few_rows(c, init, a, b);
}

/// `a · b` on all threads, in the kind of number E whatever the factors lie in, and what becomes of it. A long inner
/// dimension is packed and multiplied a part at a time where the output gathers the sums. Where numbers are multiplied
/// in groups ([`crate::Element::GROUP`]), `a` may have columns that fill up its last group, of zeros.
/// Panics when the shapes do not fit.
pub fn product_into<E: Factor, A: Packable, B: Packable>(output: Output<'_, E>, a: Matrix<'_, A>, b: Matrix<'_, B>) {
    product_of_extent(output, a, b, Extent::Whole);
}

/// [`product_into`], and in one more row of the output, below the product, the sums of b's columns: the gradients of a
/// weight and of the bias that lies behind it.
pub fn product_and_sums<E: Factor, A: Packable, B: Packable>(
    output: Output<'_, E>,
    a: Matrix<'_, A>,
    b: Matrix<'_, B>,
) {
    product_of_extent(output, a, b, Extent::AndSums);
}

/// How much of a product is computed.
#[derive(Clone, Copy, PartialEq)]
enum Extent {
    Whole,
    /// One more row, as of a row of ones below the left factor.
    AndSums,
    /// What lies on and below the diagonal, and some of what lies right above it.
    Lower,
}

/// As much of the product as is wanted.
fn product_of_extent<E: Factor, A: Packable, B: Packable>(
    output: Output<'_, E>,
    a: Matrix<'_, A>,
    b: Matrix<'_, B>,
    extent: Extent,
) {
    /// Groups of the inner dimension that are packed at once.
    const PART: usize = 4 * INNER;
    let ones = extent == Extent::AndSums;
    let (m, n, k) = (a.rows + usize::from(ones), b.cols, a.cols);
    assert!(k == b.rows || k == b.rows.next_multiple_of(E::GROUP), "inner sizes differ");
    let sink = output.sink(m, n);
    if m == 0 || n == 0 {
        return;
    }
    E::with_scratch(|right, left| {
        let parts = if sink.is_sums() { k.div_ceil(PART * E::GROUP).max(1) } else { 1 };
        let part = k.div_ceil(parts).next_multiple_of(E::GROUP);
        for i in 0..parts {
            let (from, to) = ((i * part).min(k), k.min((i + 1) * part));
            let a = a.columns(from, to - from);
            right.pack(b.rows(from, to.min(b.rows) - from));
            let sink = if i > 0 { sink.adding() } else { sink };
            spread(sink, lay(a, ones, left, n), right, m, extent);
        }
    });
}

/// The same with a right factor that is packed already. Panics when the shapes do not fit.
pub fn product_packed<E: Factor, A: Packable>(output: Output<'_, E>, a: Matrix<'_, A>, b: &Packed<E>) {
    assert!(a.cols == b.k || a.cols == b.k.next_multiple_of(E::GROUP), "inner sizes differ");
    let sink = output.sink(a.rows, b.n);
    if a.rows > 0 && b.n > 0 {
        E::with_scratch(|_, left| spread(sink, lay(a, false, left, b.n), b, a.rows, Extent::Whole));
    }
}

/// The same with both factors packed. Panics when the shapes do not fit.
pub fn product_of_packed<E: Packable>(output: Output<'_, E>, a: &PackedLeft<E>, b: &Packed<E>) {
    assert_eq!(a.k, b.k, "inner sizes differ");
    let sink = output.sink(a.rows, b.n);
    if a.rows > 0 && b.n > 0 {
        spread(sink, Left::packed(a), b, a.rows, Extent::Whole);
    }
}

/// What becomes of sums `[rows, n]` that are there already, on all threads. Panics when the shapes do not fit.
pub fn finish<E: Factor>(output: Output<'_, E>, sums: &mut [f32], rows: usize, n: usize) {
    const ROWS: usize = 24;
    let sink = output.sink_of_sums(rows, n);
    each(chunks_mut(&mut sums[..rows * n], ROWS * n), |task, sums| {
        let (height, mut spare) = (sums.len() / n, TileSums::default());
        for row in (0..height).step_by(MR) {
            for col in (0..n).step_by(MAX_PANEL) {
                let c = sums[row * n + col..].as_mut_ptr();
                let (rows, cols) = (MR.min(height - row), MAX_PANEL.min(n - col));
                // SAFETY: the tile lies in the sums and in the output, which `sink` checked; no other task has its rows.
                unsafe { sink.finish((c, n), (task * ROWS + row, rows), (col, cols), &mut spare) }
            }
        }
    });
}

/// The left factor as tiles read it, with a row of ones below it if so wanted: where it lies if that can be, else
/// packed.
fn lay<E: Packable, A: Packable>(a: Matrix<'_, A>, ones: bool, memory: &mut PackedLeft<E>, n: usize) -> Left<E> {
    match a.as_element::<E>().and_then(Left::of) {
        Some(left) if !ones && (a.col_stride == 1 || n <= panel(isa())) => left,
        _ => {
            memory.pack_above(a, ones);
            Left::packed(memory)
        }
    }
}

/// Tiles of a task's block, one above the other, where the right factor is large.
const TALL: usize = 20;
/// Tiles of a block that are few for a panel that comes from the third cache.
const LOW: usize = 4;

/// The product as tasks, each a block of the output.
fn spread<E: Packable>(sink: Sink<'_, E>, left: Left<E>, right: &Packed<E>, m: usize, extent: Extent) {
    let (n, k, width) = (right.n, right.k, right.width);
    let tasks = (m * n * k / TASK_FLOPS / E::GROUP).clamp(1, 128);
    let step = left.step(right, m);
    let tiles = m.div_ceil(step);
    // Where the right factor does not stay in the second cache, blocks of up to TALL tiles, so that a panel that has come
    // is multiplied by many rows.
    let (high, size) = (tiles.div_ceil(tiles.min(tasks)).max(1), n * k.div_ceil(E::GROUP));
    let large = size > 8 * SECOND_CACHE || size > 2 * SECOND_CACHE && high < LOW;
    let high = if large { high.max(TALL.min(tiles * n.div_ceil(width) / tasks)) } else { high };
    let block_rows = tiles.div_ceil(tiles.div_ceil(high)) * step;
    let across = tasks.div_ceil(m.div_ceil(block_rows));
    let block_cols = n.div_ceil(width).div_ceil(across) * width;
    let across = n.div_ceil(block_cols);
    let down = m.div_ceil(block_rows);
    run(down * across, |task| {
        // A large right factor is split between the threads, each taking on what it has packed; a small one is shared.
        let (down, across) = if large { (task % down, task / down) } else { (task / across, task % across) };
        let (row, first) = (down * block_rows, across * block_cols);
        let (rows, mut cols) = (block_rows.min(m - row), block_cols.min(n - first));
        if extent == Extent::Lower {
            cols = cols.min((row + rows).next_multiple_of(width).saturating_sub(first));
            if cols == 0 {
                return;
            }
        }
        let block = Block { rows, first, cols, groups: k.div_ceil(E::GROUP) };
        // SAFETY: the block lies in the output, whose shape fits the factors as asserted by the callers; its first row
        // begins a tile and its first column a panel; no other task has it.
        unsafe { multiply(right, left.starting_at(row), block, sink.starting_at(row, first)) }
    });
}

/// `c (+)= a · b` on this thread alone, for the small products inside a task.
/// Panics when the shapes do not fit.
pub fn product_here<E: Factor, A: Packable, B: Packable>(
    c: &mut BlockMut<'_>,
    init: Init<'_>,
    a: Matrix<'_, A>,
    b: Matrix<'_, B>,
) {
    assert!(c.rows() == a.rows && c.width() == b.cols && a.cols == b.rows, "shapes differ");
    E::with_scratch(|right, left| {
        right.pack(b);
        if a.rows > 0 && b.cols > 0 {
            here(c, init, lay(a, false, left, b.cols), a.cols, right, 0);
        }
    });
}

/// A block on this thread. The caller has checked the shapes.
fn here<E: Packable>(c: &mut BlockMut<'_>, init: Init<'_>, left: Left<E>, k: usize, right: &Packed<E>, first: usize) {
    if let Init::Bias(bias) = init {
        assert!(bias.len() >= c.width(), "the bias is too short");
    }
    let block = Block { rows: c.rows(), first, cols: c.width(), groups: k.div_ceil(E::GROUP) };
    // SAFETY: the callers have checked that the factors have these rows, columns and inner size; c is borrowed
    // exclusively.
    unsafe { multiply(right, left, block, Sink::block(c, init)) }
}

impl<E: Factor> Packed<E> {
    /// `c (+)= a · b[..a.cols, first .. first + c.width]` on this thread: `a` may have fewer columns than b has rows;
    /// `first` is a multiple of [`Packed::panel`]. Columns of c past those of b, up to a multiple of 32 (the widest
    /// panel), are zeros on every instruction set. A bias begins at column `first`. Panics when the shapes do not fit.
    pub fn multiply<A: Packable>(&self, c: &mut BlockMut<'_>, init: Init<'_>, a: Matrix<'_, A>, first: usize) {
        assert!(a.cols <= self.k && a.rows == c.rows() && first.is_multiple_of(self.width.max(1)), "shapes differ");
        assert!(first + c.width() <= self.n.next_multiple_of(MAX_PANEL), "no such columns");
        if a.rows == 0 || c.width() == 0 {
            return;
        }
        match a.as_element::<E>().and_then(Left::of) {
            Some(left) => here(c, init, left, a.cols, self, first),
            None => E::with_scratch(|_, memory| {
                memory.pack(a);
                here(c, init, Left::packed(memory), a.cols, self, first);
            }),
        }
    }

    /// The same with a packed left factor.
    pub fn multiply_packed(&self, c: &mut BlockMut<'_>, init: Init<'_>, a: &PackedLeft<E>, first: usize) {
        assert!(a.k <= self.k && a.rows == c.rows() && first.is_multiple_of(self.width.max(1)), "shapes differ");
        assert!(first + c.width() <= self.n.next_multiple_of(MAX_PANEL), "no such columns");
        if a.rows > 0 && c.width() > 0 {
            here(c, init, Left::packed(a), a.k, self, first);
        }
    }
}

#[cfg(test)]
mod tests;

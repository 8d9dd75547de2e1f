//! What becomes of a product's sums while a tile of them is still in the first cache: biases, rounding, non-linearity,
//! the residual stream.

#[cfg(target_arch = "x86_64")]
mod x86;

use std::cell::RefCell;
use std::marker::PhantomData;

use super::matrix::Init;
use super::pack::Packable;
use crate::bf16::Element;
use crate::isa::dispatched;
use crate::parts::BlockMut;
use crate::rows::{gelu, gelu_backward};
use crate::tile::{MAX_PANEL, MR, Start};

/// Columns of the narrower panels.
const HALF_PANEL: usize = MAX_PANEL / 2;

/// Where a product's sums `[rows, n]` go, and through what. All are row-major without gaps.
#[derive(Debug)]
pub enum Output<'a, E: Element> {
    /// As they are.
    Sums {
        /// `[rows, n]`.
        c: &'a mut [f32],
        /// What they are added to.
        init: Init<'a>,
    },
    /// `c = sums + bias`, rounded to the kind of number that products multiply.
    Rounded {
        /// `[rows, n]`.
        c: &'a mut [E],
        /// `[n]`.
        bias: Option<&'a [f32]>,
    },
    /// `before = sums + bias`, `after = gelu(before)` ([`crate::gelu`]).
    Gelu {
        /// `[rows, n]`, for the backward.
        before: &'a mut [E],
        /// `[rows, n]`.
        after: &'a mut [E],
        /// `[n]`.
        bias: Option<&'a [f32]>,
    },
    /// The gradient of a GELU's input: `d = sums · gelu'(before)`.
    GeluBackward {
        /// `[rows, n]`.
        d: &'a mut [E],
        /// What [`Output::Gelu`] kept.
        before: &'a [E],
    },
    /// The residual stream: `c = x + dropout(sums + bias)`.
    Residual {
        /// `[rows, n]`.
        c: &'a mut [f32],
        /// `[rows, n]`.
        x: &'a [f32],
        /// `[n]`.
        bias: Option<&'a [f32]>,
        /// Key and rate, as [`crate::dropout`] has them; number i belongs to element i.
        dropout: Option<(u64, f32)>,
    },
}

impl<'a, E: Packable> Output<'a, E> {
    /// [`Output::Sums`], where the kind of number is to be named.
    pub fn sums(c: &'a mut [f32], init: Init<'a>) -> Self {
        Output::Sums { c, init }
    }

    /// Where a product's sums go: f32, of which there is nothing to round, at once. Panics when a slice is too short.
    pub(super) fn sink(self, rows: usize, n: usize) -> Sink<'a, E> {
        let sink = self.sink_of_sums(rows, n);
        match sink.goal {
            Goal::Rounded { c, bias } if E::GROUP == 1 => {
                let init = if bias.is_null() { Start::Zero } else { Start::Bias(bias) };
                Sink { goal: Goal::Sums { c: c.cast(), init }, ..sink }
            }
            _ => sink,
        }
    }

    /// The same where the sums are there already, in memory of their own.
    pub(super) fn sink_of_sums(self, rows: usize, n: usize) -> Sink<'a, E> {
        let fits = |len: usize| assert!(len >= rows * n, "output is too short");
        let row = |bias: Option<&[f32]>| {
            assert!(bias.is_none_or(|bias| bias.len() >= n), "the bias is too short");
            bias.map_or(std::ptr::null(), <[f32]>::as_ptr)
        };
        let goal = match self {
            Output::Sums { c, init } => {
                fits(c.len());
                let init = match init {
                    Init::Zero => Start::Zero,
                    Init::Add => Start::Add,
                    Init::Bias(bias) => Start::Bias(row(Some(bias))),
                };
                Goal::Sums { c: c.as_mut_ptr(), init }
            }
            Output::Rounded { c, bias } => {
                fits(c.len());
                Goal::Rounded { c: c.as_mut_ptr(), bias: row(bias) }
            }
            Output::Gelu { before, after, bias } => {
                fits(before.len().min(after.len()));
                Goal::Gelu { before: before.as_mut_ptr(), after: after.as_mut_ptr(), bias: row(bias) }
            }
            Output::GeluBackward { d, before } => {
                fits(d.len().min(before.len()));
                Goal::GeluBackward { d: d.as_mut_ptr(), before: before.as_ptr() }
            }
            Output::Residual { c, x, bias, dropout } => {
                fits(c.len().min(x.len()));
                Goal::Residual { c: c.as_mut_ptr(), x: x.as_ptr(), bias: row(bias), dropout }
            }
        };
        Sink { goal, stride: n, row: 0, col: 0, borrow: PhantomData }
    }
}

#[derive(Clone, Copy)]
enum Goal<E> {
    Sums { c: *mut f32, init: Start },
    Rounded { c: *mut E, bias: *const f32 },
    Gelu { before: *mut E, after: *mut E, bias: *const f32 },
    GeluBackward { d: *mut E, before: *const E },
    Residual { c: *mut f32, x: *const f32, bias: *const f32, dropout: Option<(u64, f32)> },
}

/// An [`Output`] from some element on, for one task to write its block of.
#[derive(Clone, Copy)]
pub(super) struct Sink<'a, E> {
    goal: Goal<E>,
    stride: usize,
    row: usize,
    col: usize,
    borrow: PhantomData<&'a mut [E]>,
}

// SAFETY: it stands for an exclusive borrow of which every task writes its own block.
unsafe impl<E: Sync> Sync for Sink<'_, E> {}

thread_local! {
    /// The sums of a block whose inner dimension takes several parts.
    static BLOCK: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Where a block's sums are gathered.
pub(super) enum Sums {
    /// In the output itself.
    Output { c: *mut f32, stride: usize, init: Start },
    /// In a block of their own.
    Block { block: Vec<f32>, cols: usize },
    /// A tile at a time, in the memory of one, rows as far apart as a panel is wide.
    Tile(*mut f32, usize),
}

impl Sums {
    /// The place of a tile, the distance of its rows, and what its sums are added to.
    #[inline(always)]
    pub(super) fn at(&mut self, row: usize, col: usize) -> (*mut f32, usize, Start) {
        match self {
            Sums::Output { c, stride, init } => {
                let init = match *init {
                    Start::Bias(bias) => Start::Bias(bias.wrapping_add(col)),
                    other => other,
                };
                (c.wrapping_add(row * *stride + col), *stride, init)
            }
            Sums::Block { block, cols } => (block.as_mut_ptr().wrapping_add(row * *cols + col), *cols, Start::Zero),
            Sums::Tile(tile, width) => (*tile, *width, Start::Zero),
        }
    }

    pub(super) fn give_back(self) {
        if let Sums::Block { block, .. } = self {
            BLOCK.set(block);
        }
    }
}

impl<E: Packable> Sink<'_, E> {
    /// A block of sums as a sink of its own.
    pub(super) fn block(c: &mut BlockMut<'_>, init: Init<'_>) -> Self {
        let init = match init {
            Init::Zero => Start::Zero,
            Init::Add => Start::Add,
            Init::Bias(bias) => Start::Bias(bias.as_ptr()),
        };
        Sink { goal: Goal::Sums { c: c.data, init }, stride: c.stride, row: 0, col: 0, borrow: PhantomData }
    }

    /// The same, with the sums added to what is there instead.
    pub(super) fn adding(self) -> Self {
        match self.goal {
            Goal::Sums { c, .. } => Sink { goal: Goal::Sums { c, init: Start::Add }, ..self },
            _ => self,
        }
    }

    /// Whether the output gathers the sums itself.
    pub(super) fn is_sums(&self) -> bool {
        matches!(self.goal, Goal::Sums { .. })
    }

    pub(super) fn starting_at(self, row: usize, col: usize) -> Self {
        Sink { row: self.row + row, col: self.col + col, ..self }
    }

    /// Where a block's sums are gathered, in `parts` or at once; `tile` is memory for one, with panels of `width` columns.
    pub(super) fn sums(&self, (rows, cols): (usize, usize), parts: bool, (tile, width): (*mut f32, usize)) -> Sums {
        match self.goal {
            Goal::Sums { c, init } => {
                let init = match init {
                    Start::Bias(bias) => Start::Bias(bias.wrapping_add(self.col)),
                    other => other,
                };
                Sums::Output { c: c.wrapping_add(self.row * self.stride + self.col), stride: self.stride, init }
            }
            _ if parts => {
                let mut block = BLOCK.take();
                block.resize(block.len().max(rows * cols), 0.0);
                Sums::Block { block, cols }
            }
            _ => Sums::Tile(tile, width),
        }
    }

    /// Takes the sums of a tile, `(first, number)` of the block's rows and columns, to where they go; `spare` is memory for
    /// one more tile.
    ///
    /// # Safety
    /// The tile lies in the task's block; its sums lie at `c`, rows `c_row` apart, which nobody else reads or writes.
    #[inline(always)]
    pub(super) unsafe fn finish(
        &self,
        (c, c_row): (*mut f32, usize),
        rows: (usize, usize),
        cols: (usize, usize),
        spare: &mut TileSums,
    ) {
        if self.is_sums() {
            return;
        }
        let (first, rows, cols) = (self.col + cols.0, (self.row + rows.0, rows.1), cols.1);
        #[cfg(target_arch = "x86_64")]
        if cols == MAX_PANEL {
            let at = rows.0 * self.stride + first;
            let tile = x86::Place { sums: c, row: c_row, rows: rows.1, at, first, stride: self.stride };
            // SAFETY: promised by the caller; `Output::sink` checked the output and the bias.
            if unsafe { x86::take(self.goal, tile) } {
                return;
            }
        }
        let width = if cols > HALF_PANEL { MAX_PANEL } else { HALF_PANEL };
        // SAFETY: promised by the caller; rows of a tile that fills its memory lie a panel apart.
        unsafe {
            if c_row == width && cols == width {
                self.take((std::slice::from_raw_parts_mut(c, rows.1 * width), spare), width, first, rows, cols);
            } else {
                let mut tile = TileSums::default();
                for (i, row) in tile.0.chunks_exact_mut(width).enumerate().take(rows.1) {
                    row[..cols].copy_from_slice(std::slice::from_raw_parts(c.add(i * c_row), cols));
                }
                self.take((&mut tile.0[..rows.1 * width], spare), width, first, rows, cols);
            }
        }
    }

    /// The same for sums whose rows lie side by side, each `width` long.
    ///
    /// # Safety
    /// Rows and columns are the task's.
    unsafe fn take(
        &self,
        (tile, spare): (&mut [f32], &mut TileSums),
        width: usize,
        first: usize,
        (row, rows): (usize, usize),
        cols: usize,
    ) {
        let (at, stride) = (row * self.stride + first, self.stride);
        let other = &mut spare.0[..tile.len()];
        let add_bias = |tile: &mut [f32], bias: *const f32| {
            if !bias.is_null() {
                // SAFETY: a bias has a value for every column (`Output::sink`).
                let bias = unsafe { std::slice::from_raw_parts(bias.add(first), cols) };
                add_to_rows(tile, width, bias);
            }
        };
        // SAFETY of these: the tile lies in the output, whose size was checked in `Output::sink`; it is this task's
        // alone, or only read through.
        // SAFETY: see above.
        let block = |c: *mut E| unsafe { BlockMut::raw(c.wrapping_add(at), rows, cols, stride) };
        // SAFETY: see above.
        let floats = |c: *mut f32| unsafe { BlockMut::raw(c.wrapping_add(at), rows, cols, stride) };
        match self.goal {
            Goal::Sums { .. } => {}
            Goal::Rounded { c, bias } => {
                add_bias(tile, bias);
                store(tile, width, &mut block(c));
            }
            Goal::Gelu { before, after, bias } => {
                add_bias(tile, bias);
                store(tile, width, &mut block(before));
                // Of the rounded values, which are what the backward knows.
                round(E::default(), tile);
                gelu(tile, other);
                store(other, width, &mut block(after));
            }
            Goal::GeluBackward { d, before } => {
                load(&mut block(before.cast_mut()), width, other);
                gelu_backward(other, tile);
                store(tile, width, &mut block(d));
            }
            Goal::Residual { c, x, bias, dropout } => {
                add_bias(tile, bias);
                if let Some((key, rate)) = dropout {
                    for (i, row) in tile.chunks_exact_mut(width).enumerate() {
                        crate::rows::dropout(row, key, (at + i * stride) as u64, rate);
                    }
                }
                load(&mut floats(x.cast_mut()), width, other);
                crate::rows::add(tile, other);
                store(tile, width, &mut floats(c));
            }
        }
    }
}

/// The sums of a tile on lines of the cache, so that a vector of them never lies across two.
#[repr(align(64))]
pub(super) struct TileSums(pub(super) [f32; MR * MAX_PANEL]);

impl Default for TileSums {
    fn default() -> Self {
        TileSums([0.0; MR * MAX_PANEL])
    }
}

dispatched! {
    /// Adds a row to every row of a tile.
    fn add_to_rows(tile: &mut [f32], width: usize, row: &[f32]) = add_to_rows_body;
}

#[inline(always)]
fn add_to_rows_body<const FMA: bool>(tile: &mut [f32], width: usize, row: &[f32]) {
    for tile in tile.chunks_exact_mut(width) {
        side_by_side(tile, row, |t, x| *t += *x);
    }
}

/// Rows of a whole panel in loops of a known length.
#[inline(always)]
fn side_by_side<A, B>(a: &mut [A], b: &[B], f: impl Fn(&mut A, &B)) {
    match a.len().min(b.len()) {
        MAX_PANEL => a[..MAX_PANEL].iter_mut().zip(&b[..MAX_PANEL]).for_each(|(a, b)| f(a, b)),
        HALF_PANEL => a[..HALF_PANEL].iter_mut().zip(&b[..HALF_PANEL]).for_each(|(a, b)| f(a, b)),
        _ => a.iter_mut().zip(b).for_each(|(a, b)| f(a, b)),
    }
}

dispatched! {
    /// A tile to where it belongs.
    fn store<E: Element>(tile: &[f32], width: usize, to: &mut BlockMut<'_, E>) = store_body;
}

#[inline(always)]
fn store_body<E: Element, const FMA: bool>(tile: &[f32], width: usize, to: &mut BlockMut<'_, E>) {
    for (i, tile) in tile.chunks_exact(width).enumerate() {
        let [to] = to.row(i);
        side_by_side(to, tile, |t, x| *t = E::of(*x));
    }
}

dispatched! {
    /// To the nearest values of the kind that `kind` is of.
    fn round<E: Element>(kind: E, tile: &mut [f32]) = round_body;
}

#[inline(always)]
fn round_body<E: Element, const FMA: bool>(_kind: E, tile: &mut [f32]) {
    tile.iter_mut().for_each(|x| *x = E::of(*x).get());
}

dispatched! {
    /// And back.
    fn load<E: Element>(from: &mut BlockMut<'_, E>, width: usize, tile: &mut [f32]) = load_body;
}

#[inline(always)]
fn load_body<E: Element, const FMA: bool>(from: &mut BlockMut<'_, E>, width: usize, tile: &mut [f32]) {
    for (i, tile) in tile.chunks_exact_mut(width).enumerate() {
        let [from] = from.row(i);
        side_by_side(tile, from, |t, x| *t = x.get());
    }
}

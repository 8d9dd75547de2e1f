//! What becomes of a product's sums while a tile of them is still in the first cache: biases, rounding, non-linearity,
//! the residual stream.

use std::cell::RefCell;
use std::marker::PhantomData;

use super::matrix::Init;
use super::pack::Packable;
use crate::bf16::Element;
use crate::isa::dispatched;
use crate::math::{fma, random};
use crate::parts::BlockMut;
use crate::rows::{gelu_of, gelu_slope};
use crate::tile::{MAX_PANEL, Start};

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
    /// Panics when a slice is too short.
    pub(super) fn sink(self, rows: usize, n: usize) -> Sink<'a, E> {
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
    /// A tile at a time, in the memory of one.
    Tile(*mut f32),
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
            Sums::Tile(tile) => (*tile, MAX_PANEL, Start::Zero),
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

    pub(super) fn sums(&self, rows: usize, cols: usize, parts: bool, tile: *mut f32) -> Sums {
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
            _ => Sums::Tile(tile),
        }
    }

    /// Takes the sums of a tile, `(first, number)` of the block's rows and columns, to where they go.
    ///
    /// # Safety
    /// The tile lies in the task's block; its sums lie at `c`, rows `c_row` apart.
    #[inline(always)]
    pub(super) unsafe fn finish(&self, c: *mut f32, c_row: usize, rows: (usize, usize), cols: (usize, usize)) {
        let at = (self.row + rows.0) * self.stride + self.col + cols.0;
        let (rows, first, cols, stride) = (rows.1, self.col + cols.0, cols.1, self.stride);
        let zeros = [0.0; MAX_PANEL];
        // SAFETY of these and the slices below: the tile lies in the output, whose size was checked in `Output::sink`;
        // it is this task's alone; a bias has a value for every column.
        let bias = |bias: *const f32| match bias.is_null() {
            true => &zeros[..cols],
            // SAFETY: see above.
            false => unsafe { std::slice::from_raw_parts(bias.add(first), cols) },
        };
        // SAFETY: see above.
        let block = |c: *mut E| unsafe { BlockMut::raw(c.wrapping_add(at), rows, cols, stride) };
        // SAFETY: promised by the caller.
        let mut sums = unsafe { BlockMut::raw(c, rows, cols, c_row) };
        match self.goal {
            Goal::Sums { .. } => {}
            Goal::Rounded { c, bias: b } => rounded_tile(&mut sums, &mut block(c), bias(b)),
            Goal::Gelu { before, after, bias: b } => {
                gelu_tile(&mut sums, &mut block(before), &mut block(after), bias(b));
            }
            Goal::GeluBackward { d, before } => {
                // It is only read through.
                gelu_backward_tile(&mut sums, &mut block(before.cast_mut()), &mut block(d));
            }
            Goal::Residual { c, x, bias: b, dropout } => {
                // SAFETY: see above; x is only read through.
                let mut x = unsafe { BlockMut::raw(x.cast_mut().wrapping_add(at), rows, cols, stride) };
                // SAFETY: see above.
                let mut c = unsafe { BlockMut::raw(c.wrapping_add(at), rows, cols, stride) };
                match dropout {
                    None => residual_tile(&mut sums, &mut x, &mut c, bias(b)),
                    Some(dropout) => dropped_tile(&mut sums, &mut x, &mut c, bias(b), at, stride, dropout),
                }
            }
        }
    }
}

/// `to[j] = f(j)`; whole panels by way of an array, so that the compiler sees that nothing overlaps.
#[inline(always)]
fn fill<E: Element>(to: &mut [E], f: impl Fn(usize) -> f32) {
    if let Ok(to) = <&mut [E; MAX_PANEL]>::try_from(&mut *to) {
        let values: [f32; MAX_PANEL] = std::array::from_fn(&f);
        *to = values.map(E::of);
    } else {
        to.iter_mut().enumerate().for_each(|(j, t)| *t = E::of(f(j)));
    }
}

dispatched! {
    fn rounded_tile<E: Element>(sums: &mut BlockMut<'_>, c: &mut BlockMut<'_, E>, bias: &[f32]) = rounded_tile_body;
}

#[inline(always)]
fn rounded_tile_body<E: Element, const FMA: bool>(sums: &mut BlockMut<'_>, c: &mut BlockMut<'_, E>, bias: &[f32]) {
    for i in 0..sums.rows() {
        let ([sums], [c]) = (sums.row(i), c.row(i));
        fill(c, |j| sums[j] + bias[j]);
    }
}

dispatched! {
    fn gelu_tile<E: Element>(
        sums: &mut BlockMut<'_>,
        before: &mut BlockMut<'_, E>,
        after: &mut BlockMut<'_, E>,
        bias: &[f32],
    ) = gelu_tile_body;
}

#[inline(always)]
fn gelu_tile_body<E: Element, const FMA: bool>(
    sums: &mut BlockMut<'_>,
    before: &mut BlockMut<'_, E>,
    after: &mut BlockMut<'_, E>,
    bias: &[f32],
) {
    for i in 0..sums.rows() {
        let ([sums], [before], [after]) = (sums.row(i), before.row(i), after.row(i));
        fill(before, |j| sums[j] + bias[j]);
        // Of the rounded value, which is what the backward knows.
        fill(after, |j| gelu_of::<FMA>(before[j].get()));
    }
}

dispatched! {
    fn gelu_backward_tile<E: Element>(
        sums: &mut BlockMut<'_>,
        before: &mut BlockMut<'_, E>,
        d: &mut BlockMut<'_, E>,
    ) = gelu_backward_tile_body;
}

#[inline(always)]
fn gelu_backward_tile_body<E: Element, const FMA: bool>(
    sums: &mut BlockMut<'_>,
    before: &mut BlockMut<'_, E>,
    d: &mut BlockMut<'_, E>,
) {
    for i in 0..sums.rows() {
        let ([sums], [before], [d]) = (sums.row(i), before.row(i), d.row(i));
        fill(d, |j| sums[j] * gelu_slope::<FMA>(before[j].get()));
    }
}

dispatched! {
    fn residual_tile(sums: &mut BlockMut<'_>, x: &mut BlockMut<'_>, c: &mut BlockMut<'_>, bias: &[f32])
        = residual_tile_body;
}

#[inline(always)]
fn residual_tile_body<const FMA: bool>(
    sums: &mut BlockMut<'_>,
    x: &mut BlockMut<'_>,
    c: &mut BlockMut<'_>,
    bias: &[f32],
) {
    for i in 0..sums.rows() {
        let ([sums], [x], [c]) = (sums.row(i), x.row(i), c.row(i));
        fill(c, |j| x[j] + (sums[j] + bias[j]));
    }
}

dispatched! {
    /// The same with dropout; element 0 of the tile is number `first` of the output.
    fn dropped_tile(
        sums: &mut BlockMut<'_>,
        x: &mut BlockMut<'_>,
        c: &mut BlockMut<'_>,
        bias: &[f32],
        first: usize,
        stride: usize,
        dropout: (u64, f32),
    ) = dropped_tile_body;
}

#[inline(always)]
fn dropped_tile_body<const FMA: bool>(
    sums: &mut BlockMut<'_>,
    x: &mut BlockMut<'_>,
    c: &mut BlockMut<'_>,
    bias: &[f32],
    first: usize,
    stride: usize,
    (key, rate): (u64, f32),
) {
    for i in 0..sums.rows() {
        let ([sums], [x], [c]) = (sums.row(i), x.row(i), c.row(i));
        let at = (first + i * stride) as u64;
        fill(c, |j| {
            let kept = crate::rows::kept(random(key, at + j as u64), rate);
            fma::<false>(kept, sums[j] + bias[j], x[j])
        });
    }
}

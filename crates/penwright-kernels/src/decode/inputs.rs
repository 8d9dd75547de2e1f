//! The rows that are multiplied, in the form that a matrix's format wants.

use super::{Format, Shape};
use crate::bf16::rounded;
use crate::isa::dispatched;
use crate::parts::{chunks, chunks_mut, each};

/// Rows of x, prepared once for a product; kept by the caller, so that a step allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    rows: usize,
    inputs: usize,
    /// Rows of a tile.
    tile: usize,
    /// Inputs of a block, and whether they are whole numbers.
    block: usize,
    integer: bool,
    /// Tile by tile `[blocks, rows of the tile, words of a block]`, in words of four bytes: an f32, two bf16, or four i8;
    /// filled up with zeros to whole blocks. Longer than they need be where the rows before were more.
    words: Vec<u32>,
    /// Of whole numbers, tile by tile `[blocks, rows of the tile]`: the scale, and −128 times the sum, which undoes that
    /// weights are stored plus 128.
    scales: Vec<f32>,
    starts: Vec<i32>,
}

/// A tile of [`Inputs`].
#[derive(Clone, Copy)]
pub(super) struct TileInputs<'a> {
    pub(super) rows: usize,
    /// Blocks of a row.
    pub(super) blocks: usize,
    /// `[blocks, rows, words of a block]`.
    pub(super) words: &'a [u32],
    /// `[blocks, rows]`, for whole numbers.
    pub(super) scales: &'a [f32],
    pub(super) starts: &'a [i32],
}

/// Inputs that are prepared at once, at most: a multiple of every format's block.
const PIECE: usize = 64;

impl Inputs {
    /// Takes the rows of x, `[rows, inputs]`, for matrices of a format. Panics when x is shorter.
    pub fn set(&mut self, format: Format, x: &[f32], rows: usize, inputs: usize) {
        let (blocks, tile) = (inputs.div_ceil(format.block()), format.tile(rows));
        let words = blocks * words_of(format);
        (self.rows, self.inputs, self.tile) = (rows, inputs, tile);
        (self.block, self.integer) = (format.block(), format.is_integer());
        self.words.resize(self.words.len().max(rows * words), 0);
        let x = chunks(&x[..rows * inputs], tile * inputs);
        let to = &mut self.words[..rows * words];
        if !self.integer {
            return each((chunks_mut(to, tile * words), x), |_, (words, x)| fill(format, inputs, x, words));
        }
        self.scales.resize(self.scales.len().max(rows * blocks), 0.0);
        self.starts.resize(self.starts.len().max(rows * blocks), 0);
        let parts = (
            chunks_mut(to, tile * words),
            chunks_mut(&mut self.scales[..rows * blocks], tile * blocks),
            chunks_mut(&mut self.starts[..rows * blocks], tile * blocks),
            x,
        );
        each(parts, |_, (words, scales, starts, x)| fill_integer(format, inputs, x, words, scales, starts));
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// A tile. Panics when it is not there or the rows were prepared for another matrix.
    pub(super) fn tile(&self, shape: Shape, index: usize) -> TileInputs<'_> {
        let Shape { format, inputs, .. } = shape;
        let fits = (self.inputs, self.block, self.integer) == (inputs, format.block(), format.is_integer());
        assert!(fits && self.tile == format.tile(self.rows), "the inputs are another matrix's");
        let (blocks, first) = (inputs.div_ceil(self.block), index * self.tile);
        let (words, end) = (blocks * words_of(format), self.rows.min(first + self.tile));
        let numbers = if self.integer { first * blocks..end * blocks } else { 0..0 };
        TileInputs {
            rows: end - first,
            blocks,
            words: &self.words[first * words..end * words],
            scales: &self.scales[numbers.clone()],
            starts: &self.starts[numbers],
        }
    }
}

/// Words of a block.
fn words_of(format: Format) -> usize {
    if format.is_integer() { format.block() / 4 } else { 1 }
}

/// Prepares a tile of whole numbers.
fn fill_integer(format: Format, inputs: usize, x: &[f32], words: &mut [u32], scales: &mut [f32], starts: &mut [i32]) {
    let (rows, block) = (x.len() / inputs, format.block());
    // The last inputs of a row, filled up with zeros: as many in each row.
    let mut last = [0.0; PIECE];
    for (row, x) in x.chunks_exact(inputs).enumerate() {
        let to = words.chunks_exact_mut(block / 4).skip(row).step_by(rows);
        let numbers = scales.iter_mut().zip(&mut *starts).skip(row).step_by(rows);
        for ((to, (scale, start)), x) in to.zip(numbers).zip(x.chunks(block)) {
            let x = if x.len() == block {
                x
            } else {
                last[..x.len()].copy_from_slice(x);
                &last[..block]
            };
            round_block(bytemuck::cast_slice_mut(to), scale, start, x);
        }
    }
}

/// Prepares a tile of numbers in floating point.
fn fill(format: Format, inputs: usize, x: &[f32], words: &mut [u32]) {
    let rows = x.len() / inputs;
    if rows == 1 && format == Format::F32 {
        return words.copy_from_slice(bytemuck::cast_slice(x));
    }
    let size = PIECE / format.block();
    let mut piece = [0u32; PIECE];
    // As above.
    let mut last = [0.0; PIECE];
    for (row, x) in x.chunks_exact(inputs).enumerate() {
        for (i, x) in x.chunks(PIECE).enumerate() {
            let x = x.first_chunk::<PIECE>().unwrap_or_else(|| {
                last[..x.len()].copy_from_slice(x);
                &last
            });
            match format {
                Format::Bf16 => round_bf16(&mut piece, x),
                _ => piece = x.map(f32::to_bits),
            }
            scatter(&piece[..size], words, i * size, row, rows);
        }
    }
}

/// Puts the values from `first` on of a row into `[…, rows]`, as far as there is room.
fn scatter(values: &[u32], to: &mut [u32], first: usize, row: usize, rows: usize) {
    if rows == 1 {
        let end = to.len().min(first + values.len());
        let to = &mut to[first.min(end)..end];
        return to.copy_from_slice(&values[..to.len()]);
    }
    for (to, value) in to.iter_mut().skip(first * rows + row).step_by(rows).zip(values) {
        *to = *value;
    }
}

/// The bits of the nearest bf16, ties to even.
#[inline(always)]
pub(super) fn to_bf16(x: f32) -> u32 {
    rounded(x) >> 16
}

dispatched! {
    fn round_bf16(to: &mut [u32; PIECE], x: &[f32; PIECE]) = round_bf16_body;
}

#[inline(always)]
fn round_bf16_body<const FMA: bool>(to: &mut [u32; PIECE], x: &[f32; PIECE]) {
    for (to, pair) in to.iter_mut().zip(x.as_chunks::<2>().0) {
        *to = to_bf16(pair[0]) | to_bf16(pair[1]) << 16;
    }
}

dispatched! {
    /// Whole numbers up to ±127 times a scale.
    fn round_block(to: &mut [i8], scale: &mut f32, start: &mut i32, x: &[f32]) = round_block_body;
}

#[inline(always)]
fn round_block_body<const FMA: bool>(to: &mut [i8], scale: &mut f32, start: &mut i32, x: &[f32]) {
    let mut largest = [0.0f32; 16];
    for x in x.as_chunks::<16>().0 {
        for i in 0..16 {
            largest[i] = if x[i].abs() > largest[i] { x[i].abs() } else { largest[i] };
        }
    }
    let largest = largest.iter().fold(0.0f32, |a, &b| if b > a { b } else { a });
    // Beside numbers so large that their sums overflow, nothing else matters; none are NaN in a model that was read.
    let inverse = if largest > 1e-30 && largest < 1e30 { 127.0 / largest } else { 0.0 };
    *scale = if inverse > 0.0 { largest / 127.0 } else { 0.0 };
    let mut sums = [0i32; 16];
    for (to, x) in to.as_chunks_mut::<16>().0.iter_mut().zip(x.as_chunks::<16>().0) {
        for i in 0..16 {
            let q = nearest(x[i] * inverse);
            to[i] = q as i8;
            sums[i] += q;
        }
    }
    *start = -128 * sums.iter().sum::<i32>();
}

/// The nearest whole number of a small number.
#[inline(always)]
pub(super) fn nearest(x: f32) -> i32 {
    const ROUND: f32 = 12_582_912.0;
    (x + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i32
}

//! The rows that are multiplied, in the form that a matrix's format wants.

use super::{Format, Shape};
use crate::isa::dispatched;
use crate::parts::{chunks, chunks_mut, each};

/// Rows of x, prepared once for a product; kept by the caller, so that a step allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    rows: usize,
    inputs: usize,
    /// Inputs of a block, and whether they are whole numbers.
    block: usize,
    integer: bool,
    /// A row after the other, in words of four bytes: an f32, two bf16, or four i8; filled up with zeros to whole blocks.
    words: Vec<u32>,
    /// Of whole numbers, `[rows, blocks]`: the scale, and −128 times the sum, which undoes that weights are stored plus
    /// 128.
    scales: Vec<f32>,
    starts: Vec<i32>,
}

/// The part of [`Inputs`] that a tile uses.
#[derive(Clone, Copy)]
pub(super) struct TileInputs<'a> {
    /// `[rows, words]`.
    pub(super) words: &'a [u32],
    /// Words of a row.
    pub(super) stride: usize,
    /// `[rows, blocks]`, for whole numbers.
    pub(super) scales: &'a [f32],
    pub(super) starts: &'a [i32],
    /// Blocks of a row.
    pub(super) blocks: usize,
}

impl Inputs {
    /// Takes the rows of x, `[rows, inputs]`, for matrices of a format. Panics when x is shorter.
    pub fn set(&mut self, format: Format, x: &[f32], rows: usize, inputs: usize) {
        let blocks = inputs.div_ceil(format.block());
        let words = match format {
            Format::F32 => inputs,
            Format::Bf16 => blocks,
            Format::Int8 | Format::Int4 => blocks * format.block() / 4,
        };
        (self.rows, self.inputs, self.block, self.integer) = (rows, inputs, format.block(), format.is_integer());
        self.words.resize(rows * words, 0);
        let x = &x[..rows * inputs];
        if !self.integer {
            self.scales.clear();
            self.starts.clear();
            each((chunks_mut(&mut self.words, words), chunks(x, inputs)), |_, (to, x)| match format {
                Format::F32 => to.copy_from_slice(bytemuck::cast_slice(x)),
                _ => round_bf16(to, x),
            });
            return;
        }
        self.scales.resize(rows * blocks, 0.0);
        self.starts.resize(rows * blocks, 0);
        let parts = (
            chunks_mut(&mut self.words, words),
            chunks_mut(&mut self.scales, blocks),
            chunks_mut(&mut self.starts, blocks),
            chunks(x, inputs),
        );
        each(parts, |_, (to, scales, starts, x)| match format {
            Format::Int8 => round_int8::<64>(to, scales, starts, x),
            _ => round_int8::<32>(to, scales, starts, x),
        });
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Some of the rows. Panics when they are not there or were prepared for another matrix.
    pub(super) fn tile(&self, shape: Shape, first: usize, rows: usize) -> TileInputs<'_> {
        let fits = (self.inputs, self.block, self.integer)
            == (shape.inputs, shape.format.block(), shape.format.is_integer());
        assert!(fits && first + rows <= self.rows, "the inputs are another matrix's");
        let (words, blocks) = (self.words.len() / self.rows, self.inputs.div_ceil(self.block));
        let part = if self.integer { first * blocks..(first + rows) * blocks } else { 0..0 };
        TileInputs {
            words: &self.words[first * words..(first + rows) * words],
            stride: words,
            scales: &self.scales[part.clone()],
            starts: &self.starts[part],
            blocks,
        }
    }
}

/// The nearest bf16, ties to even. Numbers that are none stay so.
#[inline(always)]
pub(super) fn to_bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16;
    if x.is_nan() { bits >> 16 | 0x40 } else { rounded }
}

dispatched! {
    fn round_bf16(to: &mut [u32], x: &[f32]) = round_bf16_body;
}

#[inline(always)]
fn round_bf16_body<const FMA: bool>(to: &mut [u32], x: &[f32]) {
    let (pairs, rest) = x.as_chunks::<2>();
    for (to, pair) in to.iter_mut().zip(pairs) {
        *to = to_bf16(pair[0]) | to_bf16(pair[1]) << 16;
    }
    if let (Some(&last), Some(to)) = (rest.first(), to.last_mut()) {
        *to = to_bf16(last);
    }
}

/// Whole numbers up to ±127 times a scale for each block of `B`.
fn round_int8<const B: usize>(to: &mut [u32], scales: &mut [f32], starts: &mut [i32], x: &[f32]) {
    let to: &mut [i8] = bytemuck::cast_slice_mut(to);
    let blocks = to.as_chunks_mut::<B>().0.iter_mut().zip(scales).zip(starts);
    for (i, ((to, scale), start)) in blocks.enumerate() {
        let x = &x[i * B..];
        if let Some(x) = x.first_chunk::<B>() {
            round_block(to, scale, start, x);
        } else {
            let mut last = [0.0; B];
            last[..x.len()].copy_from_slice(x);
            round_block(to, scale, start, &last);
        }
    }
}

dispatched! {
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

//! Products of some rows with the large matrices of a model, as decoding needs them: each matrix is read once for all
//! rows, in the order in which it lies in memory, and every element of the output is summed in an order that depends
//! on neither the number of rows nor that of threads. So a text does not depend on which others are written beside it,
//! and a prompt read at once gives the same numbers as one read token by token.
//!
//! A matrix `[inputs, outputs]` lies in groups of `LANES` outputs, one after another; a group is a sequence of
//! blocks of inputs, each with all that belongs to it, scales included:
//!
//! | format | block | bytes | an output's share |
//! | --- | --- | --- | --- |
//! | f32 | 1 input | 128 | its weight |
//! | bf16 | 2 inputs | 128 | two weights side by side |
//! | int8 | 64 inputs | 64 + 2048 | a scale in bf16; weights in eighths of a word of eight bytes, plus 128 |
//! | int4 | 32 inputs | 64 + 512 | a scale in bf16; half bytes that choose one of 16 `CODES` |
//!
//! The lanes of a vector are outputs, so that no sum runs across lanes.

mod attend;
mod bf16;
mod cell;
mod float;
mod inputs;
mod integer;
mod pack;
mod pages;

use std::sync::atomic::{AtomicBool, Ordering};

pub use attend::{ATTEND_ROWS, attend, key_at};
pub use cell::{UNITS, gate_at, lstm_units};
pub use inputs::Inputs;

use crate::parts::{Cut, blocks_mut, each};
use pages::Pages;

/// Outputs of a group: two vectors of 16.
const LANES: usize = 32;
/// Bytes of a scale for each output of a group.
const SCALES: usize = 2 * LANES;
/// Rows that one pass over a group takes at most: what the registers hold.
const FLOAT_ROWS: usize = 12;
const INTEGER_ROWS: usize = 6;
/// Passes that follow each other over a group while it is in the first cache.
const PASSES: usize = 8;
/// Bytes of a group that the first cache holds beside the rows of a few passes.
const FIRST_CACHE: usize = 32 << 10;
/// Sums of a task that wait to be finished.
const SUMS: usize = 96 * LANES;
/// Bytes of a matrix that one task reads, at least and at most.
const TASK: [usize; 2] = [48 << 10, 512 << 10];

/// Tasks of a small matrix: each costs two accesses to a line that the threads share.
const TASKS: usize = 4;

/// How the numbers of a matrix are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As they are; inputs as they are.
    F32,
    /// Rounded to bf16, inputs too; sums in f32.
    Bf16,
    /// 8.25 bits a weight: whole numbers up to ±127 times a scale for 64 inputs; inputs likewise, with a scale for each
    /// row and block.
    Int8,
    /// 4.5 bits a weight: one of 16 numbers times a scale for 32 inputs; inputs as for [`Format::Int8`].
    Int4,
}

/// The numbers of [`Format::Int4`], in units of its scale: those with the least squared error for blocks of 32 normally
/// distributed weights divided by minus their largest (Lloyd 1982; the first is fixed). The error is 14 % less than
/// with 16 equidistant numbers.
const CODES: [i8; 16] = [-127, -101, -80, -63, -48, -35, -22, -9, 3, 15, 27, 40, 54, 70, 89, 111];

impl Format {
    /// Inputs of a block.
    fn block(self) -> usize {
        match self {
            Format::F32 => 1,
            Format::Bf16 => 2,
            Format::Int8 => 64,
            Format::Int4 => 32,
        }
    }

    fn block_bytes(self) -> usize {
        match self {
            Format::F32 | Format::Bf16 => 4 * LANES,
            Format::Int8 => SCALES + 64 * LANES,
            Format::Int4 => SCALES + 16 * LANES,
        }
    }

    fn group_bytes(self, inputs: usize) -> usize {
        inputs.div_ceil(self.block()) * self.block_bytes()
    }

    fn is_integer(self) -> bool {
        matches!(self, Format::Int8 | Format::Int4)
    }

    /// Rows of a tile, when there are so many rows: equal tiles, but for the last.
    fn tile(self, rows: usize) -> usize {
        let most = if self.is_integer() { INTEGER_ROWS } else { FLOAT_ROWS };
        rows.div_ceil(rows.div_ceil(most).max(1)).max(1)
    }
}

/// The numbers of a matrix as a model has them.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// `[inputs, outputs]`.
    InOut(&'a [f32]),
    /// `[outputs, inputs]`.
    OutIn(&'a [f32]),
}

/// The shape of a matrix and how it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How its numbers are stored.
    pub format: Format,
    /// Its inputs.
    pub inputs: usize,
    /// Its outputs.
    pub outputs: usize,
}

impl Shape {
    fn group_bytes(&self) -> usize {
        self.format.group_bytes(self.inputs)
    }

    fn groups(&self) -> usize {
        self.outputs.div_ceil(LANES)
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.groups() * self.group_bytes()
    }
}

/// The matrices of a model, in one piece of memory, in the order in which a step reads them.
#[derive(Debug)]
pub struct Weights {
    shapes: Vec<(Shape, usize)>,
    pages: Pages,
}

impl Weights {
    /// Matrices of zeros.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub fn new(shapes: impl IntoIterator<Item = Shape>) -> std::io::Result<Self> {
        let mut end = 0;
        let shapes = shapes.into_iter().map(|shape| {
            let begin = end;
            end += shape.bytes();
            (shape, begin)
        });
        let shapes = shapes.collect();
        Ok(Weights { shapes, pages: Pages::new(end)? })
    }

    /// Bytes of all matrices.
    pub fn bytes(&self) -> usize {
        self.pages.bytes().len()
    }

    /// The shape of a matrix.
    pub fn shape(&self, matrix: usize) -> Shape {
        self.shapes[matrix].0
    }

    /// Sets a matrix to the values of `w` and says whether all of them are finite. Panics when `w` has another number of
    /// them.
    pub fn set(&mut self, matrix: usize, w: Source<'_>) -> bool {
        const GROUPS: usize = 4;
        let (shape, begin) = self.shapes[matrix];
        let (Source::InOut(values) | Source::OutIn(values)) = w;
        assert_eq!(values.len(), shape.inputs * shape.outputs, "the matrix has another shape");
        let (bytes, band) = (shape.group_bytes(), pack::band_bytes(shape.format));
        if bytes == 0 || shape.outputs == 0 {
            return true;
        }
        let data = &mut self.pages.bytes_mut()[begin..begin + shape.bytes()];
        let finite = AtomicBool::new(true);
        // A task's values lie side by side: a part of the inputs of all outputs, or of the outputs with all inputs.
        let (rows, cols) = match w {
            Source::InOut(_) => (shape.groups(), band),
            Source::OutIn(_) => (GROUPS, bytes),
        };
        let cut = Cut { rows: shape.groups(), cols: bytes, block_rows: rows, groups: 1, block_cols: cols };
        each(blocks_mut(data, cut), |task, mut block| {
            let (groups, inputs, read) = match w {
                Source::InOut(_) => (0, task * pack::STEP, task * pack::STEP..(task + 1) * pack::STEP),
                Source::OutIn(_) => (task * GROUPS, 0, task * GROUPS * LANES..(task + 1) * GROUPS * LANES),
            };
            if !pack::read(shape, w, read) {
                finite.store(false, Ordering::Relaxed);
            }
            // Every second task begins in the middle, so that threads do not touch the same new page first.
            let rows = block.rows();
            for row in (0..rows).map(|row| (row + task % 2 * rows / 2) % rows) {
                let [to] = block.row(row);
                for (part, to) in to.chunks_mut(band).enumerate() {
                    pack::band(shape, w, groups + row, inputs + part * pack::STEP, to);
                }
            }
        });
        finite.into_inner()
    }

    /// `y = finish(x W)`, y `[rows, outputs]`: for parts of the rows of y, `finish(row, first column, sums, part of y)`
    /// makes of the sums what is wanted. Panics when the shapes do not fit.
    pub fn multiply(
        &self,
        matrix: usize,
        x: &Inputs,
        y: &mut [f32],
        finish: impl Fn(usize, usize, &mut [f32], &mut [f32]) + Sync,
    ) {
        let (shape, begin) = self.shapes[matrix];
        let (rows, bytes) = (x.rows(), shape.group_bytes());
        if rows == 0 || shape.outputs == 0 {
            return;
        }
        let data = &self.pages.bytes()[begin..begin + shape.bytes()];
        let tile = shape.format.tile(rows);
        let passes = rows.div_ceil(tile);
        // A group that the first cache does not hold is streamed for each pass, whose rows stay there.
        let at_once = if passes > PASSES && bytes > FIRST_CACHE { 1 } else { PASSES.min(passes) };
        let task = match passes {
            1 => (shape.bytes() / TASKS).clamp(TASK[0], TASK[1]),
            _ => 4 * TASK[0],
        };
        let task = (task / bytes).clamp(1, SUMS / (LANES * tile * at_once));
        let cut = Cut { rows, cols: shape.outputs, block_rows: rows, groups: 1, block_cols: task * LANES };
        each(blocks_mut(y, cut), |i, mut y| {
            let groups = &data[i * task * bytes..((i + 1) * task * bytes).min(data.len())];
            let (first, stride) = (i * task * LANES, groups.len() / bytes * LANES);
            let mut sums = [0.0; SUMS];
            let mut finished = |sums: &mut [f32], rows: std::ops::Range<usize>| {
                for (row, sums) in rows.zip(sums.chunks_exact_mut(stride)) {
                    let [y] = y.row(row);
                    finish(row, first, &mut sums[..y.len()], y);
                }
            };
            // The first pass over a group reads it from memory; meanwhile, and in the passes that follow at once, the next one
            // is fetched. Later it comes from the second cache.
            for begin in (0..passes).step_by(at_once) {
                let end = passes.min(begin + at_once);
                for (n, group) in groups.chunks_exact(bytes).enumerate() {
                    for pass in begin..end {
                        let sums = &mut sums[(pass - begin) * tile * stride + n * LANES..];
                        let fetch = (begin == 0).then_some((pass, end));
                        tile_sums(shape, group, x, pass, (sums, stride), fetch);
                    }
                }
                finished(&mut sums, begin * tile..rows.min(end * tile));
            }
        });
    }
}

/// The sums of a group's outputs for a tile of rows of x; `[rows, LANES]`, rows `stride` apart. Of several passes over
/// a group, each fetches its part of the next one.
fn tile_sums(
    shape: Shape,
    group: &[u8],
    x: &Inputs,
    tile: usize,
    (sums, stride): (&mut [f32], usize),
    fetch: Option<(usize, usize)>,
) {
    let x = x.tile(shape, tile);
    assert_eq!(group.len(), shape.group_bytes());
    assert!(x.rows > 0 && stride >= LANES && sums.len() >= (x.rows - 1) * stride + LANES);
    let block_lines = shape.format.block_bytes() / 64;
    let (lines, begin) = fetch.map_or((0, 0), |(pass, passes)| {
        let lines = block_lines.div_ceil(passes);
        (lines.min(block_lines.saturating_sub(pass * lines)), pass * lines * 64 * x.blocks)
    });
    let ahead = group.as_ptr().wrapping_add(group.len() + begin);
    let tile = Tile { group, x, sums, stride, ahead, lines };
    match shape.format {
        Format::F32 => float::sums(tile),
        Format::Bf16 => bf16::sums(tile),
        Format::Int8 => integer::sums::<false>(tile),
        Format::Int4 => integer::sums::<true>(tile),
    }
}

/// What a pass over a group needs. The kernels rely on the lengths that [`tile_sums`] and [`Inputs::tile`] checked.
struct Tile<'a> {
    /// The weights: whole blocks.
    group: &'a [u8],
    x: inputs::TileInputs<'a>,
    /// `[rows, LANES]`.
    sums: &'a mut [f32],
    /// Elements from one row of the sums to the next.
    stride: usize,
    /// What will be read next: so many lines of 64 bytes are fetched with each block. Never read here.
    ahead: *const u8,
    lines: usize,
}

/// Evaluates an expression with a constant that is the number of rows, so that it is compiled for each.
macro_rules! for_rows {
    ($rows:expr, $constant:ident => $call:expr, $($n:literal)+) => {
        match $rows {
            $($n => {
                const $constant: usize = $n;
                $call
            })+
            _ => unreachable!("no tile has so many rows"),
        }
    };
}
use for_rows;

#[cfg(test)]
mod tests;

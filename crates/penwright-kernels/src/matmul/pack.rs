//! Factors laid out in the order in which the register tiles read them.

use super::matrix::Matrix;
use crate::bf16::{Bf16, Element};
use crate::isa::{Isa, dispatched, isa};
use crate::parts::{BlockMut, Cut, blocks_mut, chunks_mut, each};
use crate::tile::{MAX_PANEL, Tiled, panel, tile_rows};

/// Elements that a task of packing moves at least.
const TASK_ELEMENTS: usize = 1 << 14;
/// Panels that are packed together.
const SIDE_BY_SIDE: usize = 8;

/// A line of the cache.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line([u32; 16]);

// SAFETY: plain numbers without padding: 16 · 4 bytes fill the line.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Line {}

/// Memory that begins on a line of the cache, grown and never shrunk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Aligned(Vec<Line>);

impl Aligned {
    /// The first `len` elements, whatever they were.
    pub(crate) fn take<E: bytemuck::Pod>(&mut self, len: usize) -> &mut [E] {
        let lines = (len * size_of::<E>()).div_ceil(size_of::<Line>());
        if self.0.len() < lines {
            self.0.resize(lines, Line([0; 16]));
        }
        &mut bytemuck::cast_slice_mut(&mut self.0)[..len]
    }

    fn pointer<E>(&self) -> *const E {
        self.0.as_ptr().cast()
    }
}

/// The right factor of products, its columns in panels as wide as a register tile, so that many products can use it.
#[derive(Clone, Debug)]
pub struct Packed<E: Element = f32> {
    /// `[panels][groups of k][width][group]`, the last group and the columns up to a multiple of MAX_PANEL filled up with
    /// zeros.
    data: Aligned,
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) width: usize,
    pub(super) isa: Isa,
    element: std::marker::PhantomData<E>,
}

impl<E: Element> Default for Packed<E> {
    fn default() -> Self {
        let (data, element) = (Aligned::default(), std::marker::PhantomData);
        Packed { data, k: 0, n: 0, width: 0, isa: Isa::default(), element }
    }
}

impl<E: Packable> Packed<E> {
    /// Takes up a matrix `[k, n]`, on all threads, in the memory of the one before.
    pub fn pack<S: Packable>(&mut self, b: Matrix<'_, S>) {
        (self.k, self.n, self.isa) = (b.rows, b.cols, isa());
        self.width = panel(self.isa);
        let (width, one) = (self.width, self.k.div_ceil(E::GROUP) * E::GROUP * self.width);
        let (panels, filled) = (self.n.div_ceil(width), self.n.next_multiple_of(MAX_PANEL) / width);
        // Neighbouring panels together, so that rows are read on along their lines; a small matrix stays on one thread.
        let group = (TASK_ELEMENTS / one.max(1)).max(panels.div_ceil(4).min(SIDE_BY_SIDE)).max(1);
        let (out, rest) = self.data.take::<E>(filled * one).split_at_mut(panels * one);
        rest.fill(E::default());
        each(chunks_mut(out, group * one), |task, out| {
            let first = task * group * width;
            E::pack_panels(b.columns(first, (group * width).min(b.cols - first)), out, width);
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

    /// Where the groups from `group` on of a panel begin.
    pub(super) fn at(&self, panel: usize, group: usize) -> *const E {
        let groups = self.k.div_ceil(E::GROUP);
        self.data.pointer::<E>().wrapping_add((panel * groups + group) * self.width * E::GROUP)
    }
}

/// The left factor of products in tiles of rows, for a matrix whose rows do not lie as products read them: transposes,
/// above all.
#[derive(Clone, Debug)]
pub struct PackedLeft<E: Element = f32> {
    /// `[tiles][groups of k][step][group]`; the rows missing in the last tile are left as they were.
    data: Aligned,
    pub(super) rows: usize,
    pub(super) k: usize,
    pub(super) step: usize,
    element: std::marker::PhantomData<E>,
}

impl<E: Element> Default for PackedLeft<E> {
    fn default() -> Self {
        PackedLeft { data: Aligned::default(), rows: 0, k: 0, step: 1, element: std::marker::PhantomData }
    }
}

/// Rows of tiles of about equal height, no higher than a register tile.
pub(super) fn step(isa: Isa, rows: usize) -> usize {
    rows.div_ceil(rows.div_ceil(tile_rows(isa)).max(1)).max(1)
}

impl<E: Packable> PackedLeft<E> {
    /// Takes up a matrix `[rows, k]`, on all threads, in the memory of the one before.
    pub fn pack<S: Packable>(&mut self, a: Matrix<'_, S>) {
        self.pack_above(a, false);
    }

    /// The same, with a row of ones below the matrix if so wanted: its product is the sums of the right factor's columns.
    pub(super) fn pack_above<S: Packable>(&mut self, a: Matrix<'_, S>, ones: bool) {
        // A task reads a long part of each row of the transpose.
        const TILES: usize = 64;
        const ROWS: usize = 128;
        let all = a.rows + usize::from(ones);
        let step = step(isa(), all);
        (self.rows, self.k, self.step) = (all, a.cols, step);
        let (tiles, groups) = (all.div_ceil(step), a.cols.div_ceil(E::GROUP));
        let one = step * E::GROUP;
        let out = self.data.take::<E>(tiles * groups * one);
        let cut =
            Cut { rows: tiles, cols: groups * one, block_rows: TILES, groups: 1, block_cols: ROWS / E::GROUP * one };
        let across = groups.div_ceil(ROWS / E::GROUP);
        each(blocks_mut(out, cut), |task, mut block| {
            let (first_tile, first_k) = (task / across * TILES, task % across * ROWS);
            let rows = (first_tile * step, (block.rows() * step).min(a.rows - first_tile * step));
            let part = a.rows(rows.0, rows.1).columns(first_k, (a.cols - first_k).min(ROWS));
            E::pack_tiles(part, &mut block, step);
            if ones && first_tile + block.rows() == tiles {
                let [last] = block.row(block.rows() - 1);
                let row = a.rows % step * E::GROUP;
                last.chunks_exact_mut(one).for_each(|group| group[row..row + E::GROUP].fill(E::of(1.0)));
            }
        });
    }

    pub(super) fn pointer(&self) -> *const E {
        self.data.pointer()
    }
}

/// A kind of number and how its factors are laid out; from f32 or bfloat16.
pub trait Packable: Tiled {
    /// The upper half of an f32 of the nearest bfloat16, the lower half left over.
    #[doc(hidden)]
    fn upper(self) -> u32;

    /// `[k, n]` to `[panels][groups of k][width][group]`, filled up with zeros.
    #[doc(hidden)]
    fn pack_panels<S: Packable>(b: Matrix<'_, S>, out: &mut [Self], width: usize);

    /// Tiles of `step` rows of a matrix `[rows, k]`, to a block `[tiles][groups of k][step][group]`.
    #[doc(hidden)]
    fn pack_tiles<S: Packable>(a: Matrix<'_, S>, out: &mut BlockMut<'_, Self>, step: usize);

    /// The group of columns from `first` on of a matrix `[rows, k]`, to `[rows][group]`.
    #[doc(hidden)]
    fn pack_group<S: Packable>(a: Matrix<'_, S>, first: usize, out: &mut [Self]);
}

impl Packable for f32 {
    #[inline(always)]
    fn upper(self) -> u32 {
        crate::bf16::rounded(self)
    }

    fn pack_panels<S: Packable>(b: Matrix<'_, S>, out: &mut [f32], width: usize) {
        if b.col_stride == 1 {
            return copy_rows(b, out, width);
        }
        for (i, out) in out.chunks_mut((b.rows * width).max(1)).enumerate() {
            let first = i * width;
            copy_columns(b.columns(first, width.min(b.cols - first)), out, width);
        }
    }

    fn pack_tiles<S: Packable>(a: Matrix<'_, S>, out: &mut BlockMut<'_, f32>, step: usize) {
        copy_tiles(a, out, step);
    }

    #[inline(always)]
    fn pack_group<S: Packable>(a: Matrix<'_, S>, first: usize, out: &mut [f32]) {
        let from = &a.data[first * a.col_stride..];
        if a.row_stride == 1 {
            copy(out, from);
        } else {
            out.iter_mut().zip(from.iter().step_by(a.row_stride)).for_each(|(t, f)| *t = f.get());
        }
    }
}

dispatched! {
    /// Panels of a matrix whose rows lie in one piece.
    fn copy_rows<S: Packable>(b: Matrix<'_, S>, out: &mut [f32], width: usize) = copy_rows_body;
}

#[inline(always)]
fn copy_rows_body<S: Packable, const FMA: bool>(b: Matrix<'_, S>, out: &mut [f32], width: usize) {
    for l in 0..b.rows {
        let row = &b.data[l * b.row_stride..][..b.cols];
        for (from, out) in row.chunks(width).zip(out.chunks_exact_mut(b.rows * width)) {
            let (values, rest) = out[l * width..][..width].split_at_mut(from.len());
            copy(values, from);
            rest.iter_mut().for_each(|x| *x = 0.0);
        }
    }
}

/// A panel of any other matrix.
fn copy_columns<S: Packable>(b: Matrix<'_, S>, out: &mut [f32], width: usize) {
    const ROWS: usize = 16;
    {
        for (block, out) in out.chunks_mut(ROWS * width).enumerate() {
            let mut square = [[0.0; MAX_PANEL]; ROWS];
            for j in 0..b.cols {
                let from = &b.data[block * ROWS * b.row_stride + j * b.col_stride..];
                match from.first_chunk::<ROWS>() {
                    Some(from) if b.row_stride == 1 => {
                        for l in 0..ROWS {
                            square[l][j] = from[l].get();
                        }
                    }
                    _ => {
                        square.iter_mut().zip(from.iter().step_by(b.row_stride)).for_each(|(row, x)| row[j] = x.get());
                    }
                }
            }
            out.chunks_exact_mut(width).zip(&square).for_each(|(out, row)| copy(out, row));
        }
    }
}

/// Copies the first values of `from`: the lengths that tiles have without a call.
#[inline(always)]
fn copy<S: Element>(to: &mut [f32], from: &[S]) {
    macro_rules! of_length {
        ($($n:literal)+) => {
            $(if let (Ok(to), Some(from)) = (<&mut [f32; $n]>::try_from(&mut *to), from.first_chunk::<$n>()) {
                for j in 0..$n {
                    to[j] = from[j].get();
                }
                return;
            })+
        };
    }
    of_length!(12 32 16);
    to.iter_mut().zip(from).for_each(|(t, f)| *t = f.get());
}

/// Two bfloat16 of which the first is the lower half.
#[inline(always)]
fn pair<S: Packable>(first: S, second: S) -> u32 {
    first.upper() >> 16 | second.upper() & 0xFFFF_0000
}

impl Packable for Bf16 {
    #[inline(always)]
    fn upper(self) -> u32 {
        u32::from(self.to_bits()) << 16
    }

    fn pack_panels<S: Packable>(b: Matrix<'_, S>, out: &mut [Bf16], width: usize) {
        let out: &mut [u32] = bytemuck::cast_slice_mut(out);
        if b.col_stride == 1 {
            if !super::pairs::rows(b, out, width) {
                pair_rows(b, out, width);
            }
            return;
        }
        for (i, out) in out.chunks_mut((b.rows.div_ceil(2) * width).max(1)).enumerate() {
            let first = i * width;
            let b = b.columns(first, width.min(b.cols - first));
            if !super::pairs::panel(b, out, width) {
                pair_columns(b, out, width);
            }
        }
    }

    fn pack_tiles<S: Packable>(a: Matrix<'_, S>, out: &mut BlockMut<'_, Bf16>, step: usize) {
        if !super::pairs::tiles(a, out, step) {
            pair_tiles(a, out, step);
        }
    }

    #[inline(always)]
    fn pack_group<S: Packable>(a: Matrix<'_, S>, first: usize, out: &mut [Bf16]) {
        let out: &mut [u32] = bytemuck::cast_slice_mut(out);
        let one = &a.data[first * a.col_stride..];
        let Some(two) = (first + 1 < a.cols).then(|| &a.data[(first + 1) * a.col_stride..]) else {
            let from = one.iter().step_by(a.row_stride);
            return out.iter_mut().zip(from).for_each(|(t, x)| *t = pair(*x, S::default()));
        };
        if a.row_stride == 1 {
            return interleave(one, two, out);
        }
        let from = one.iter().step_by(a.row_stride).zip(two.iter().step_by(a.row_stride));
        out.iter_mut().zip(from).for_each(|(t, (x, y))| *t = pair(*x, *y));
    }
}

/// Pairs of the same columns of two rows: the lengths that tiles have in vectors.
#[inline(always)]
fn interleave<S: Packable>(one: &[S], two: &[S], out: &mut [u32]) {
    macro_rules! of_length {
        ($($n:literal)+) => {
            match out.len() {
                $($n => if let (Ok(out), Some(one), Some(two)) =
                    (<&mut [u32; $n]>::try_from(&mut *out), one.first_chunk::<$n>(), two.first_chunk::<$n>())
                {
                    for j in 0..$n {
                        out[j] = pair(one[j], two[j]);
                    }
                    return;
                })+
                _ => {}
            }
        };
    }
    /// Shorter ones where a whole vector can be read.
    macro_rules! within_a_vector {
        ($($n:literal)+) => {
            if let (Some(one), Some(two)) = (one.first_chunk::<16>(), two.first_chunk::<16>()) {
                let mut pairs = [0; 16];
                for j in 0..16 {
                    pairs[j] = pair(one[j], two[j]);
                }
                match out.len() {
                    $($n => return out.copy_from_slice(&pairs[..$n]),)+
                    _ => {}
                }
            }
        };
    }
    if out.len() < 16 {
        within_a_vector!(12 11 10 9 8 6 4);
    }
    of_length!(32 16 12 11 10 9 8);
    out.iter_mut().zip(one.iter().zip(two)).for_each(|(t, (x, y))| *t = pair(*x, *y));
}

dispatched! {
    /// Panels of a matrix whose rows lie in one piece.
    pub(super) fn pair_rows<S: Packable>(b: Matrix<'_, S>, out: &mut [u32], width: usize) = pair_rows_body;
}

#[inline(always)]
fn pair_rows_body<S: Packable, const FMA: bool>(b: Matrix<'_, S>, out: &mut [u32], width: usize) {
    let groups = b.rows.div_ceil(2);
    for l in 0..groups {
        let one = &b.data[2 * l * b.row_stride..][..b.cols];
        let two = if 2 * l + 1 < b.rows { &b.data[(2 * l + 1) * b.row_stride..][..b.cols] } else { &[] };
        for (i, out) in out.chunks_exact_mut(groups * width).enumerate() {
            let cols = i * width..b.cols.min((i + 1) * width);
            let (values, rest) = out[l * width..][..width].split_at_mut(cols.len());
            rest.iter_mut().for_each(|x| *x = 0);
            match two.get(cols.clone()) {
                Some(two) => interleave(&one[cols], two, values),
                None => values.iter_mut().zip(&one[cols]).for_each(|(t, x)| *t = pair(*x, S::default())),
            }
        }
    }
}

dispatched! {
    /// A panel of a matrix whose columns lie in one piece, or of any: by squares, so that reading and writing both go
    /// along lines.
    pub(super) fn pair_columns<S: Packable>(b: Matrix<'_, S>, out: &mut [u32], width: usize) = pair_columns_body;
}

#[inline(always)]
fn pair_columns_body<S: Packable, const FMA: bool>(b: Matrix<'_, S>, out: &mut [u32], width: usize) {
    const PAIRS: usize = 16;
    for (block, out) in out.chunks_mut(PAIRS * width).enumerate() {
        let mut square = [[0u32; MAX_PANEL]; PAIRS];
        let first = 2 * PAIRS * block;
        for j in 0..b.cols {
            let from = &b.data[first * b.row_stride + j * b.col_stride..];
            match from.first_chunk::<{ 2 * PAIRS }>() {
                Some(from) if b.row_stride == 1 && first + 2 * PAIRS <= b.rows => {
                    let pairs: [u32; PAIRS] = pairs_of(from);
                    for l in 0..PAIRS {
                        square[l][j] = pairs[l];
                    }
                }
                _ => {
                    for (l, row) in square.iter_mut().enumerate().take((b.rows - first).div_ceil(2)) {
                        let one = from[2 * l * b.row_stride];
                        let two =
                            if first + 2 * l + 1 < b.rows { from[(2 * l + 1) * b.row_stride] } else { S::default() };
                        row[j] = pair(one, two);
                    }
                }
            }
        }
        out.chunks_exact_mut(width).zip(&square).for_each(|(out, row)| out.copy_from_slice(&row[..width]));
    }
}

/// Neighbours as pairs.
#[inline(always)]
fn pairs_of<S: Packable, const N: usize, const M: usize>(from: &[S; M]) -> [u32; N] {
    std::array::from_fn(|l| pair(from[2 * l], from[2 * l + 1]))
}

dispatched! {
    fn copy_tiles<S: Packable>(a: Matrix<'_, S>, out: &mut BlockMut<'_, f32>, step: usize) = copy_tiles_body;
}

#[inline(always)]
fn copy_tiles_body<S: Packable, const FMA: bool>(a: Matrix<'_, S>, out: &mut BlockMut<'_, f32>, step: usize) {
    match a.as_element::<f32>() {
        Some(a) if step == SIX && a.row_stride == 1 => tiles_of_six(a, out),
        _ => tiles(a, out, step),
    }
}

/// Rows of AVX2's tiles.
const SIX: usize = 6;

/// Tiles of six rows of a transpose: vectors of eight are copied, of which the next group overwrites the last two.
#[inline(always)]
fn tiles_of_six(a: Matrix<'_, f32>, out: &mut BlockMut<'_, f32>) {
    /// Groups that fill whole lines.
    const LINES: usize = 8;
    let groups = out.width() / SIX;
    for first in (0..groups).step_by(LINES) {
        for tile in 0..out.rows().min(a.rows.div_ceil(SIX)) {
            let rows = SIX.min(a.rows - tile * SIX);
            let [to] = out.row(tile);
            for l in first..groups.min(first + LINES) {
                let (from, to) = (&a.data[l * a.col_stride + tile * SIX..], &mut to[l * SIX..]);
                match (from.first_chunk::<8>(), to.first_chunk_mut::<8>()) {
                    (Some(from), Some(to)) if rows == SIX => *to = *from,
                    _ => to[..rows].copy_from_slice(&from[..rows]),
                }
            }
        }
    }
}

dispatched! {
    pub(super) fn pair_tiles<S: Packable>(a: Matrix<'_, S>, out: &mut BlockMut<'_, Bf16>, step: usize) = pair_tiles_body;
}

#[inline(always)]
fn pair_tiles_body<S: Packable, const FMA: bool>(a: Matrix<'_, S>, out: &mut BlockMut<'_, Bf16>, step: usize) {
    tiles(a, out, step);
}

#[inline(always)]
fn tiles<S: Packable, E: Packable>(a: Matrix<'_, S>, out: &mut BlockMut<'_, E>, step: usize) {
    /// Groups, or pairs of them, whose twelve values fill whole lines.
    const LINES: usize = 4;
    let one = step * E::GROUP;
    let groups = out.width() / one;
    for first in (0..groups).step_by(LINES) {
        for tile in 0..out.rows() {
            let rows = step.min(a.rows - tile * step);
            if rows == 0 {
                break;
            }
            let [to] = out.row(tile);
            for l in first..groups.min(first + LINES) {
                E::pack_group(a.rows(tile * step, rows), l * E::GROUP, &mut to[l * one..][..rows * E::GROUP]);
            }
        }
    }
}

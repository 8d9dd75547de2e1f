//! Factors laid out as the tiles read them. What [`Packable`] does for any matrix is here done in registers for whole
//! vectors: these matrices are so small that laying them out takes its share of the time.

use crate::bf16::Element;
use crate::isa::{Isa, dispatched};
use crate::matmul::{Aligned, Matrix, Packable};
use crate::tile::panel;

dispatched! {
    /// Rows of a matrix one after the other, each filled up with zeros to whole groups.
    pub(super) fn lay_out<E: Element>(from: Matrix<'_, E>, to: &mut [E]) = lay_out_body;
}

#[inline(always)]
fn lay_out_body<E: Element, const FMA: bool>(from: Matrix<'_, E>, to: &mut [E]) {
    const LANES: usize = 32;
    let (cols, wide) = (from.cols, from.cols.next_multiple_of(E::GROUP));
    for (i, to) in to.chunks_exact_mut(wide).enumerate().take(from.rows) {
        let (to, filling) = to.split_at_mut(cols);
        let ((to, to_rest), (from, rest)) = (to.as_chunks_mut::<LANES>(), from.row(i).as_chunks::<LANES>());
        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        to_rest.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        filling.iter_mut().for_each(|to| *to = E::default());
    }
}

/// Panels of a matrix's columns, groups of rows side by side; how many elements a panel takes.
pub(super) fn lay_panels<E: Packable>(isa: Isa, from: Matrix<'_, E>, to: &mut Aligned) -> usize {
    let (width, rows) = (panel(isa), from.rows.next_multiple_of(E::GROUP));
    let one = rows * width;
    let to = to.take::<E>(from.cols.div_ceil(width) * one);
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx512 && E::GROUP == 2 && width == 32 && from.cols.is_multiple_of(32) && from.rows > 0 {
        assert!((from.rows - 1) * from.row_stride + from.cols <= from.data.len() && from.col_stride == 1);
        // SAFETY: the processor has AVX-512; elements are two bytes long when a group is two of them; the rows lie in
        // their slice, and `to` has so many panels.
        unsafe { interleave(from, to, one) }
        return one;
    }
    E::pack_panels(from, to, width);
    one
}

/// Pairs of rows, panels of 32.
///
/// # Safety
/// The processor has AVX-512; elements are two bytes long; the rows, multiples of 32 long, can be read, and `to` has
/// space for the panels, `one` elements each.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn interleave<E: Packable>(from: Matrix<'_, E>, to: &mut [E], one: usize) {
    use std::arch::x86_64::*;
    // Element i of the first row and of the second, whose index has the sixth bit set.
    const fn pairs(from: u16) -> [u16; 32] {
        let (mut index, mut i) = ([0; 32], 0);
        while i < 32 {
            index[i as usize] = from + i / 2 + i % 2 * 32;
            i += 1;
        }
        index
    }
    const LOWER: [u16; 32] = pairs(0);
    const UPPER: [u16; 32] = pairs(16);
    // SAFETY: promised by the caller; the indices are as long as a vector.
    unsafe {
        let (lower, upper) = (_mm512_loadu_si512(LOWER.as_ptr().cast()), _mm512_loadu_si512(UPPER.as_ptr().cast()));
        for row in (0..from.rows).step_by(2) {
            let (first, is_pair) = (from.data.as_ptr().add(row * from.row_stride), row + 1 < from.rows);
            for i in 0..from.cols / 32 {
                let first = first.add(32 * i);
                let a = _mm512_loadu_si512(first.cast());
                let b = if is_pair {
                    _mm512_loadu_si512(first.add(from.row_stride).cast())
                } else {
                    _mm512_setzero_si512()
                };
                let to = to.as_mut_ptr().add(i * one + row * 32);
                _mm512_storeu_si512(to.cast(), _mm512_permutex2var_epi16(a, lower, b));
                _mm512_storeu_si512(to.add(32).cast(), _mm512_permutex2var_epi16(a, upper, b));
            }
        }
    }
}

/// A panel for each `width` rows of a matrix, its columns as the inner dimension; how many elements a panel takes.
pub(super) fn lay_transposed<E: Packable>(isa: Isa, from: Matrix<'_, E>, to: &mut Aligned) -> usize {
    let width = panel(isa);
    let (rows, one) = (from.rows, from.cols.next_multiple_of(E::GROUP) * width);
    for (i, to) in to.take::<E>(rows.div_ceil(width) * one).chunks_exact_mut(one.max(1)).enumerate() {
        let rows = from.rows(i * width, width.min(rows - i * width));
        if !transpose(isa, rows, to, width) {
            E::pack_panels(rows.t(), to, width);
        }
    }
    one
}

/// `[width, words of a row]` to `[words of a row][width]`, where a word holds a group of elements. Whether it was done:
/// only whole squares are, where there are vectors for it.
fn transpose<E: Packable>(isa: Isa, from: Matrix<'_, E>, to: &mut [E], width: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx512 {
        let words = from.cols / E::GROUP;
        let whole = from.rows == width && width.is_multiple_of(16) && from.cols.is_multiple_of(16 * E::GROUP);
        if !whole || to.len() < words * width {
            return false;
        }
        assert!((width - 1) * from.row_stride + from.cols <= from.data.len() && from.col_stride == 1);
        // SAFETY: the processor has AVX-512; a word is a group; the rows lie in their slice, and `to` has as many words.
        unsafe {
            squares(from.data.as_ptr().cast(), from.row_stride, size_of::<E>(), to.as_mut_ptr().cast(), width, words)
        }
        return true;
    }
    let _ = (isa, from, to, width);
    false
}

/// # Safety
/// The processor has AVX-512; `width` rows, `stride` elements of some size apart, of `words` words can be read, and as
/// many written; both numbers are multiples of 16.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn squares(from: *const u8, stride: usize, size: usize, to: *mut u32, width: usize, words: usize) {
    for row in (0..width).step_by(16) {
        for word in (0..words).step_by(16) {
            // SAFETY: promised by the caller.
            unsafe {
                square(from.add(row * stride * size + word * 4), stride * size, to.add(word * width + row), width)
            }
        }
    }
}

/// # Safety
/// The processor has AVX-512; 16 words can be read at each multiple of `stride` bytes, and written at each multiple of
/// `width` words.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn square(from: *const u8, stride: usize, to: *mut u32, width: usize) {
    use std::arch::x86_64::*;
    // SAFETY: promised by the caller.
    let load = |row: usize| unsafe { _mm512_loadu_si512(from.add(row * stride).cast()) };
    // Pairs of rows, then fours, in each quarter of a vector.
    let zero = _mm512_setzero_si512();
    let (mut two, mut four, mut eight) = ([zero; 16], [zero; 16], [zero; 16]);
    for i in 0..8 {
        let (a, b) = (load(2 * i), load(2 * i + 1));
        two[2 * i] = _mm512_unpacklo_epi32(a, b);
        two[2 * i + 1] = _mm512_unpackhi_epi32(a, b);
    }
    for i in 0..4 {
        let rows = &two[4 * i..4 * i + 4];
        four[4 * i] = _mm512_unpacklo_epi64(rows[0], rows[2]);
        four[4 * i + 1] = _mm512_unpackhi_epi64(rows[0], rows[2]);
        four[4 * i + 2] = _mm512_unpacklo_epi64(rows[1], rows[3]);
        four[4 * i + 3] = _mm512_unpackhi_epi64(rows[1], rows[3]);
    }
    // four[4 i + c]: rows 4 i … 4 i + 3 of columns c, 4 + c, 8 + c, 12 + c. The quarters change places.
    for c in 0..4 {
        for half in 0..2 {
            let (a, b) = (four[8 * half + c], four[8 * half + 4 + c]);
            eight[8 * half + c] = _mm512_shuffle_i32x4::<0x88>(a, b);
            eight[8 * half + 4 + c] = _mm512_shuffle_i32x4::<0xDD>(a, b);
        }
    }
    // eight[8 h + c]: columns c and 8 + c of rows 8 h … ; eight[8 h + 4 + c]: columns 4 + c and 12 + c.
    for c in 0..8 {
        let (a, b) = (eight[c], eight[8 + c]);
        // SAFETY: promised by the caller.
        unsafe {
            _mm512_storeu_si512(to.add(c * width).cast(), _mm512_shuffle_i32x4::<0x88>(a, b));
            _mm512_storeu_si512(to.add((8 + c) * width).cast(), _mm512_shuffle_i32x4::<0xDD>(a, b));
        }
    }
}

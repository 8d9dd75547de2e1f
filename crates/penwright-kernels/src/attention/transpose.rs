//! Squares of 16 × 16 words transposed in registers.

use bytemuck::cast_slice_mut;

use crate::isa::Isa;
use crate::matmul::{Matrix, Packable};

/// `[width, words of a row]` to `[words of a row][width]`, where a word holds a group of elements. Whether it was done:
/// only whole squares are, where there are vectors for it.
pub(super) fn words<E: Packable>(isa: Isa, from: Matrix<'_, E>, to: &mut [E], width: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx512 {
        let words = from.cols / E::GROUP;
        let whole = from.rows == width && width.is_multiple_of(16) && from.cols.is_multiple_of(16 * E::GROUP);
        if !whole || to.len() < words * width {
            return false;
        }
        let to: &mut [u32] = cast_slice_mut(to);
        for row in (0..width).step_by(16) {
            let rows: [&[E]; 16] = std::array::from_fn(|i| from.row(row + i));
            for word in (0..words).step_by(16) {
                let rows = rows.map(|row| row[word * E::GROUP..][..16 * E::GROUP].as_ptr().cast::<u32>());
                let to = &mut to[word * width + row..][..15 * width + 16];
                // SAFETY: the processor has AVX-512; 16 words of every row can be read, and 16 vectors `width` words
                // apart written, as the slices have shown.
                unsafe { square(rows, to.as_mut_ptr(), width) }
            }
        }
        return true;
    }
    let _ = (isa, from, to, width);
    false
}

/// # Safety
/// The processor has AVX-512; 16 words can be read from each pointer, and 16 written at each multiple of `width`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn square(rows: [*const u32; 16], to: *mut u32, width: usize) {
    use std::arch::x86_64::*;
    // SAFETY: promised by the caller.
    let r = rows.map(|row| unsafe { _mm512_loadu_si512(row.cast()) });
    // Pairs of rows, then fours, in each quarter of a vector.
    let zero = _mm512_setzero_si512();
    let (mut two, mut four, mut eight) = ([zero; 16], [zero; 16], [zero; 16]);
    for i in 0..8 {
        two[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        two[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
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

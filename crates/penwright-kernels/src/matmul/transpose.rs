//! Panels of pairs from a matrix whose columns lie in one piece, in vectors: squares of 16 pairs by 16 columns.

#[cfg(target_arch = "x86_64")]
pub(super) use x86::panel;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::transposed;

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn panel<S: super::pack::Packable>(_: super::Matrix<'_, S>, _: &mut [u32], _: usize) -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use crate::bf16::Bf16;
    use crate::isa::{Isa, isa};
    use crate::matmul::matrix::Matrix;
    use crate::matmul::pack::Packable;

    /// Columns, and pairs of a column, of a square.
    const SIDE: usize = 16;
    /// How far ahead a column is fetched, in bytes.
    const AHEAD: usize = 512;

    /// Takes up a panel of pairs, `[k, n ≤ width]` to `[pairs of k][width]`, filled up with zeros, if the instruction
    /// set and the way the matrix lies allow it.
    pub(in super::super) fn panel<S: Packable>(b: Matrix<'_, S>, out: &mut [u32], width: usize) -> bool {
        let fits = width.is_multiple_of(SIDE) && b.cols <= width && out.len() >= b.rows.div_ceil(2) * width;
        if isa() < Isa::Avx512 || b.row_stride != 1 || !fits {
            return false;
        }
        for first in (0..width).step_by(SIDE) {
            let cols = b.cols.saturating_sub(first).min(SIDE);
            let part = b.columns(first.min(b.cols), cols);
            let out = &mut out[first..];
            // SAFETY: the instruction set was asked for; `out` has `width` values for each pair, `first` of which were
            // passed over, and SIDE fit into what is left.
            unsafe {
                if let Some(part) = part.as_element::<f32>() {
                    squares(part, out, width);
                } else if let Some(part) = part.as_element::<Bf16>() {
                    squares(part, out, width);
                }
            }
        }
        true
    }

    /// Numbers that are read 16 pairs at a time.
    trait Pairs: Packable {
        /// The first `n` numbers, rounded, or 32 when there are more; zeros for the rest.
        ///
        /// # Safety
        /// So many can be read; the processor has AVX-512 with BW.
        unsafe fn load(from: *const Self, n: usize) -> __m512i;
    }

    impl Pairs for Bf16 {
        #[inline(always)]
        unsafe fn load(from: *const Bf16, n: usize) -> __m512i {
            // SAFETY: lanes that are not there are not read.
            unsafe { _mm512_maskz_loadu_epi16(mask(n, 32), from.cast()) }
        }
    }

    impl Pairs for f32 {
        #[inline(always)]
        unsafe fn load(from: *const f32, n: usize) -> __m512i {
            let upper: [u16; 32] = std::array::from_fn(|i| 2 * i as u16 + 1);
            // SAFETY: lanes that are not there are not read; 32 numbers of 16 bits are a vector.
            unsafe {
                let low = rounded(_mm512_maskz_loadu_epi32(mask(n, 16) as u16, from.cast()));
                let (from, n) = (from.wrapping_add(16), n.saturating_sub(16));
                let high = rounded(_mm512_maskz_loadu_epi32(mask(n, 16) as u16, from.cast()));
                _mm512_permutex2var_epi16(low, std::mem::transmute::<[u16; 32], __m512i>(upper), high)
            }
        }
    }

    /// As [`crate::bf16::rounded`]: to the nearest, ties to even; NaN stays NaN.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn rounded(bits: __m512i) -> __m512i {
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let near = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
        let size = _mm512_and_si512(bits, _mm512_set1_epi32(0x7FFF_FFFF));
        let nan = _mm512_cmpgt_epi32_mask(size, _mm512_set1_epi32(0x7F80_0000));
        _mm512_mask_or_epi32(near, nan, bits, _mm512_set1_epi32(0x0040_0000))
    }

    fn mask(n: usize, lanes: usize) -> u32 {
        if n >= lanes { u32::MAX } else { (1 << n) - 1 }
    }

    /// Up to SIDE columns of the panel.
    ///
    /// # Safety
    /// The processor has the instructions; `out` has SIDE values, `width` apart, for every pair of rows; the matrix's
    /// columns lie in one piece.
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn squares<S: Pairs>(b: Matrix<'_, S>, out: &mut [u32], width: usize) {
        for first in (0..b.rows).step_by(2 * SIDE) {
            let mut square = [_mm512_setzero_si512(); SIDE];
            for (j, column) in square.iter_mut().enumerate().take(b.cols) {
                let from = b.data.as_ptr().wrapping_add(j * b.col_stride + first);
                let ahead = from.cast::<i8>().wrapping_add(AHEAD);
                _mm_prefetch::<_MM_HINT_T0>(ahead);
                _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(64));
                // SAFETY: the column goes on for so many rows.
                *column = unsafe { S::load(from, b.rows - first) };
            }
            let rows = transposed(square);
            for (l, row) in rows.into_iter().enumerate().take((b.rows - first).div_ceil(2)) {
                // SAFETY: promised by the caller.
                unsafe { _mm512_storeu_si512(out.as_mut_ptr().add((first / 2 + l) * width).cast(), row) }
            }
        }
    }

    /// The transpose of 16 × 16 values: neighbours within quarters of a vector, then the quarters.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(crate) fn transposed(a: [__m512i; SIDE]) -> [__m512i; SIDE] {
        let mut b = a;
        for i in (0..SIDE).step_by(2) {
            b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
            b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
        }
        let mut c = b;
        for i in (0..SIDE).step_by(4) {
            c[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
            c[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
            c[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
            c[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
        }
        // c[4 q + i] has, in its quarter p, rows 4 q .. 4 q + 4 of column 4 p + i.
        let mut d = c;
        for i in 0..4 {
            let low = _mm512_shuffle_i32x4::<0b10_00_10_00>(c[i], c[4 + i]);
            let high = _mm512_shuffle_i32x4::<0b10_00_10_00>(c[8 + i], c[12 + i]);
            d[i] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low, high);
            d[8 + i] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low, high);
            let low = _mm512_shuffle_i32x4::<0b11_01_11_01>(c[i], c[4 + i]);
            let high = _mm512_shuffle_i32x4::<0b11_01_11_01>(c[8 + i], c[12 + i]);
            d[4 + i] = _mm512_shuffle_i32x4::<0b10_00_10_00>(low, high);
            d[12 + i] = _mm512_shuffle_i32x4::<0b11_01_11_01>(low, high);
        }
        d
    }
}

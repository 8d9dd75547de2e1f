//! Pairs in vectors: panels from a matrix whose columns lie in one piece, by squares of 16 pairs by 16 columns, and
//! tiles of a transpose.

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::transposed;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{panel, rows, tiles};

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn panel<S: super::pack::Packable>(_: super::Matrix<'_, S>, _: &mut [u32], _: usize) -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn tiles<S: super::pack::Packable>(
    _: super::Matrix<'_, S>,
    _: &mut crate::parts::BlockMut<'_, crate::bf16::Bf16>,
    _: usize,
) -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn rows<S: super::pack::Packable>(_: super::Matrix<'_, S>, _: &mut [u32], _: usize) -> bool {
    false
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use crate::bf16::{Bf16, Element};
    use crate::isa::{Isa, fetch, isa};
    use crate::matmul::matrix::Matrix;
    use crate::matmul::pack::Packable;
    use crate::parts::BlockMut;

    /// How many rows ahead are fetched: parts of rows are too short for the processor to see where it goes on.
    const ROWS_AHEAD: usize = 8;

    /// Takes up panels of pairs, `[k, n]` to `[panels][pairs of k][width]`, filled up with zeros, from a matrix whose
    /// rows lie in one piece, if the instruction set allows it.
    pub(in super::super) fn rows<S: Packable>(b: Matrix<'_, S>, out: &mut [u32], width: usize) -> bool {
        let fits = b.col_stride == 1 && width == 2 * SIDE && b.rows > 0 && b.cols > 0;
        if isa() < Isa::Avx512 || !fits {
            return false;
        }
        assert!(out.len() >= b.cols.div_ceil(width) * b.rows.div_ceil(2) * width, "shapes differ");
        // SAFETY: the instruction set was asked for, the sizes compared.
        unsafe {
            match (b.as_element::<f32>(), b.as_element::<Bf16>()) {
                (Some(b), _) if isa() == Isa::Avx512Bf16 => pairs_of_floats(b, out),
                (_, Some(b)) => pairs_of_rows(b, out),
                _ => return false,
            }
        }
        true
    }

    macro_rules! pairs_of_rows {
        ($name:ident, $element:ty, $features:literal,
         |$one:ident, $two:ident, $first:ident, $second:ident| $pairs:expr) => {
            /// # Safety
            /// The processor has the instructions; the rows lie in one piece; `out` has 32 values for each pair of rows in
            /// each panel.
            #[target_feature(enable = $features)]
            unsafe fn $name(b: Matrix<'_, $element>, out: &mut [u32]) {
                let pairs = b.rows.div_ceil(2);
                for pair in 0..pairs {
                    for row in 2 * pair + ROWS_AHEAD..b.rows.min(2 * pair + ROWS_AHEAD + 2) {
                        fetch(&b.data[row * b.row_stride..][..b.cols]);
                    }
                    let row = b.data.as_ptr().wrapping_add(2 * pair * b.row_stride);
                    for (panel, col) in (0..b.cols).step_by(2 * SIDE).enumerate() {
                        let $first = mask(b.cols - col, 2 * SIDE);
                        let $second = if 2 * pair + 1 < b.rows { $first } else { 0 };
                        let ($one, $two) = (row.wrapping_add(col), row.wrapping_add(b.row_stride + col));
                        // SAFETY: lanes that are not there are not read; the panel has the pair's values.
                        unsafe {
                            let [low, high]: [__m512i; 2] = $pairs;
                            let to = out.as_mut_ptr().add((panel * pairs + pair) * 2 * SIDE).cast::<__m512i>();
                            _mm512_storeu_si512(to, low);
                            _mm512_storeu_si512(to.add(1), high);
                        }
                    }
                }
            }
        };
    }

    pairs_of_rows!(pairs_of_rows, Bf16, "avx512f,avx512bw", |one, two, first, second| {
        let one = _mm512_maskz_loadu_epi16(first, one.cast());
        let two = _mm512_maskz_loadu_epi16(second, two.cast());
        [
            _mm512_permutex2var_epi16(one, order(0, 2 * SIDE as u16), two),
            _mm512_permutex2var_epi16(one, order(SIDE as u16, 2 * SIDE as u16), two),
        ]
    });

    pairs_of_rows!(pairs_of_floats, f32, "avx512f,avx512bw,avx512bf16", |one, two, first, second| {
        let mut both = [_mm512_setzero_si512(); 2];
        for (half, both) in both.iter_mut().enumerate() {
            let [first, second] = [(first >> (SIDE * half)) as u16, (second >> (SIDE * half)) as u16];
            let one = _mm512_maskz_loadu_ps(first, one.wrapping_add(SIDE * half));
            let two = _mm512_maskz_loadu_ps(second, two.wrapping_add(SIDE * half));
            let rounded = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(two, one));
            *both = _mm512_permutexvar_epi16(order(0, SIDE as u16), rounded);
        }
        both
    });

    /// `first`, `first + apart`, `first + 1`, `first + 1 + apart`, …
    #[inline(always)]
    fn order(first: u16, apart: u16) -> __m512i {
        let mut order = [0u16; 2 * SIDE];
        for (i, order) in order.iter_mut().enumerate() {
            *order = first + i as u16 / 2 + i as u16 % 2 * apart;
        }
        // SAFETY: 32 numbers of 16 bits are a vector.
        unsafe { std::mem::transmute(order) }
    }

    /// Takes up tiles of `step` rows of a matrix `[rows, k]`, to a block `[tiles][groups of k][step]` of pairs, if the
    /// instruction set and the way the matrix lies allow it.
    pub(in super::super) fn tiles<S: Packable>(a: Matrix<'_, S>, out: &mut BlockMut<'_, Bf16>, step: usize) -> bool {
        let Some(a) = a.as_element::<Bf16>().filter(|a| a.row_stride == 1 && a.col_stride >= a.rows) else {
            return false;
        };
        if isa() < Isa::Avx512 || step >= SIDE || a.rows == 0 {
            return false;
        }
        let one = step * Bf16::GROUP;
        assert!(a.rows <= out.rows() * step && a.cols.div_ceil(Bf16::GROUP) * one <= out.width(), "shapes differ");
        // SAFETY: the instruction set was asked for, the sizes compared.
        unsafe { pairs_of_columns(a, out.data.cast(), out.stride / Bf16::GROUP, step) };
        true
    }

    /// Some pairs of columns at a time, so that reading goes along lines and whole lines are written.
    ///
    /// # Safety
    /// The processor has the instructions; each column lies in one piece; `out` has `step` values for every pair of
    /// columns, in rows of tiles that begin `stride` apart.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn pairs_of_columns(a: Matrix<'_, Bf16>, out: *mut u32, stride: usize, step: usize) {
        /// Pairs whose twelve values each fill three lines.
        const PAIRS: usize = 4;
        let pairs = a.cols.div_ceil(2);
        for first in (0..pairs).step_by(PAIRS) {
            let end = pairs.min(first + PAIRS);
            for column in 2 * end..a.cols.min(2 * (end + PAIRS)) {
                fetch(&a.data[column * a.col_stride..][..a.rows]);
            }
            for (tile, row) in (0..a.rows).step_by(step).enumerate() {
                let rows = (1u16 << step.min(a.rows - row)) - 1;
                for pair in first..end {
                    let from = a.data.as_ptr().wrapping_add(2 * pair * a.col_stride + row).cast::<i16>();
                    let (second, two) = (2 * pair + 1 < a.cols, from.wrapping_add(a.col_stride));
                    // SAFETY: what is read and written exists as promised: the rest is masked.
                    unsafe {
                        let low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(rows, from));
                        let high = _mm256_maskz_loadu_epi16(if second { rows } else { 0 }, two);
                        let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(high));
                        let to = out.wrapping_add(tile * stride + pair * step);
                        _mm512_mask_storeu_epi32(to.cast(), rows, _mm512_or_si512(low, high));
                    }
                }
            }
        }
    }

    /// Columns, and pairs of a column, of a square.
    const SIDE: usize = 16;
    /// How far ahead a column is fetched, in bytes, and one from which on.
    const AHEAD: usize = 512;
    const LONG: usize = 8 * AHEAD;

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
        // Of short columns the same part of those that come next.
        let (ahead, size) = (SIDE * b.col_stride * size_of::<S>(), b.rows * size_of::<S>());
        let ahead = if size < LONG && b.col_stride == b.rows { ahead } else { AHEAD };
        for first in (0..b.rows).step_by(2 * SIDE) {
            let mut square = [_mm512_setzero_si512(); SIDE];
            for (j, column) in square.iter_mut().enumerate().take(b.cols) {
                let from = b.data.as_ptr().wrapping_add(j * b.col_stride + first);
                let ahead = from.cast::<i8>().wrapping_add(ahead);
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

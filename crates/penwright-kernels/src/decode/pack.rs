//! From a model's numbers to the blocks of a format.

use super::inputs::{nearest, to_bf16};
use super::{CODES, Format, LANES, SCALES, Shape, Source};
use crate::isa::{Isa, dispatched, isa};

/// Inputs that are looked at together: a multiple of every format's block.
pub(super) const STEP: usize = 64;

/// Bytes of [`STEP`] inputs of a group.
pub(super) fn band_bytes(format: Format) -> usize {
    STEP / format.block() * format.block_bytes()
}

/// The weights of the outputs of group `index` and of [`STEP`] inputs from `begin` on, as far as there are so many.
pub(super) fn band(shape: Shape, w: Source<'_>, index: usize, begin: usize, to: &mut [u8]) {
    let first = index * LANES;
    let (outputs, inputs) = (LANES.min(shape.outputs - first), STEP.min(shape.inputs - begin));
    let mut part = [0.0; STEP * LANES];
    match w {
        Source::InOut(w) => {
            for k in 0..inputs {
                let row = &w[(begin + k) * shape.outputs + first..][..outputs];
                part[k * LANES..][..outputs].copy_from_slice(row);
            }
        }
        Source::OutIn(w) => {
            #[cfg(target_arch = "x86_64")]
            let done = isa() >= Isa::Avx512 && (outputs, inputs) == (LANES, STEP) && {
                let columns = &w[first * shape.inputs + begin..][..(LANES - 1) * shape.inputs + STEP];
                // SAFETY: the processor has AVX-512; there are LANES columns, STEP numbers of each.
                unsafe { wide::transpose(columns, shape.inputs, &mut part) };
                true
            };
            #[cfg(not(target_arch = "x86_64"))]
            let done = false;
            for n in 0..if done { 0 } else { outputs } {
                let column = &w[(first + n) * shape.inputs + begin..][..inputs];
                for (k, &w) in column.iter().enumerate() {
                    part[k * LANES + n] = w;
                }
            }
        }
    }
    let blocks = to.chunks_exact_mut(shape.format.block_bytes());
    for (to, w) in blocks.zip(part.chunks_exact(shape.format.block() * LANES)) {
        match shape.format {
            Format::F32 => to.copy_from_slice(bytemuck::cast_slice(w)),
            Format::Bf16 => bf16(to, w),
            Format::Int8 => int8(to, w),
            Format::Int4 => int4(to, w),
        }
    }
}

dispatched! {
    /// Whether all are numbers.
    fn all_finite(w: &[f32]) -> bool = all_finite_body;
}

#[inline(always)]
fn all_finite_body<const FMA: bool>(w: &[f32]) -> bool {
    const LEAST: u32 = 0x7F80_0000;
    let mut largest = [0u32; 64];
    let (parts, rest) = w.as_chunks::<64>();
    for part in parts {
        for i in 0..64 {
            largest[i] = largest[i].max(part[i].to_bits() & 0x7FFF_FFFF);
        }
    }
    largest.iter().all(|&bits| bits < LEAST) && rest.iter().all(|x| x.is_finite())
}

/// Whether the weights of some inputs (of all outputs) or of some groups of outputs (of all inputs) are numbers. As they
/// lie side by side, this brings them into the cache for [`band`], which takes them in pieces.
pub(super) fn read(shape: Shape, w: Source<'_>, part: std::ops::Range<usize>) -> bool {
    let (values, count, each) = match w {
        Source::InOut(values) => (values, shape.inputs, shape.outputs),
        Source::OutIn(values) => (values, shape.outputs, shape.inputs),
    };
    all_finite(&values[part.start.min(count) * each..part.end.min(count) * each])
}

dispatched! {
    /// `[2][LANES]` to `[LANES][2]`.
    fn bf16(to: &mut [u8], w: &[f32]) = bf16_body;
}

#[inline(always)]
fn bf16_body<const FMA: bool>(to: &mut [u8], w: &[f32]) {
    let (first, second) = w.split_at(LANES);
    for ((to, &a), &b) in to.as_chunks_mut::<4>().0.iter_mut().zip(first).zip(second) {
        *to = (to_bf16(a) | to_bf16(b) << 16).to_le_bytes();
    }
}

/// The bf16 next to a positive number, away from zero, so that no weight exceeds its code's range.
#[inline(always)]
fn up(x: f32) -> u32 {
    x.to_bits().wrapping_add(0xFFFF) >> 16
}

dispatched! {
    fn int8(to: &mut [u8], w: &[f32]) = int8_body;
}

#[inline(always)]
fn int8_body<const FMA: bool>(to: &mut [u8], w: &[f32]) {
    let mut inverse = [0.0f32; LANES];
    for row in w.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            inverse[i] = if row[i].abs() > inverse[i] { row[i].abs() } else { inverse[i] };
        }
    }
    let (scales, to) = to.split_at_mut(SCALES);
    for (scale, inverse) in scales.as_chunks_mut::<2>().0.iter_mut().zip(&mut inverse) {
        let bits = up(*inverse / 127.0);
        *scale = (bits as u16).to_le_bytes();
        let value = f32::from_bits(bits << 16);
        *inverse = if value > 1e-30 { 1.0 / value } else { 0.0 };
    }
    for (to, w) in to.as_chunks_mut::<{ 4 * LANES }>().0.iter_mut().zip(w.as_chunks::<{ 4 * LANES }>().0) {
        let mut words = [0u32; LANES];
        for (k, w) in w.as_chunks::<LANES>().0.iter().enumerate() {
            for i in 0..LANES {
                words[i] |= ((nearest(w[i] * inverse[i]) + 128) as u32 & 255) << (8 * k);
            }
        }
        for (to, word) in to.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
    }
}

/// Half way between neighbouring codes.
const BETWEEN: [f32; 15] = {
    let (mut between, mut i) = ([0.0; 15], 0);
    while i < 15 {
        between[i] = (CODES[i] as f32 + CODES[i + 1] as f32) / 2.0;
        i += 1;
    }
    between
};

/// The scale is first the largest weight's share of the first code, then, twice, the one with the least squared error
/// for the codes chosen by the one before.
fn int4(to: &mut [u8], w: &[f32]) {
    let w: &[[f32; LANES]] = w.as_chunks().0;
    let (scales, to) = to.split_at_mut(SCALES);
    let mut scale = first_scale(w);
    for _ in 0..2 {
        let (products, squares) = fit(w, &scale.map(inverse));
        scale = std::array::from_fn(|i| if squares[i] > 0.0 { products[i] / squares[i] } else { 0.0 });
    }
    let bits = scale.map(to_bf16);
    for (scale, bits) in scales.as_chunks_mut::<2>().0.iter_mut().zip(bits) {
        *scale = (bits as u16).to_le_bytes();
    }
    choices(to, w, &bits.map(|bits| inverse(f32::from_bits(bits << 16))));
}

#[inline(always)]
fn inverse(scale: f32) -> f32 {
    if scale.abs() > 1e-30 { 1.0 / scale } else { 0.0 }
}

dispatched! {
    fn first_scale(w: &[[f32; LANES]]) -> [f32; LANES] = first_scale_body;
}

#[inline(always)]
fn first_scale_body<const FMA: bool>(w: &[[f32; LANES]]) -> [f32; LANES] {
    let mut scale = [0.0f32; LANES];
    for row in w {
        for i in 0..LANES {
            scale[i] = if row[i].abs() > scale[i].abs() { row[i] } else { scale[i] };
        }
    }
    scale.map(|largest| largest / f32::from(CODES[0]))
}

/// `Σ code · w` and `Σ code²` for the codes nearest to `w · inverse`.
fn fit(w: &[[f32; LANES]], inverse: &[f32; LANES]) -> ([f32; LANES], [f32; LANES]) {
    #[cfg(target_arch = "x86_64")]
    if isa() >= Isa::Avx512 {
        // SAFETY: the processor has AVX-512.
        return unsafe { wide::fit(w, inverse) };
    }
    let (mut products, mut squares) = ([0.0f32; LANES], [0.0f32; LANES]);
    for row in w {
        for i in 0..LANES {
            let code = f32::from(CODES[choose(row[i] * inverse[i]) as usize]);
            products[i] += code * row[i];
            squares[i] += code * code;
        }
    }
    (products, squares)
}

/// The choices of codes, in the order of the format.
fn choices(to: &mut [u8], w: &[[f32; LANES]], inverse: &[f32; LANES]) {
    for (to, w) in to.as_chunks_mut::<{ 4 * LANES }>().0.iter_mut().zip(w.as_chunks::<8>().0) {
        #[cfg(target_arch = "x86_64")]
        if isa() >= Isa::Avx512 {
            // SAFETY: the processor has AVX-512.
            unsafe { wide::choices(to, w, inverse) };
            continue;
        }
        let mut words = [0u32; LANES];
        for (k, w) in w.iter().enumerate() {
            for i in 0..LANES {
                words[i] |= choose(w[i] * inverse[i]) << shift(k);
            }
        }
        for (to, word) in to.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
    }
}

/// Where the choice of the k-th of eight inputs lies in a word.
const fn shift(k: usize) -> usize {
    8 * (k % 4) + 4 * (k / 4)
}

/// The index of the nearest code.
fn choose(x: f32) -> u32 {
    BETWEEN.iter().map(|&between| u32::from(x > between)).sum()
}

/// The same with vectors of 16, whose permutations are tables of 16 numbers.
#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::*;

    use super::{BETWEEN, CODES, LANES, STEP, shift};
    use crate::matmul::pairs::transposed;

    /// LANES columns of STEP numbers, `stride` apart, to `[STEP][LANES]`.
    ///
    /// # Safety
    /// There are so many numbers.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn transpose(columns: &[f32], stride: usize, to: &mut [f32; STEP * LANES]) {
        const SIDE: usize = 16;
        for (k, n) in (0..STEP).step_by(SIDE).flat_map(|k| [(k, 0), (k, SIDE)]) {
            let mut square = [_mm512_setzero_si512(); SIDE];
            for (i, column) in square.iter_mut().enumerate() {
                // SAFETY: promised by the caller.
                *column = unsafe { _mm512_loadu_si512(columns.as_ptr().add((n + i) * stride + k).cast()) };
            }
            for (i, row) in transposed(square).into_iter().enumerate() {
                // SAFETY: row k + i has LANES numbers, of which these are half.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().add((k + i) * LANES + n).cast(), row) };
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    fn load(from: &[f32; LANES]) -> [__m512; 2] {
        // SAFETY: 16 numbers are read twice.
        [0, 16].map(|i| unsafe { _mm512_loadu_ps(from.as_ptr().add(i)) })
    }

    #[target_feature(enable = "avx512f")]
    fn store(to: &mut [f32; LANES], from: [__m512; 2]) {
        for (i, from) in from.into_iter().enumerate() {
            // SAFETY: 16 numbers are written twice.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr().add(16 * i), from) };
        }
    }

    /// [`super::choose`], by halves.
    #[target_feature(enable = "avx512f")]
    fn choose(x: __m512, between: __m512) -> __m512i {
        let mut index = _mm512_setzero_si512();
        for half in [8, 4, 2, 1] {
            let limit = _mm512_permutexvar_ps(_mm512_add_epi32(index, _mm512_set1_epi32(half - 1)), between);
            let above = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, limit);
            index = _mm512_mask_add_epi32(index, above, index, _mm512_set1_epi32(half));
        }
        index
    }

    #[target_feature(enable = "avx512f")]
    fn limits() -> __m512 {
        let mut limits = [f32::INFINITY; LANES];
        limits[..15].copy_from_slice(&BETWEEN);
        load(&limits)[0]
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn fit(w: &[[f32; LANES]], inverse: &[f32; LANES]) -> ([f32; LANES], [f32; LANES]) {
        let mut codes = [0.0; LANES];
        codes.iter_mut().zip(CODES).for_each(|(code, c)| *code = f32::from(c));
        let (between, codes, inverse) = (limits(), load(&codes)[0], load(inverse));
        let (mut products, mut squares) = ([_mm512_setzero_ps(); 2], [_mm512_setzero_ps(); 2]);
        for row in w {
            let row = load(row);
            for i in 0..2 {
                let code = _mm512_permutexvar_ps(choose(_mm512_mul_ps(row[i], inverse[i]), between), codes);
                products[i] = _mm512_add_ps(products[i], _mm512_mul_ps(code, row[i]));
                squares[i] = _mm512_add_ps(squares[i], _mm512_mul_ps(code, code));
            }
        }
        let (mut a, mut b) = ([0.0; LANES], [0.0; LANES]);
        store(&mut a, products);
        store(&mut b, squares);
        (a, b)
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn choices(to: &mut [u8; 4 * LANES], w: &[[f32; LANES]; 8], inverse: &[f32; LANES]) {
        let (between, inverse) = (limits(), load(inverse));
        let mut words = [_mm512_setzero_si512(); 2];
        for (k, row) in w.iter().enumerate() {
            let row = load(row);
            for i in 0..2 {
                let index = choose(_mm512_mul_ps(row[i], inverse[i]), between);
                words[i] = _mm512_or_si512(words[i], _mm512_sllv_epi32(index, _mm512_set1_epi32(shift(k) as i32)));
            }
        }
        for (i, words) in words.into_iter().enumerate() {
            // SAFETY: 64 bytes are written twice.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().add(64 * i).cast(), words) };
        }
    }
}

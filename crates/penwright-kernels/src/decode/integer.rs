//! Sums of a group in [`Format::Int8`](super::Format::Int8) and [`Format::Int4`](super::Format::Int4): in each block the
//! scales `[LANES]` in bf16, then weights plus 128 in bytes, `[quarters of the inputs][LANES][4]`; of int4 the choices of
//! two quarters share a byte, the former in its lower half. The products of a block are summed as whole numbers, which no
//! order changes; blocks are added in order.

use super::inputs::TileInputs;
use super::{CODES, LANES, SCALES, Tile, for_rows};
use crate::isa::{Isa, dispatched, isa};
use crate::math::fma;

/// [`CODES`] plus 128.
const BYTES: [u8; 16] = {
    let (mut bytes, mut i) = ([0; 16], 0);
    while i < 16 {
        bytes[i] = (CODES[i] as i16 + 128) as u8;
        i += 1;
    }
    bytes
};

pub(super) fn sums<const FOUR: bool>(tile: Tile<'_>) {
    #[cfg(target_arch = "x86_64")]
    if isa() >= Isa::Avx512 && is_x86_feature_detected!("avx512vnni") {
        // SAFETY: the processor has these instructions; the lengths were checked when the tile was made.
        return unsafe { for_rows!(tile.x.rows, R => avx512::<R, FOUR>(tile), 1 2 3 4 5 6) };
    }
    for row in 0..tile.x.rows {
        let sums = &mut tile.sums[row * tile.stride..][..LANES];
        if FOUR { one_row_4(sums, tile.x, row, tile.group) } else { one_row_8(sums, tile.x, row, tile.group) }
    }
}

dispatched! {
    fn one_row_8(sums: &mut [f32], x: TileInputs<'_>, row: usize, group: &[u8]) = one_row_8_body;
}

dispatched! {
    fn one_row_4(sums: &mut [f32], x: TileInputs<'_>, row: usize, group: &[u8]) = one_row_4_body;
}

#[inline(always)]
fn one_row_8_body<const FMA: bool>(sums: &mut [f32], x: TileInputs<'_>, row: usize, group: &[u8]) {
    let mut total = [0.0; LANES];
    for (b, block) in group.chunks_exact(SCALES + 64 * LANES).enumerate() {
        let mut whole = [x.starts[b * x.rows + row]; LANES];
        for (k, w) in block[SCALES..].as_chunks::<{ 4 * LANES }>().0.iter().enumerate() {
            add_quarter(&mut whole, w, x.words[(16 * b + k) * x.rows + row]);
        }
        add_block::<FMA>(&mut total, &whole, block, x.scales[b * x.rows + row]);
    }
    sums.copy_from_slice(&total);
}

#[inline(always)]
fn one_row_4_body<const FMA: bool>(sums: &mut [f32], x: TileInputs<'_>, row: usize, group: &[u8]) {
    let mut total = [0.0; LANES];
    for (b, block) in group.chunks_exact(SCALES + 16 * LANES).enumerate() {
        let mut whole = [x.starts[b * x.rows + row]; LANES];
        for (k, w) in block[SCALES..].as_chunks::<{ 4 * LANES }>().0.iter().enumerate() {
            let word = |half: usize| x.words[(8 * b + 2 * k + half) * x.rows + row];
            add_quarter(&mut whole, &w.map(|w| BYTES[usize::from(w & 15)]), word(0));
            add_quarter(&mut whole, &w.map(|w| BYTES[usize::from(w >> 4)]), word(1));
        }
        add_block::<FMA>(&mut total, &whole, block, x.scales[b * x.rows + row]);
    }
    sums.copy_from_slice(&total);
}

/// Adds the products of four inputs.
#[inline(always)]
fn add_quarter(whole: &mut [i32; LANES], w: &[u8; 4 * LANES], x: u32) {
    let x = x.to_le_bytes().map(|byte| i32::from(byte as i8));
    for (whole, w) in whole.iter_mut().zip(w.as_chunks::<4>().0) {
        for i in 0..4 {
            *whole += i32::from(w[i]) * x[i];
        }
    }
}

#[inline(always)]
fn add_block<const FMA: bool>(total: &mut [f32; LANES], whole: &[i32; LANES], block: &[u8], scale: f32) {
    let scales = block.as_chunks::<2>().0;
    for i in 0..LANES {
        let weight = f32::from_bits(u32::from(u16::from_le_bytes(scales[i])) << 16);
        total[i] = fma::<FMA>(whole[i] as f32, weight * scale, total[i]);
    }
}

/// # Safety
/// The lengths are as `tile_sums` and `Inputs::tile` check them for R rows.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn avx512<const R: usize, const FOUR: bool>(tile: Tile<'_>) {
    use std::arch::x86_64::*;
    let x = tile.x;
    let mut w: *const u8 = tile.group.as_ptr();
    let mut words: *const i32 = x.words.as_ptr().cast();
    let mut ahead = tile.ahead;
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    // SAFETY: 16 bytes are read.
    let codes = _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(BYTES.as_ptr().cast()) });
    let low = _mm512_set1_epi8(15);
    for block in 0..x.blocks {
        for line in 0..tile.lines {
            _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(64 * line).cast());
        }
        ahead = ahead.wrapping_add(64 * tile.lines);
        let mut whole = [[_mm512_setzero_si512(); 2]; R];
        for (row, whole) in whole.iter_mut().enumerate() {
            // SAFETY: x has R starts for each block.
            *whole = [_mm512_set1_epi32(unsafe { *x.starts.get_unchecked(block * R + row) }); 2];
        }
        // SAFETY: the block's scales are its first 64 bytes.
        let scales = unsafe { _mm512_loadu_si512(w.cast()) };
        w = w.wrapping_add(SCALES);
        // Adds the products of the four inputs of word `k` of the block.
        let add = |whole: &mut [[__m512i; 2]; R], bytes: [__m512i; 2], k: usize| {
            for (row, whole) in whole.iter_mut().enumerate() {
                // SAFETY: x has 16 (int4: 8) words of R rows for each block.
                let value = _mm512_set1_epi32(unsafe { *words.add(k * R + row) });
                whole[0] = _mm512_dpbusd_epi32(whole[0], bytes[0], value);
                whole[1] = _mm512_dpbusd_epi32(whole[1], bytes[1], value);
            }
        };
        if FOUR {
            for k in 0..4 {
                // SAFETY: 4 times 128 bytes follow the scales.
                let halves = [0, 64].map(|at| unsafe { _mm512_loadu_si512(w.add(128 * k + at).cast()) });
                let bytes = halves.map(|v| _mm512_shuffle_epi8(codes, _mm512_and_si512(v, low)));
                add(&mut whole, bytes, 2 * k);
                let upper = halves.map(|v| _mm512_and_si512(_mm512_srli_epi16::<4>(v), low));
                add(&mut whole, upper.map(|v| _mm512_shuffle_epi8(codes, v)), 2 * k + 1);
            }
            w = w.wrapping_add(16 * LANES);
            words = words.wrapping_add(8 * R);
        } else {
            for k in 0..16 {
                // SAFETY: 16 times 128 bytes follow the scales.
                let bytes = [0, 64].map(|at| unsafe { _mm512_loadu_si512(w.add(128 * k + at).cast()) });
                add(&mut whole, bytes, k);
            }
            w = w.wrapping_add(64 * LANES);
            words = words.wrapping_add(16 * R);
        }
        let wide = |v: __m256i| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(v)));
        let scales = [wide(_mm512_castsi512_si256(scales)), wide(_mm512_extracti64x4_epi64::<1>(scales))];
        for (row, (sums, whole)) in sums.iter_mut().zip(whole).enumerate() {
            // SAFETY: x has R scales for each block.
            let scale = _mm512_set1_ps(unsafe { *x.scales.get_unchecked(block * R + row) });
            for half in 0..2 {
                let weight = _mm512_mul_ps(scales[half], scale);
                sums[half] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole[half]), weight, sums[half]);
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        let to = tile.sums[row * tile.stride..].as_mut_ptr();
        // SAFETY: the sums have room for 32 numbers a row.
        unsafe {
            _mm512_storeu_ps(to, sums[0]);
            _mm512_storeu_ps(to.add(16), sums[1]);
        }
    }
}

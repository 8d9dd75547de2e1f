//! Sums of a group in [`Format::Int8`](super::Format::Int8) and [`Format::Int4`](super::Format::Int4): in each block the
//! scales `[LANES]` in bf16, then weights plus 128 in bytes, `[quarters of the inputs][LANES][4]`; of int4 the choices of
//! two quarters share a byte, the former in its lower half. The products of a block are summed as whole numbers, which no
//! order changes; blocks are added in order.

use super::inputs::TileInputs;
use super::{CODES, LANES, SCALES, Tile};
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
        return unsafe {
            match tile.x.rows {
                1 => avx512::<1, 4, FOUR>(tile),
                2 => avx512::<2, 2, FOUR>(tile),
                3 => avx512::<3, 2, FOUR>(tile),
                4 => avx512::<4, 1, FOUR>(tile),
                5 => avx512::<5, 1, FOUR>(tile),
                6 => avx512::<6, 1, FOUR>(tile),
                _ => unreachable!("no tile has so many rows"),
            }
        };
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
            add_quarter(&mut whole, w, x.words[16 * (b * x.rows + row) + k]);
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
            let word = |half: usize| x.words[8 * (b * x.rows + row) + 2 * k + half];
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
/// 64 bytes can be read.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn load(from: *const u8) -> std::arch::x86_64::__m512i {
    // SAFETY: as the caller promises.
    unsafe { std::arch::x86_64::_mm512_loadu_si512(from.cast()) }
}

/// Adds the products of four inputs of R rows, whose words lie `stride` apart.
///
/// # Safety
/// There are so many words.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn add<const R: usize>(
    whole: &mut [[std::arch::x86_64::__m512i; 2]; R],
    bytes: [std::arch::x86_64::__m512i; 2],
    words: *const i32,
    stride: usize,
) {
    use std::arch::x86_64::*;
    for (row, whole) in whole.iter_mut().enumerate() {
        // SAFETY: as the caller promises.
        let value = _mm512_set1_epi32(unsafe { *words.add(row * stride) });
        whole[0] = _mm512_dpbusd_epi32(whole[0], bytes[0], value);
        whole[1] = _mm512_dpbusd_epi32(whole[1], bytes[1], value);
    }
}

/// A block's sums of a row are made in C chains: an instruction waits four cycles for the one before it in its chain, and
/// two begin in each.
///
/// # Safety
/// The lengths are as `tile_sums` and `Inputs::tile` check them for R rows.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn avx512<const R: usize, const C: usize, const FOUR: bool>(tile: Tile<'_>) {
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
        let mut chains = [[[_mm512_setzero_si512(); 2]; R]; C];
        for (row, whole) in chains[0].iter_mut().enumerate() {
            // SAFETY: x has R starts for each block.
            *whole = [_mm512_set1_epi32(unsafe { *x.starts.get_unchecked(block * R + row) }); 2];
        }
        // SAFETY: the block's scales are its first 64 bytes.
        let scales = unsafe { _mm512_loadu_si512(w.cast()) };
        w = w.wrapping_add(SCALES);
        if FOUR {
            for pair in 0..4 {
                // SAFETY: 4 times 128 bytes follow the scales.
                let halves = unsafe { [load(w.add(128 * pair)), load(w.add(128 * pair + 64))] };
                let lower = [_mm512_and_si512(halves[0], low), _mm512_and_si512(halves[1], low)];
                let upper = [_mm512_srli_epi16::<4>(halves[0]), _mm512_srli_epi16::<4>(halves[1])];
                let upper = [_mm512_and_si512(upper[0], low), _mm512_and_si512(upper[1], low)];
                for (half, v) in [lower, upper].into_iter().enumerate() {
                    let bytes = [_mm512_shuffle_epi8(codes, v[0]), _mm512_shuffle_epi8(codes, v[1])];
                    // SAFETY: x has 8 words for each row of a block.
                    unsafe { add::<R>(&mut chains[(2 * pair + half) % C], bytes, words.add(2 * pair + half), 8) };
                }
            }
            w = w.wrapping_add(16 * LANES);
            words = words.wrapping_add(8 * R);
        } else {
            for first in (0..16).step_by(C) {
                for (chain, whole) in chains.iter_mut().enumerate() {
                    let k = first + chain;
                    // SAFETY: 16 times 128 bytes follow the scales; x has 16 words for each row of a block.
                    unsafe {
                        let bytes = [load(w.add(128 * k)), load(w.add(128 * k + 64))];
                        add::<R>(whole, bytes, words.add(k), 16);
                    }
                }
            }
            w = w.wrapping_add(64 * LANES);
            words = words.wrapping_add(16 * R);
        }
        let mut whole = chains[0];
        for chain in &chains[1..] {
            for (whole, more) in whole.iter_mut().zip(chain) {
                *whole = [_mm512_add_epi32(whole[0], more[0]), _mm512_add_epi32(whole[1], more[1])];
            }
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

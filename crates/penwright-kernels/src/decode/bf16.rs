//! Sums of a group in [`Format::Bf16`](super::Format::Bf16): `[pairs of inputs][LANES][2]`.

use super::{LANES, Tile, for_rows};
use crate::isa::{Isa, dispatched, isa};
use crate::math::fma;

pub(super) fn sums(tile: Tile<'_>) {
    #[cfg(target_arch = "x86_64")]
    if isa() >= Isa::Avx512Bf16 {
        // SAFETY: the processor has these instructions; the lengths were checked when the tile was made.
        return unsafe { for_rows!(tile.x.rows, R => avx512::<R>(tile), 1 2 3 4 5 6 7 8 9 10 11 12) };
    }
    let (rows, group) = (tile.x.rows, bytemuck::cast_slice(tile.group));
    for row in 0..rows {
        one_row(&mut tile.sums[row * tile.stride..][..LANES], &tile.x.words[row..], rows, group);
    }
}

dispatched! {
    fn one_row(sums: &mut [f32], x: &[u32], rows: usize, group: &[u32]) = one_row_body;
}

#[inline(always)]
fn one_row_body<const FMA: bool>(sums: &mut [f32], x: &[u32], rows: usize, group: &[u32]) {
    let mut total = [0.0; LANES];
    for (w, &x) in group.as_chunks::<LANES>().0.iter().zip(x.iter().step_by(rows)) {
        let [first, second] = [f32::from_bits(x << 16), f32::from_bits(x & 0xFFFF_0000)];
        for i in 0..LANES {
            total[i] = fma::<FMA>(f32::from_bits(w[i] << 16), first, total[i]);
            total[i] = fma::<FMA>(f32::from_bits(w[i] & 0xFFFF_0000), second, total[i]);
        }
    }
    sums.copy_from_slice(&total);
}

/// # Safety
/// The lengths are as `tile_sums` and `Inputs::tile` check them for R rows.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn avx512<const R: usize>(tile: Tile<'_>) {
    use std::arch::x86_64::*;
    // SAFETY: both are 64 bytes of plain bits.
    let pairs = |v: __m512i| unsafe { std::mem::transmute::<__m512i, __m512bh>(v) };
    let x = tile.x;
    let mut w: *const __m512i = tile.group.as_ptr().cast();
    let words: *const i32 = x.words.as_ptr().cast();
    let mut ahead = tile.ahead;
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    for k in 0..x.blocks {
        for line in 0..tile.lines {
            _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(64 * line).cast());
        }
        ahead = ahead.wrapping_add(64 * tile.lines);
        // SAFETY: the group has a block of 32 pairs for each pair of inputs.
        let (first, second) = unsafe { (pairs(_mm512_loadu_si512(w)), pairs(_mm512_loadu_si512(w.add(1)))) };
        w = w.wrapping_add(2);
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: x has a word of R rows for each pair.
            let value = pairs(_mm512_set1_epi32(unsafe { *words.add(k * R + row) }));
            sums[0] = _mm512_dpbf16_ps(sums[0], first, value);
            sums[1] = _mm512_dpbf16_ps(sums[1], second, value);
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

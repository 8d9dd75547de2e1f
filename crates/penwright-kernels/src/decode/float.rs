//! Sums of a group in [`Format::F32`](super::Format::F32): `[inputs][LANES]`.

use super::{LANES, Tile, for_rows};
use crate::isa::{Isa, dispatched, isa};
use crate::math::fma;

pub(super) fn sums(tile: Tile<'_>) {
    #[cfg(target_arch = "x86_64")]
    if isa() >= Isa::Avx512 {
        // SAFETY: the processor has AVX-512; the lengths were checked when the tile was made.
        return unsafe { for_rows!(tile.x.rows, R => avx512::<R>(tile), 1 2 3 4 5 6 7 8 9 10 11 12) };
    }
    let (rows, group) = (tile.x.rows, bytemuck::cast_slice(tile.group));
    for row in 0..rows {
        one_row(&mut tile.sums[row * tile.stride..][..LANES], &tile.x.words[row..], rows, group);
    }
}

dispatched! {
    fn one_row(sums: &mut [f32], x: &[u32], rows: usize, group: &[f32]) = one_row_body;
}

#[inline(always)]
fn one_row_body<const FMA: bool>(sums: &mut [f32], x: &[u32], rows: usize, group: &[f32]) {
    let mut total = [0.0; LANES];
    for (w, &x) in group.as_chunks::<LANES>().0.iter().zip(x.iter().step_by(rows)) {
        for i in 0..LANES {
            total[i] = fma::<FMA>(w[i], f32::from_bits(x), total[i]);
        }
    }
    sums.copy_from_slice(&total);
}

/// # Safety
/// The lengths are as `tile_sums` and `Inputs::tile` check them for R rows.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512<const R: usize>(tile: Tile<'_>) {
    use std::arch::x86_64::*;
    let x = tile.x;
    let mut w: *const f32 = tile.group.as_ptr().cast();
    let words: *const f32 = x.words.as_ptr().cast();
    let mut ahead = tile.ahead;
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    for k in 0..x.blocks {
        for line in 0..tile.lines {
            _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(64 * line).cast());
        }
        ahead = ahead.wrapping_add(64 * tile.lines);
        // SAFETY: the group has a block of 32 weights for each input.
        let (first, second) = unsafe { (_mm512_loadu_ps(w), _mm512_loadu_ps(w.add(16))) };
        w = w.wrapping_add(32);
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: x has a word of R rows for each input.
            let value = _mm512_set1_ps(unsafe { *words.add(k * R + row) });
            sums[0] = _mm512_fmadd_ps(first, value, sums[0]);
            sums[1] = _mm512_fmadd_ps(second, value, sums[1]);
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

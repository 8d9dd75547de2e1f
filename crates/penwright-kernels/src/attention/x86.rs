//! The passes of [`super::passes`] for bfloat16 in AVX-512 with its instructions for bfloat16: what the compiler makes
//! of the plain ones takes about twice as long. A panel is 32 queries, two vectors.

// Rows and vectors go by their number.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::mask::Strip;
use super::passes::{Columns, Gradients};
use crate::bf16::{Bf16, Element};
use crate::matmul::Matrix;
use crate::parts::BlockMut;

/// Queries of a panel.
pub(super) const WIDTH: usize = 32;

/// Pairs of a vector's lower and upper half.
const PAIRS: [u16; 32] = {
    let (mut index, mut i) = ([0; 32], 0);
    while i < 32 {
        index[i as usize] = i / 2 + i % 2 * 16;
        i += 1;
    }
    index
};

/// `2^t` for `t ≤ 127` to 3e-6, in the lanes of a mask.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn power(mask: __mmask16, t: __m512) -> __m512 {
    // What is left of rounding down, and the polynomial of degree 4 of the least relative error for it.
    let r = _mm512_reduce_ps::<1>(t);
    let mut p = _mm512_set1_ps(1.353_416_8e-2);
    for coefficient in [5.201_146e-2, 2.414_427_5e-1, 6.930_038e-1, 1.000_002_6] {
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(coefficient));
    }
    _mm512_maskz_scalef_ps(mask, p, t)
}

/// Two vectors as bfloat16, one after the other.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn narrow(lower: __m512, upper: __m512) -> __m512i {
    // SAFETY: both are 512 bits without meaning of their own.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(upper, lower)) }
}

/// The lanes of both vectors that see a key, number `key` of the strip: those from `key − first` on.
#[inline]
fn seeing(key: usize, first: usize) -> [__mmask16; 2] {
    let lanes = u32::MAX.unbounded_shl(key.saturating_sub(first) as u32);
    [lanes as u16, (lanes >> 16) as u16]
}

/// Both vectors of a row of a strip.
///
/// # Safety
/// The row can be read.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(strip: *const f32, row: usize) -> [__m512; 2] {
    // SAFETY: promised by the caller.
    unsafe { [_mm512_loadu_ps(strip.add(row * WIDTH)), _mm512_loadu_ps(strip.add(row * WIDTH + 16))] }
}

/// The random numbers of a mask, key by key: eight for 32 queries.
struct Numbers {
    state: __m512i,
    step: __m512i,
    threshold: __m512i,
    factor: __m512,
}

impl Numbers {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    fn of(strip: Strip) -> Self {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let lanes = _mm512_setr_epi64(1, 2, 3, 4, 5, 6, 7, 8);
        let numbers = _mm512_add_epi64(_mm512_set1_epi64(strip.first.cast_signed()), lanes);
        let state = _mm512_add_epi64(
            _mm512_set1_epi64(strip.key.cast_signed()),
            _mm512_mullo_epi64(numbers, _mm512_set1_epi64(GOLDEN.cast_signed())),
        );
        Numbers {
            state,
            step: _mm512_set1_epi64(strip.step.wrapping_mul(GOLDEN).cast_signed()),
            threshold: _mm512_set1_epi16(strip.threshold.cast_signed()),
            factor: _mm512_set1_ps(strip.factor),
        }
    }

    /// The lanes of both vectors that are kept; [`crate::random`] of a key's numbers.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    fn next_row(&mut self) -> [__mmask16; 2] {
        let factor = |c: u64| _mm512_set1_epi64(c.cast_signed());
        let z = self.state;
        self.state = _mm512_add_epi64(z, self.step);
        let z = _mm512_xor_si512(z, _mm512_srli_epi64::<30>(z));
        let z = _mm512_mullo_epi64(z, factor(0xBF58_476D_1CE4_E5B9));
        let z = _mm512_xor_si512(z, _mm512_srli_epi64::<27>(z));
        let z = _mm512_mullo_epi64(z, factor(0x94D0_49BB_1331_11EB));
        let z = _mm512_xor_si512(z, _mm512_srli_epi64::<31>(z));
        let kept = _mm512_cmpge_epu16_mask(z, self.threshold);
        [kept as u16, (kept >> 16) as u16]
    }
}

/// [`super::passes::softmax`] without the logarithms: the maxima, scaled, in base 2, and the sums.
///
/// # Safety
/// The processor has the instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub(super) unsafe fn softmax(
    first: usize,
    scores: &[f32],
    strip: Option<Strip>,
    scale: f32,
    weights: &mut [Bf16],
    out: &mut [[f32; WIDTH]; 2],
) {
    let keys = scores.len() / WIDTH;
    assert!(weights.len() >= keys.div_ceil(2) * 2 * WIDTH);
    let scores = scores.as_ptr();
    let mut numbers = strip.map(|strip| Numbers::of(strip));
    let mut max = [_mm512_set1_ps(f32::NEG_INFINITY); 2];
    for key in 0..keys {
        // SAFETY: there are so many rows.
        let (row, mask) = (unsafe { load(scores, key) }, seeing(key, first));
        for v in 0..2 {
            max[v] = _mm512_mask_max_ps(max[v], mask[v], max[v], row[v]);
        }
    }
    let base = _mm512_set1_ps(scale * std::f32::consts::LOG2_E);
    // SAFETY: the indices are as long as a vector.
    let pairs = unsafe { _mm512_loadu_si512(PAIRS.as_ptr().cast()) };
    let max = [_mm512_mul_ps(max[0], base), _mm512_mul_ps(max[1], base)];
    let mut sums = [_mm512_setzero_ps(); 2];
    for key in (0..keys).step_by(2) {
        let mut two = [[_mm512_setzero_ps(); 2]; 2];
        for i in 0..(keys - key).min(2) {
            // SAFETY: there are so many rows.
            let (row, mask) = (unsafe { load(scores, key + i) }, seeing(key + i, first));
            for v in 0..2 {
                two[i][v] = power(mask[v], _mm512_fmsub_ps(row[v], base, max[v]));
                sums[v] = _mm512_add_ps(sums[v], two[i][v]);
            }
            if let Some(numbers) = &mut numbers {
                let kept = numbers.next_row();
                for v in 0..2 {
                    two[i][v] = _mm512_maskz_mul_ps(kept[v], two[i][v], numbers.factor);
                }
            }
        }
        for v in 0..2 {
            let words = _mm512_permutexvar_epi16(pairs, narrow(two[0][v], two[1][v]));
            // SAFETY: the weights have a group of two rows for these keys, 2 · 32 elements.
            unsafe { _mm512_storeu_si512(weights.as_mut_ptr().add(key * WIDTH + 32 * v).cast(), words) }
        }
    }
    for (out, values) in out.iter_mut().zip([max, sums]) {
        for v in 0..2 {
            // SAFETY: 32 values.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr().add(16 * v), values[v]) }
        }
    }
}

/// [`super::passes::gradients`].
///
/// # Safety
/// The processor has the instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub(super) unsafe fn gradients(
    first: usize,
    scores: &[f32],
    dscores: &[f32],
    strip: Option<Strip>,
    scale: f32,
    columns: Columns<'_>,
    to: Gradients<'_, Bf16>,
) {
    let (keys, stride) = (scores.len() / WIDTH, to.stride);
    assert!(keys > 0 && dscores.len() >= keys * WIDTH);
    assert!(columns.logs.len() >= WIDTH && columns.deltas.len() >= WIDTH);
    let last = (keys - 1) * stride + WIDTH;
    assert!(to.weights.len() >= last && to.ds.len() >= last && to.grouped.len() >= keys.div_ceil(2) * 2 * WIDTH);
    let (scores, dscores) = (scores.as_ptr(), dscores.as_ptr());
    let mut numbers = strip.map(|strip| Numbers::of(strip));
    let (scale, base) = (_mm512_set1_ps(scale), _mm512_set1_ps(scale * std::f32::consts::LOG2_E));
    // SAFETY: 32 of each, as asserted; the indices are as long as a vector.
    let (logs, deltas, pairs) = unsafe {
        (load(columns.logs.as_ptr(), 0), load(columns.deltas.as_ptr(), 0), _mm512_loadu_si512(PAIRS.as_ptr().cast()))
    };
    for key in (0..keys).step_by(2) {
        let mut two = [[_mm512_setzero_ps(); 2]; 2];
        for i in 0..(keys - key).min(2) {
            // SAFETY: there are so many rows.
            let (row, dp) = unsafe { (load(scores, key + i), load(dscores, key + i)) };
            let mask = seeing(key + i, first);
            let (mut weights, mut slopes) = ([_mm512_setzero_ps(); 2], [scale; 2]);
            for v in 0..2 {
                weights[v] = power(mask[v], _mm512_fmsub_ps(row[v], base, logs[v]));
            }
            let p = weights;
            if let Some(numbers) = &mut numbers {
                let kept = numbers.next_row();
                for v in 0..2 {
                    weights[v] = _mm512_maskz_mul_ps(kept[v], p[v], numbers.factor);
                    slopes[v] = _mm512_maskz_mul_ps(kept[v], scale, numbers.factor);
                }
            }
            for v in 0..2 {
                two[i][v] = _mm512_mul_ps(p[v], _mm512_fmsub_ps(dp[v], slopes[v], deltas[v]));
            }
            let at = (key + i) * stride;
            // SAFETY: both have 32 elements there, as asserted.
            unsafe {
                _mm512_storeu_si512(to.weights.as_mut_ptr().add(at).cast(), narrow(weights[0], weights[1]));
                _mm512_storeu_si512(to.ds.as_mut_ptr().add(at).cast(), narrow(two[i][0], two[i][1]));
            }
        }
        for v in 0..2 {
            let words = _mm512_permutexvar_epi16(pairs, narrow(two[0][v], two[1][v]));
            // SAFETY: there is a group of two rows for these keys, 2 · 32 elements.
            unsafe { _mm512_storeu_si512(to.grouped.as_mut_ptr().add(key * WIDTH + 32 * v).cast(), words) }
        }
    }
}

/// [`super::passes::dots`].
///
/// # Safety
/// The processor has the instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub(super) unsafe fn dots<E: Element>(x: Matrix<'_, E>, y: Matrix<'_, E>, scale: f32, to: &mut [f32]) {
    for (i, to) in to.iter_mut().enumerate().take(x.rows) {
        let (x, y): (&[Bf16], &[Bf16]) = (bytemuck::cast_slice(x.row(i)), bytemuck::cast_slice(y.row(i)));
        let len = x.len().min(y.len());
        let mut sum = _mm512_setzero_ps();
        for at in (0..len).step_by(WIDTH) {
            let mask = first_lanes(len - at);
            // SAFETY: the lanes of the mask lie in both slices; vectors are 512 bits without meaning of their own.
            unsafe {
                let x = _mm512_maskz_loadu_epi16(mask, x.as_ptr().add(at).cast());
                let y = _mm512_maskz_loadu_epi16(mask, y.as_ptr().add(at).cast());
                let pairs = std::mem::transmute::<__m512i, __m512bh>;
                sum = _mm512_dpbf16_ps(sum, pairs(x), pairs(y));
            }
        }
        *to = scale * _mm512_reduce_add_ps(sum);
    }
}

/// [`super::passes::finish`].
///
/// # Safety
/// The processor has the instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub(super) unsafe fn finish<E: Element>(sums: &[f32], stride: usize, factors: &[f32], to: &mut BlockMut<'_, E>) {
    for i in 0..to.rows() {
        let [to] = to.row(i);
        let (to, sums): (&mut [Bf16], _) = (bytemuck::cast_slice_mut(to), &sums[i * stride..]);
        assert!(sums.len() >= to.len().next_multiple_of(WIDTH));
        let factor = _mm512_set1_ps(factors.get(i).copied().unwrap_or(1.0));
        for at in (0..to.len()).step_by(WIDTH) {
            // SAFETY: whole vectors of sums, as asserted, and the lanes of the mask lie in the slice.
            unsafe {
                let row = load(sums.as_ptr().add(at), 0);
                let values = narrow(_mm512_mul_ps(row[0], factor), _mm512_mul_ps(row[1], factor));
                _mm512_mask_storeu_epi16(to.as_mut_ptr().add(at).cast(), first_lanes(to.len() - at), values);
            }
        }
    }
}

#[inline]
fn first_lanes(number: usize) -> __mmask32 {
    u32::MAX.unbounded_shr(32u32.saturating_sub(number as u32))
}

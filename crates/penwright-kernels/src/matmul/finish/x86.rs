//! What becomes of a tile of whole panels, in one pass with the bfloat16 instructions.

use std::arch::x86_64::*;

use super::Goal;
use crate::bf16::{Bf16, Element};
use crate::isa::{Isa, isa};
use crate::tile::MAX_PANEL;

/// Lanes of a vector: half a panel.
const LANES: usize = MAX_PANEL / 2;

/// A tile's sums, rows `row` apart, and where its first element lies in outputs whose rows lie `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) sums: *const f32,
    pub(super) row: usize,
    pub(super) rows: usize,
    /// Of the first element, and its column, which is that of a bias.
    pub(super) at: usize,
    pub(super) first: usize,
    pub(super) stride: usize,
}

/// Takes a tile of a whole panel to its goal, if this is for the processor and the kind of number.
///
/// # Safety
/// The sums can be read, the goal has the tile's rows and columns, which are this thread's alone, and the bias its
/// columns.
#[inline(always)]
pub(super) unsafe fn take<E: Element>(goal: Goal<E>, tile: Place) -> bool {
    if E::GROUP != 2 || isa() != Isa::Avx512Bf16 {
        return false;
    }
    let bias_of = |bias: *const f32| if bias.is_null() { bias } else { bias.wrapping_add(tile.first) };
    // SAFETY: the processor has the instructions; E, of which two are multiplied at once, is `Bf16`; the rest is promised.
    unsafe {
        match goal {
            Goal::Rounded { c, bias } => rounded(tile, c.wrapping_add(tile.at).cast(), bias_of(bias)),
            Goal::Gelu { before, after, bias } => {
                let (before, after) = (before.wrapping_add(tile.at).cast(), after.wrapping_add(tile.at).cast());
                gelu(tile, before, after, bias_of(bias));
            }
            Goal::GeluBackward { d, before } => {
                gelu_backward(tile, d.wrapping_add(tile.at).cast(), before.wrapping_add(tile.at).cast());
            }
            Goal::Residual { c, x, bias, dropout: None } => {
                residual(tile, c.wrapping_add(tile.at), x.wrapping_add(tile.at), bias_of(bias));
            }
            Goal::Residual { .. } | Goal::Sums { .. } => return false,
        }
    }
    true
}

// SAFETY of all below: as `take` promises.

macro_rules! pass {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? $body:block) => {
        $(#[$doc])*
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
        unsafe fn $name($($arg: $ty),*) $(-> $ret)? {
            // SAFETY: see above.
            unsafe { $body }
        }
    };
}

/// Both halves of a bias, or zeros.
#[inline(always)]
unsafe fn bias_halves(bias: *const f32) -> [__m512; 2] {
    // SAFETY: see above.
    unsafe {
        if bias.is_null() {
            [_mm512_setzero_ps(); 2]
        } else {
            [_mm512_loadu_ps(bias), _mm512_loadu_ps(bias.wrapping_add(LANES))]
        }
    }
}

/// Both halves of row `i`, plus the bias.
#[inline(always)]
unsafe fn row_of(tile: Place, i: usize, bias: [__m512; 2]) -> [__m512; 2] {
    let row = tile.sums.wrapping_add(i * tile.row);
    // SAFETY: see above.
    unsafe {
        let (low, high) = (_mm512_loadu_ps(row), _mm512_loadu_ps(row.wrapping_add(LANES)));
        [_mm512_add_ps(low, bias[0]), _mm512_add_ps(high, bias[1])]
    }
}

/// Rounded to the nearest bfloat16.
#[inline(always)]
unsafe fn narrow(x: [__m512; 2]) -> __m512i {
    // SAFETY: see above; both are 64 bytes.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(x[1], x[0])) }
}

/// And back.
#[inline(always)]
unsafe fn widen(x: __m512i) -> [__m512; 2] {
    // SAFETY: see above.
    unsafe {
        let low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(x));
        let high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(x));
        [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(low)), _mm512_castsi512_ps(_mm512_slli_epi32::<16>(high))]
    }
}

pass! {
    fn rounded(tile: Place, c: *mut Bf16, bias: *const f32) {
        let bias = bias_halves(bias);
        for i in 0..tile.rows {
            _mm512_storeu_si512(c.wrapping_add(i * tile.stride).cast(), narrow(row_of(tile, i, bias)));
        }
    }
}

pass! {
    fn residual(tile: Place, c: *mut f32, x: *const f32, bias: *const f32) {
        let bias = bias_halves(bias);
        for i in 0..tile.rows {
            let (sums, at) = (row_of(tile, i, bias), i * tile.stride);
            for (half, sums) in sums.into_iter().enumerate() {
                let at = at + half * LANES;
                _mm512_storeu_ps(c.wrapping_add(at), _mm512_add_ps(sums, _mm512_loadu_ps(x.wrapping_add(at))));
            }
        }
    }
}

pass! {
    fn gelu(tile: Place, before: *mut Bf16, after: *mut Bf16, bias: *const f32) {
        let bias = bias_halves(bias);
        for i in 0..tile.rows {
            let near = narrow(row_of(tile, i, bias));
            _mm512_storeu_si512(before.wrapping_add(i * tile.stride).cast(), near);
            // Of the rounded values, which are what the backward knows.
            let [x, y] = widen(near);
            let values = [_mm512_mul_ps(x, gate(x)), _mm512_mul_ps(y, gate(y))];
            _mm512_storeu_si512(after.wrapping_add(i * tile.stride).cast(), narrow(values));
        }
    }
}

pass! {
    fn gelu_backward(tile: Place, d: *mut Bf16, before: *const Bf16) {
        for i in 0..tile.rows {
            let [x, y] = widen(_mm512_loadu_si512(before.wrapping_add(i * tile.stride).cast()));
            let sums = row_of(tile, i, [_mm512_setzero_ps(); 2]);
            let values = [_mm512_mul_ps(sums[0], slope(x)), _mm512_mul_ps(sums[1], slope(y))];
            _mm512_storeu_si512(d.wrapping_add(i * tile.stride).cast(), narrow(values));
        }
    }
}

/// `2 √(2/π)`, and GELU's cubic term.
const TWICE: f32 = 1.595_769;
const CUBIC: f32 = 0.044_715;

/// Of a polynomial for 2^r, r from 0 to 1, highest power first: through the Chebyshev points, to 4e-6.
const COEFFICIENTS: [f32; 5] = [1.367_031e-2, 5.174_5e-2, 2.416_043_6e-1, 6.929_729_3e-1, 1.000_003_5];

/// GELU as `x · σ(2 √(2/π) (x + 0.044715 x³))`, which is its tanh form: the σ, to 1e-4 relative, which is a fortieth
/// of what the rounding to bfloat16 changes.
#[inline(always)]
unsafe fn gate(x: __m512) -> __m512 {
    const LINEAR: f32 = -TWICE * std::f32::consts::LOG2_E;
    // SAFETY: see above.
    unsafe {
        let polynomial = _mm512_fmadd_ps(_mm512_set1_ps(LINEAR * CUBIC), _mm512_mul_ps(x, x), _mm512_set1_ps(LINEAR));
        let t = _mm512_mul_ps(x, polynomial);
        // 2^t: a polynomial of what t is above its floor, to 1e-5, and the floor as the exponent.
        let r = _mm512_reduce_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(t);
        let mut p = _mm512_set1_ps(COEFFICIENTS[0]);
        for coefficient in &COEFFICIENTS[1..] {
            p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(*coefficient));
        }
        // An infinite power has the reciprocal 0.
        _mm512_rcp14_ps(_mm512_add_ps(_mm512_scalef_ps(p, t), _mm512_set1_ps(1.0)))
    }
}

/// GELU's derivative, `s + x s (1 − s) z'` with s and its argument z from [`gate`].
#[inline(always)]
unsafe fn slope(x: __m512) -> __m512 {
    // SAFETY: see above.
    unsafe {
        let s = gate(x);
        let inner = _mm512_fmadd_ps(_mm512_set1_ps(3.0 * CUBIC * TWICE), _mm512_mul_ps(x, x), _mm512_set1_ps(TWICE));
        let rest = _mm512_fnmadd_ps(s, s, s);
        _mm512_fmadd_ps(_mm512_mul_ps(x, inner), rest, s)
    }
}
